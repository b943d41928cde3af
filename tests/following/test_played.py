"""What struck keys say of chords: as much as the formula says, and no more than it says of one that was played well."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.following.chords import Chords, chords_of
from rtserver.following.played import ADDED, CERTAIN, LEFT_OUT, LIMIT, LONG_AGO, N_AGES, SILENT, SPREAD, Played

from .music import score_of

CHORDS: Chords = chords_of(score_of([(0, 1, 60), (1, 1, 62), (1, 1, 65), (1, 1, 69), (2, 1, 60), (2, 1, 64), (3, 1, 71)]).events())
Hops = list[tuple[int, ...]]


def total(pitches: npt.NDArray[np.int32], since: npt.NDArray[np.int64], age: int) -> float:
    """The nats for a chord that began `age` hops ago, from the description in words."""
    nats, first = 0.0, 0.0
    for pitch in pitches:
        hops = int(since[pitch])
        later = 1.0 - SPREAD[: age + 1].sum() + (SPREAD[age - hops] * CERTAIN if hops <= age else 0.0)
        later = LEFT_OUT + (1.0 - LEFT_OUT) * later
        later /= 1.0 + ADDED * later
        begins = SILENT + (CERTAIN if hops == age else 0.0)
        begins /= 1.0 + ADDED * begins
        nats += np.log(later)
        first += begins / later
    return float(np.clip(nats + np.log(first / len(pitches)), -LIMIT, LIMIT))


def run(hops: Hops) -> tuple[Played, list[npt.NDArray[np.float64]]]:
    played = Played(CHORDS)
    said: list[npt.NDArray[np.float64]] = []
    for struck in hops:
        played.process(struck)
        said.append(played.evidence.copy())
    return played, said


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from([60, 62, 64, 65, 69, 71, 40]), max_size=3).map(tuple), min_size=N_AGES + 1, max_size=60))
def test_what_the_hops_say_of_an_age_adds_up_to_the_formula(hops: Hops) -> None:
    played, said = run(hops)
    since = np.full(128, LONG_AGO)
    for n, struck in enumerate(hops):
        for pitch in struck:
            since[pitch] = len(hops) - 1 - n
    for u in range(len(CHORDS)):
        pitches = CHORDS.pitch[CHORDS.start[u] : CHORDS.start[u + 1]]
        for age in range(N_AGES):
            told = sum(said[len(hops) - 1 - age + i][u, i] for i in range(age + 1))
            assert abs(told - total(pitches, since, age)) < 1e-9
        assert abs(played.recent[u, 3] - total(pitches, since, 3)) < 1e-9
    assert not np.any(said[-1][:, N_AGES])


def test_the_chord_that_is_struck_is_believed_most() -> None:
    played, _ = run([(), (62, 65, 69)])
    assert np.argmax(played.evidence[:, 0]) == CHORDS.chord[1]


def test_a_chord_may_be_spread() -> None:
    at_once, _ = run([(), (62, 65, 69), (), (), ()])
    spread, _ = run([(), (62,), (65,), (), (69,)])
    assert spread.recent[CHORDS.chord[1], 3] > 0.8 * at_once.recent[CHORDS.chord[1], 3] > 5.0
    assert np.argmax(spread.recent[:, 3]) == CHORDS.chord[1]


def test_a_key_that_is_in_no_chord_says_nothing() -> None:
    nothing, wrong = Played(CHORDS), Played(CHORDS)
    for n in range(20):
        nothing.process(())
        wrong.process((41,) if n == 5 else ())
        assert np.array_equal(nothing.evidence, wrong.evidence)
        assert wrong.onset == (5 <= n < 9)


def test_after_a_while_a_key_is_forgotten() -> None:
    silent, _ = run([()])
    played, said = run([(60, 62, 64, 71), *[()] * (N_AGES + 4)])
    assert np.array_equal(said[-1], silent.evidence)
    assert np.allclose(played.recent, silent.recent)


def test_reset_is_as_fresh() -> None:
    played, _ = run([(), (60, 64), (62,)])
    played.reset()
    fresh = Played(CHORDS)
    for struck in [(), (60,), (64,), ()]:
        played.process(struck)
        fresh.process(struck)
        assert np.array_equal(played.evidence, fresh.evidence)
        assert np.array_equal(played.recent, fresh.recent)
