"""Cues fire once at their places, whatever the position does on its way there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.following.cues import HELD, PASSED, WAITING, Cues, Fired, Mark

TEMPO = 120.0
STEP = 0.02  # quarters a hop at this tempo


def cues(*marks: Mark) -> Cues:
    n = len(marks)
    return Cues(marks, np.zeros(n, np.int8), np.ones(n, np.int8))


def go_along(subject: Cues, quarters: list[float]) -> list[tuple[int, float, str]]:
    """(index, position, how) of all that fires."""
    return [(fired.number, quarter, fired.how) for quarter in quarters for fired in subject.take(quarter, TEMPO)]


def walk(begin: float, end: float) -> list[float]:
    return list(np.arange(begin, end, STEP))


def test_a_cue_fires_at_the_first_position_at_its_place() -> None:
    ((index, quarter, how),) = go_along(cues(Mark(4.0)), walk(0.0, 8.0))
    assert (index, how) == (0, "place")
    assert 4.0 <= quarter < 4.0 + STEP


def test_a_cue_at_the_beginning_fires_although_the_first_position_lies_beyond_it() -> None:
    assert [index for index, _, _ in go_along(cues(Mark(0.0)), walk(0.3, 2.0))] == [0]


def test_a_cue_with_a_lead_fires_as_long_before_and_says_how_long() -> None:
    subject = cues(Mark(4.0, lead_s=0.5))
    fired = [(quarter, f) for quarter in walk(0.0, 8.0) for f in subject.take(quarter, TEMPO)]
    ((quarter, f),) = fired
    assert 3.0 - 1e-9 <= quarter <= 3.0 + STEP
    assert f.ahead_s == pytest.approx((4.0 - quarter) / 2.0)


def test_a_lead_is_a_time_so_that_it_takes_more_of_the_score_when_the_music_is_fast() -> None:
    for tempo_bpm, at in ((60.0, 3.0), (240.0, 0.0)):
        subject = cues(Mark(4.0, lead_s=1.0))
        assert subject.take(at - 0.1, tempo_bpm) == []
        assert [f.number for f in subject.take(at + 0.01, tempo_bpm)] == [0]


def test_a_short_leap_over_a_cue_fires_it() -> None:
    assert go_along(cues(Mark(4.0)), [3.0, 7.0]) == [(0, 7.0, "place")]


@pytest.mark.parametrize(("fire", "how"), [(False, "dropped"), (True, "skipped")])
def test_a_long_leap_over_a_cue_drops_it_unless_it_says_otherwise(fire: bool, how: str) -> None:
    assert go_along(cues(Mark(4.0, fire_skipped=fire)), [3.0, 40.0]) == [(0, 40.0, how)]


def test_what_lies_before_the_place_where_somebody_begins_is_neither_fired_nor_dropped() -> None:
    assert go_along(cues(Mark(4.0), Mark(21.0)), walk(20.0, 24.0))[0][0] == 1


@pytest.mark.parametrize("again", [False, True])
def test_who_plays_a_place_twice_fires_its_cue_again_where_it_says_so(again: bool) -> None:
    fired = go_along(cues(Mark(4.0, again=again)), [*walk(0.0, 8.0), *walk(2.0, 8.0)])
    assert len(fired) == 1 + again


def test_a_loop_that_begins_at_a_cue_fires_it_each_time() -> None:
    assert len(go_along(cues(Mark(4.0, again=True)), 3 * walk(4.0, 8.0))) == 3


def test_a_seek_passes_nothing() -> None:
    subject = cues(Mark(4.0), Mark(20.0))
    subject.take(0.0, TEMPO)
    subject.seek(20.0)
    assert go_along(subject, walk(20.0, 22.0)) == [(1, 20.0, "place")]


def test_after_a_reset_everything_may_fire_again() -> None:
    subject = cues(Mark(4.0))
    assert len(go_along(subject, walk(0.0, 8.0))) == 1
    subject.reset()
    assert len(go_along(subject, walk(0.0, 8.0))) == 1


def test_a_cue_that_is_disarmed_is_passed_in_silence() -> None:
    subject = cues(Mark(4.0), Mark(6.0))
    subject.arm([0], False)
    assert [index for index, _, _ in go_along(subject, walk(0.0, 5.0))] == []
    subject.arm([0], True)
    assert [index for index, _, _ in go_along(subject, walk(5.0, 8.0))] == [1], "armed behind the player, it waits to be passed again"


def test_go_fires_the_next_one_which_then_does_not_fire_at_its_place() -> None:
    subject = cues(Mark(6.0), Mark(4.0))
    subject.take(0.0, TEMPO)
    assert subject.go() == Fired(1, "hand", 0.0)
    assert go_along(subject, walk(0.0, 8.0)) == [(0, pytest.approx(6.0, abs=STEP), "place")]
    assert subject.go() is None


def test_back_takes_back_the_last_one_which_go_fires_again() -> None:
    subject = cues(Mark(4.0), Mark(6.0))
    assert subject.back() is None
    go_along(subject, walk(0.0, 5.0))
    assert subject.back() == 0
    assert go_along(subject, walk(5.0, 5.5)) == [], "the player is beyond it"
    assert subject.go() == Fired(0, "hand", 0.0)
    assert subject.next == 1


def test_back_lets_it_fire_at_its_place_if_the_player_is_not_there_yet() -> None:
    subject = cues(Mark(4.0))
    subject.take(0.0, TEMPO)
    subject.go()
    subject.back()
    assert [how for _, _, how in go_along(subject, walk(0.0, 8.0))] == ["place"]


def test_what_was_taken_back_fires_when_the_player_comes_by_again() -> None:
    subject = cues(Mark(4.0))
    go_along(subject, walk(0.0, 6.0))
    subject.back()
    assert [how for _, _, how in go_along(subject, walk(2.0, 6.0))] == ["place"]


def test_an_heir_does_not_fire_what_has_fired() -> None:
    first = cues(Mark(4.0), Mark(6.0))
    go_along(first, walk(0.0, 5.0))
    heir = Cues(first.marks, first.state, first.armed)
    assert [index for index, _, _ in go_along(heir, walk(3.0, 8.0))] == [1]


places = st.lists(st.floats(0.5, 60.0), max_size=8)
marks = st.builds(Mark, st.floats(0.0, 64.0), st.floats(0.0, 3.0), st.booleans(), st.booleans())


@given(places, st.lists(st.floats(-0.9, 0.9), min_size=300, max_size=300), st.floats(40.0, 240.0))
def test_each_fires_exactly_once_however_the_position_trembles(quarters: list[float], jitter: list[float], tempo_bpm: float) -> None:
    """The position goes through the whole score, off by less than half of what counts as going back."""
    subject = cues(*(Mark(quarter, again=True) for quarter in quarters))
    path = np.linspace(0.0, 64.0, 300) + 0.5 * np.array(jitter) * tempo_bpm / 60.0
    fired = [f for quarter in [0.0, *path, 70.0] for f in subject.take(float(quarter), tempo_bpm)]
    assert sorted(f.number for f in fired) == list(range(len(quarters)))


@given(st.lists(marks, max_size=8), st.lists(st.floats(0.0, 70.0), max_size=60), st.lists(st.floats(20.0, 300.0), min_size=60, max_size=60))
def test_none_fires_twice_wherever_the_position_leaps_and_none_early(which: list[Mark], path: list[float], tempi: list[float]) -> None:
    subject = cues(*(mark._replace(again=False) for mark in which))
    fired: list[int] = []
    for quarter, tempo_bpm in zip(path, tempi, strict=False):
        for f in subject.take(quarter, tempo_bpm):
            fired.append(f.number)
            assert subject.marks[f.number].quarter <= quarter + subject.marks[f.number].lead_s * tempo_bpm / 60.0
    assert len(fired) == len(set(fired))
    assert all((subject.state[index] == PASSED) for index in fired)


@given(st.lists(marks, min_size=1, max_size=8), st.integers(1, 5))
def test_repeated_passes_fire_once_each_where_a_cue_says_so(which: list[Mark], n_passes: int) -> None:
    subject = cues(*which)
    fired = [index for index, _, _ in go_along(subject, n_passes * [float(q) for q in np.arange(0.0, 72.0, 0.25)])]
    assert [fired.count(index) for index in range(len(which))] == [n_passes if mark.again else 1 for mark in which]


@given(st.lists(marks, max_size=8), st.lists(st.one_of(st.floats(0.0, 70.0), st.sampled_from(["go", "back"])), max_size=60))
def test_by_hand_each_is_fired_or_waits(which: list[Mark], actions: list[float | str]) -> None:
    """Whatever is done: a cue that has fired more often than it was taken back is passed, and `go` finds what is next."""
    subject = cues(*(mark._replace(again=False) for mark in which))
    balance = [0] * len(which)
    for action in actions:
        if action == "go":
            upcoming = subject.next
            fired = subject.go()
            assert (fired.number if fired else None) == upcoming
            if upcoming is not None:
                balance[upcoming] += 1
        elif action == "back":
            index = subject.back()
            if index is not None:
                balance[index] -= 1
        else:
            for f in subject.take(float(action), TEMPO):
                balance[f.number] += 1
    assert [PASSED if n else WAITING for n in balance] == [WAITING if s == HELD else s for s in subject.state]
