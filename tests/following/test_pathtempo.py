"""The tempo of paths that are known."""

from __future__ import annotations

import numpy as np
import pytest

from rtserver.following.pathtempo import FASTEST, relative_tempo

SIZE = 1024
EVERY = 25  # frames from one onset to the next
N_FRAMES = 6000


def tempo_of(places: np.ndarray, rate: float = 1.0, every: int = EVERY) -> float:
    """What is said after the path has gone through `places`, one a hop, in a score with an onset each `every` frames."""
    order = np.arange(N_FRAMES, dtype=np.int32)
    history = np.zeros(SIZE)
    for t, place in enumerate(places):
        history[t % SIZE] = place
    return relative_tempo(history, len(places), order, order // every * every, rate)


@pytest.mark.parametrize("rate", [0.5, 1.0, 1.7])
def test_a_straight_path_has_its_slope_for_tempo(rate: float) -> None:
    assert tempo_of(rate * np.arange(1500), rate) == pytest.approx(rate, rel=0.03)


def test_between_onsets_the_path_is_straightened() -> None:
    """It waits on every onset and makes up for it at once before the next: the tempo knows nothing of it."""
    waiting = np.concatenate([np.full(EVERY, EVERY * k) for k in range(40)]).astype(float)
    assert tempo_of(waiting) == pytest.approx(1.0, rel=0.03)


def test_the_last_second_says_nothing() -> None:
    steady, hurried = np.arange(1000.0), np.arange(1000.0)
    hurried[-99:] += 2.0 * np.arange(99)
    assert tempo_of(hurried) < 1.25  # 3 in the last second; the straightened path reaches a little into it
    assert tempo_of(steady) == pytest.approx(1.0, rel=0.02)


def test_the_latest_onsets_count_for_more() -> None:
    slower_late = np.concatenate((np.arange(0, 300), np.arange(300, 550, 0.5)))
    slower_early = np.concatenate((np.arange(0, 250, 0.5), np.arange(250, 550)))
    assert tempo_of(slower_late, 0.5) < 0.75 < tempo_of(slower_early, 1.0)


def test_with_too_few_onsets_the_rate_stays() -> None:
    assert tempo_of(np.arange(50.0), 1.3) == 1.3
    assert tempo_of(np.arange(500.0), 1.3, every=N_FRAMES) == 1.3


def test_what_is_no_tempo_is_limited() -> None:
    assert tempo_of(5.0 * np.arange(600), 2.9) == FASTEST
