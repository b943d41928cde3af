"""The score as moments at which something begins."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.following.onsets import MERGE_QUARTER, Onsets
from rtserver.following.score import Notes, Score, load_score
from rtserver.following.written import ORNAMENTS

from .conftest import attributes, note, rest

Write = Callable[..., Path]
GRACE = "<note><grace/><pitch><step>D</step><octave>4</octave></pitch></note>"


def rows(start: np.ndarray, values: np.ndarray) -> list[list[int]]:
    return [values[a:b].tolist() for a, b in pairwise(start)]


def made(notes: list[tuple[float, float, int]], bpm: float = 60.0) -> Score:
    """A score of (onset, duration, pitch) at one quarter a second."""
    table = np.array(sorted(notes, key=lambda n: (n[0], n[2])))
    table[:, 0] -= table[0, 0]
    all_of = Notes(table[:, 0], table[:, 1], table[:, 2].astype(np.int32), np.zeros(len(table), np.int32))
    end = float(np.max(table[:, 0] + table[:, 1]))
    line = np.array([0.0, end])
    return Score(
        title="", parts=("",), notes=all_of, written=all_of, segments=np.array([[0.0, end, 0.0]]), skips=np.empty((0, 2)),
        tempo_quarter=np.zeros(1), tempo_bpm=np.array([bpm]), beat_quarter=line, beat=line, bar_quarter=np.zeros(1),
        bar_number=np.ones(1, np.int32),
    )  # fmt: skip


def test_chords_and_what_sounds_on(write: Write) -> None:
    back = "<backup><duration>4</duration></backup>"
    events = load_score(write(attributes(1) + note(48, 4) + back + note(60, 1) + note(62, 2) + note(60, 1), note(72, 4))).events()
    assert events.quarter.tolist() == [0, 1, 3, 4]
    assert rows(events.begin_start, events.begin_pitch) == [[48, 60], [62], [60], [72]]
    assert rows(events.held_start, events.held_pitch) == [[], [48], [48], []]


def test_seconds_to_the_next_moment(write: Write) -> None:
    score = load_score(write('<sound tempo="60"/>' + attributes(1) + note(60, 1) + note(62, 3), '<sound tempo="120"/>' + note(64, 4)))
    events = score.events()
    assert events.seconds.tolist() == [0, 1, 4]
    assert events.duration_s.tolist() == [1, 3, 2]


def test_a_grace_note_is_optional_and_its_note_is_not(write: Write) -> None:
    events = load_score(write(attributes(1) + note(60, 1) + GRACE + note(64, 3))).events()
    assert rows(events.begin_start, events.begin_pitch) == [[60], [62, 64]]
    assert rows(events.begin_start, events.begin_optional) == [[False], [True, False]]
    assert events.optional.tolist() == [False, False]


def test_a_moment_of_grace_notes_alone_is_optional(write: Write) -> None:
    events = load_score(write(attributes(1) + note(60, 1) + GRACE + rest(1) + note(64, 2))).events()
    assert events.optional.tolist() == [False, True, False]


def test_a_note_that_is_also_a_grace_note_is_not_optional() -> None:
    assert made([(0, 1, 60), (1, 0, 62), (1, 1, 62)]).events().begin_optional.tolist() == [False, False]


def test_ornaments_are_bits(write: Write) -> None:
    bear = "<notations><ornaments><trill-mark/></ornaments><arpeggiate/></notations>"
    events = load_score(write(attributes(1) + note(60, 1) + note(62, 3, bear))).events()
    assert events.ornament.tolist() == [0, 1 << ORNAMENTS.index("trill") | 1 << ORNAMENTS.index("arpeggio")]


@pytest.mark.parametrize(("apart", "n"), [(0.003, 1), (0.9 * MERGE_QUARTER, 1), (0.01, 2)])
def test_onsets_that_are_meant_together_are_one(apart: float, n: int) -> None:
    assert len(made([(0, 1, 60), (apart, 1, 64)]).events()) == n


def test_onsets_near_in_time_are_one_at_a_high_tempo() -> None:
    assert len(made([(0, 1, 60), (0.05, 1, 64)], bpm=999.0).events()) == 1


def test_a_pitch_struck_again_begins_and_is_not_held() -> None:
    events = made([(0, 4, 60), (1, 1, 60), (2, 1, 62)]).events()
    assert rows(events.held_start, events.held_pitch) == [[], [], [60]]


def by_hand(score: Score, events: Onsets) -> list[list[int]]:
    """What is held at each moment, note by note."""
    notes = score.notes
    own = np.searchsorted(events.quarter, notes.onset_quarter, side="right") - 1
    release = notes.onset_quarter + notes.duration_quarter - MERGE_QUARTER
    begins = rows(events.begin_start, events.begin_pitch)
    return [
        sorted({int(p) for p, e, r in zip(notes.pitch, own, release, strict=True) if e < k and r > q} - set(begins[k]))
        for k, q in enumerate(events.quarter)
    ]


NOTE = st.tuples(st.integers(0, 40).map(lambda k: k / 4), st.integers(0, 30).map(lambda k: k / 4), st.integers(60, 72))


@settings(deadline=None)
@given(st.lists(NOTE, min_size=1, max_size=40))
def test_events_agree_with_the_notes(notes: list[tuple[float, float, int]]) -> None:
    score = made([*notes, (0.0, 12.0, 59)])
    events = score.events()
    assert events.quarter.tolist() == sorted(set(score.notes.onset_quarter.tolist()))
    at: dict[float, set[int]] = {}
    for onset, pitch in zip(score.notes.onset_quarter.tolist(), score.notes.pitch.tolist(), strict=True):
        at.setdefault(onset, set()).add(pitch)
    assert rows(events.begin_start, events.begin_pitch) == [sorted(at[float(q)]) for q in events.quarter]
    assert rows(events.held_start, events.held_pitch) == by_hand(score, events)
    assert (events.duration_s > 0).all()


def test_a_hundred_thousand_notes_that_all_sound_on_stay_small() -> None:
    n = 100_000
    random = np.random.default_rng(1)
    score = made([(k / 4, 30_000.0, int(p)) for k, p in zip(range(n), random.integers(30, 90, n), strict=True)])
    events = score.events()
    assert len(events) == n
    assert len(events.held_pitch) < 60 * n
