"""The odds of a chord's onset, by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.following import odds


def weighed(  # noqa: PLR0917
    nats: np.ndarray, pitch: list[int], weight: np.ndarray, age: int = 4, templates: float = 0.0, strength: float = 0.0
) -> float:
    size = sum(0 <= p < nats.shape[1] for p in pitch)
    return odds.weighed(age, size, templates, strength, nats, weight, np.array(pitch, np.int32), 0, len(pitch))


def only(column: int) -> np.ndarray:
    return np.eye(8)[column]


def test_each_word_is_what_its_column_says() -> None:
    nats = np.zeros((odds.N_AGES, 88))
    nats[4, [10, 20, 30]] = 1.0, -2.0, 4.0
    said = [weighed(nats, [10, 20, 30], only(i), templates=2.5, strength=0.7) for i in range(8)]
    np.testing.assert_allclose(said, [2.5, 3.0, 1.0, -2.0, 4.0, 0.7, np.log(3.0), 1.0])


def test_pitches_beyond_the_network_say_nothing() -> None:
    nats = np.ones((odds.N_AGES, 88))
    for column in (odds.SUM, odds.MEAN, odds.LOWEST, odds.HIGHEST):
        assert weighed(nats, [-1, 88], only(column)) == 0.0
    assert weighed(nats, [-1, 5], only(odds.SUM)) == 1.0


@settings(deadline=None, max_examples=50)
@given(st.floats(-1e3, 1e3), st.floats(0.0, 1.0), st.integers(0, odds.N_AGES - 1))
def test_odds_are_limited(said: float, strength: float, age: int) -> None:
    nats = np.full((odds.N_AGES, 88), said)
    assert abs(weighed(nats, [40, 44], odds.WEIGHTS[age], age, said, strength)) <= odds.LIMIT


def test_the_more_the_network_hears_the_likelier() -> None:
    quiet, loud = (np.full((odds.N_AGES, 88), x) for x in (-3.0, 3.0))
    for age in range(2, odds.N_AGES):
        assert weighed(quiet, [40, 44], odds.WEIGHTS[age], age) < weighed(loud, [40, 44], odds.WEIGHTS[age], age)


def test_a_strike_within_an_ornament_is_not_held_against_it() -> None:
    n_rows, n = 16, 20
    zeros = np.zeros
    out = zeros((2, odds.N_AGES + 1))
    odds.of_events(
        n, np.array([0, 1], np.int32), np.array([0, 1], np.int32), zeros((2, 107), np.float32), np.array([0, 1, 2], np.int32),
        np.array([40, 40], np.int32), np.array([False, True]), zeros((n_rows, 107), np.float32), np.ones(n_rows),
        zeros((2, odds.N_AGES, 88)), odds.TEMPLATE, odds.WEIGHTS, np.full(2, odds.NEVER), zeros((2, n_rows), np.float32),
        zeros((2, odds.N_AGES)), out,
    )  # fmt: skip
    assert out[:, odds.N_AGES].tolist() == [-odds.UNEXPLAINED, 0.0]
