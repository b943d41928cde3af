import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.dsp.masks import N_SETTINGS, Masks, shares
from rtserver.errors import SpecError

MAGNITUDES = st.one_of(st.just(0.0), st.floats(1e-9, 1e9))
MARGINS = st.one_of(st.just(1.0), st.floats(1.0, 1e6))
EXPONENTS = st.one_of(st.sampled_from([1.0, 2.0]), st.floats(0.1, 50.0))
ANY = st.builds(Masks, st.sampled_from(["soft", "hard"]), EXPONENTS, MARGINS, MARGINS)


def shared(masks: Masks, h: float, p: float) -> tuple[float, float]:
    """The shares of one bin whose medians are the magnitudes h and p."""
    told = np.zeros(N_SETTINGS, np.float32)
    masks.write(told)
    medians = np.array([h * h, p * p], np.float32)
    shares(medians, 0, 1, 1, told)
    return float(medians[0]), float(medians[1])


@settings(max_examples=300, deadline=None)
@given(ANY, MAGNITUDES, MAGNITUDES)
def test_shares_are_never_negative_and_never_more_than_one_together(masks: Masks, h: float, p: float) -> None:
    a, b = shared(masks, h, p)
    assert a >= 0.0
    assert b >= 0.0
    assert a + b <= 1.0 + 1e-6


@settings(max_examples=200, deadline=None)
@given(st.builds(Masks, st.sampled_from(["soft", "hard"]), EXPONENTS), MAGNITUDES, MAGNITUDES)
def test_without_margins_shares_sum_to_one(masks: Masks, h: float, p: float) -> None:
    assert sum(shared(masks, h, p)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize(("margin_harmonic", "margin_percussive"), [(1.0, 1.0), (2.0, 1.0), (1.0, 3.0), (1.5, 4.0)])
def test_soft_shares_are_the_definition(exponent: float, margin_harmonic: float, margin_percussive: float) -> None:
    h, p = 0.3, 0.2
    expected = (
        h**exponent / (h**exponent + (margin_harmonic * p) ** exponent),
        p**exponent / (p**exponent + (margin_percussive * h) ** exponent),
    )
    assert shared(Masks("soft", exponent, margin_harmonic, margin_percussive), h, p) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("h", "p", "margins", "expected"),
    [
        (2.0, 1.0, (1.0, 1.0), (1.0, 0.0)),
        (1.0, 2.0, (1.0, 1.0), (0.0, 1.0)),
        (1.0, 1.0, (1.0, 1.0), (0.0, 1.0)),  # what is equally strong is percussive
        (2.0, 1.0, (3.0, 1.0), (0.0, 0.0)),
        (4.0, 1.0, (3.0, 1.0), (1.0, 0.0)),
        (1.0, 2.0, (1.0, 3.0), (0.0, 0.0)),
        (1.0, 3.0, (1.0, 3.0), (0.0, 1.0)),
    ],
)
def test_hard_shares_are_all_or_nothing(h: float, p: float, margins: tuple[float, float], expected: tuple[float, float]) -> None:
    assert shared(Masks("hard", 2.0, *margins), h, p) == expected


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(1.0, 4.0), st.floats(2.0, 1e3))
def test_a_large_exponent_comes_close_to_the_hard_mask(p: float, margin: float, factor: float) -> None:
    for h in (factor * margin * p, margin * p / factor):
        soft, hard = (shared(Masks(mask, 40.0, margin), h, p)[0] for mask in ("soft", "hard"))
        assert soft == pytest.approx(hard, abs=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [{"mask": "medium"}, {"exponent": 0.0}, {"exponent": np.nan}, {"margin_harmonic": 0.9}, {"margin_percussive": np.inf}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_masks_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(SpecError, match="masks expect"):
        Masks(**wrong)
