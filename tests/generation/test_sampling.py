"""One throw of the dice: within the mask, with the odds of the logits, among the likeliest."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rtserver.generation.sampling import draw

FOUR = np.log(np.array([0.5, 0.3, 0.15, 0.05])).astype(np.float32)
choices = st.integers(1, 128).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.float32, n, elements=st.floats(-30.0, 30.0, width=32)),
        hnp.arrays(np.bool_, n).filter(lambda mask: bool(mask.any())),
    )
)
thrown = st.floats(0.0, 0.999999)


@given(thrown, st.floats(0.05, 1.0))
def test_the_nucleus_holds_the_likeliest_only(u: float, top_p: float) -> None:
    chosen = draw(FOUR, np.ones(4, bool), 1.0, top_p, u)
    assert np.exp(FOUR[:chosen]).sum() < top_p + 1e-6


def test_draws_have_the_odds_of_the_logits() -> None:
    p = np.array([0.1, 0.6, 0.3])
    u = (np.arange(1000) + 0.5) / 1000
    counts = np.bincount([draw(np.log(p).astype(np.float32), np.ones(3, bool), 1.0, 1.0, x) for x in u], minlength=3)
    np.testing.assert_allclose(counts / 1000, p, atol=0.002)


@given(choices, st.floats(0.0, 5.0), st.floats(0.0, 1.0), thrown)
def test_what_is_not_allowed_is_never_drawn(given_: tuple[np.ndarray, np.ndarray], temperature: float, top_p: float, u: float) -> None:
    logits, mask = given_
    assert mask[draw(logits, mask, temperature, top_p, u)]


@given(choices)
def test_without_temperature_it_is_the_likeliest(given_: tuple[np.ndarray, np.ndarray]) -> None:
    logits, mask = given_
    allowed = np.flatnonzero(mask)
    assert draw(logits, mask, 0.0, 1.0, 0.5) == allowed[np.argmax(logits[allowed])]


@given(choices, st.floats(0.1, 5.0), st.floats(0.05, 1.0), thrown)
def test_it_is_the_choice_at_which_the_sorted_odds_pass_the_throw(
    given_: tuple[np.ndarray, np.ndarray], temperature: float, top_p: float, u: float
) -> None:
    logits, mask = given_
    allowed = np.flatnonzero(mask)
    x = logits[allowed].astype(np.float64)
    p = np.exp((x - x.max()) / temperature)
    order = np.argsort(-p, kind="stable")
    mass = np.cumsum(p[order])
    place = int(np.flatnonzero(allowed[order] == draw(logits, mask, temperature, top_p, u))[0])
    last = min(int(np.count_nonzero(mass < top_p * mass[-1])), len(mass) - 1)
    near = 1e-9 * mass[-1]
    assert place <= last or mass[place - 1] <= top_p * mass[-1] + near
    assert mass[place] >= u * mass[min(last, place)] - near
    assert place == 0 or mass[place - 1] <= u * mass[last] + near


def test_what_is_not_finite_is_told() -> None:
    for wrong in (np.nan, np.inf, -np.inf):
        logits = np.array([wrong, wrong, 0.0], np.float32)
        assert draw(logits, np.array([True, True, False]), 1.0, 1.0, 0.5) == -1
    assert draw(np.array([np.nan, 0.0], np.float32), np.array([False, True]), 1.0, 1.0, 0.5) == 1
