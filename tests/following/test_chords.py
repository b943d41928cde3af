"""The moments of a score as chords and as spectra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.dsp.features import FIRST_PITCH
from rtserver.dsp.layout import N_SEMITONES
from rtserver.following.chords import HELD, RINGING, Chords, chords_of
from rtserver.following.score import Score

from .music import Written, score_of


def chords(*written: Written) -> Chords:
    return chords_of(score_of(written).events())


def pitches(c: Chords, event: int) -> list[int]:
    u = c.chord[event]
    return c.pitch[c.start[u] : c.start[u + 1]].tolist()


def test_the_same_pitches_are_one_chord_wherever_they_begin() -> None:
    c = chords((0, 1, 60), (0, 1, 64), (1, 1, 62), (2, 3, 64), (2, 0.5, 60), (3, 1, 60))
    assert c.chord[0] == c.chord[2]
    assert len(set(c.chord.tolist())) == len(c) == 3
    assert [pitches(c, k) for k in range(4)] == [[60, 64], [62], [60, 64], [60]]


def test_grace_notes_are_optional_where_anything_else_begins() -> None:
    c = chords((0, 1, 60), (1, 0, 71), (1, 1, 72), (2, 1, 64))
    assert pitches(c, 1) == [72]


def test_grace_notes_alone_are_a_chord() -> None:
    s: Score = score_of([(0, 1, 60), (1, 0, 71), (2, 1, 64)])
    assert pitches(chords_of(s.events()), 1) == [71]


def test_what_is_held_and_what_rings_sounds_weaker_than_what_begins() -> None:
    c = chords((0, 2, 36), (0, 1, 60), (1, 1, 67), (2, 1, 79))
    low, ended, begun = (c.sustain[1][p - FIRST_PITCH] for p in (36, 60, 67))
    assert np.isclose(low / begun, HELD)
    assert np.isclose(ended / begun, RINGING)


def test_an_onset_sounds_of_what_begins_alone() -> None:
    c = chords((0, 2, 36), (1, 1, 67))
    assert c.onset[c.chord[1]][36 - FIRST_PITCH] == 0.0
    assert np.argmax(c.onset[c.chord[1]]) == 67 - FIRST_PITCH


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12).map(float), st.sampled_from([0.0, 0.5, 1.0, 4.0]), st.integers(0, 127)), min_size=1, max_size=30)
)
def test_spectra_have_unit_length_and_every_event_a_chord(written: list[Written]) -> None:
    s = score_of(written)
    if s.length_quarter == 0.0:
        s = replace(s, notes=replace(s.notes, duration_quarter=s.notes.duration_quarter + 1.0))
    events = s.events()
    c = chords_of(events)
    assert c.onset.shape == (len(c), N_SEMITONES)
    assert c.sustain.shape == (len(events), N_SEMITONES)
    assert sorted(set(c.chord.tolist())) == list(range(len(c)))
    for spectra in (c.onset, c.sustain):
        length = np.linalg.norm(spectra, axis=1)
        assert np.allclose(length[length > 0], 1.0, atol=1e-5)  # below the lowest semitone nothing but partials may be seen
        assert np.isfinite(spectra).all()


def test_a_moment_with_a_trill_is_a_chord_of_its_own() -> None:
    s = score_of([(0, 1, 60), (1, 1, 62), (2, 1, 60)])
    s = replace(s, ornament_quarter=np.array([2.0]), ornament_pitch=np.array([60], np.int32), ornament_kind=np.zeros(1, np.int32))
    c = chords_of(s.events())
    assert c.restless[c.chord].tolist() == [False, False, True]
    assert pitches(c, 0) == pitches(c, 2) == [60]
