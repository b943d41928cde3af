from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.events import Note
from rtserver.midi.messages import note_off, note_on, program_change, silence
from rtserver.midi.notes import IN_FLIGHT_NS, NoteTable, playable


def note(note_id: int = 1, pitch: int = 60, channel: int = 0, velocity: int = 80, duration: int = 0) -> Note:
    return Note(0, 0, note_id, pitch, velocity, duration, channel)


@pytest.fixture
def table() -> NoteTable:
    return NoteTable(np.zeros((16, 128), np.int64))


def test_messages_are_what_midi_says():
    assert note_on(3, 60, 100) == bytes((0x93, 60, 100))
    assert note_off(15, 127) == bytes((0x8F, 127, 0))
    assert program_change(9, 5) == bytes((0xC9, 5))


def test_the_cell_is_the_end_while_the_note_sounds(table):
    table.on(note(pitch=61, channel=2), end_ns=1234)
    assert table.cells[2, 61] == 1234
    assert np.count_nonzero(table.cells) == 1


def test_a_sounding_pitch_is_let_go_before_it_starts_again(table):
    table.on(note(1), 1000)
    assert table.on(note(2), 2000) == [note_off(0, 60), note_on(0, 60, 80)]


def test_the_end_of_the_earlier_note_does_not_cut_the_later(table):
    first, second = note(1), note(2)
    table.on(first, 1000)
    table.on(second, 2000)
    assert table.off(first, 1000) == []
    assert table.cells[0, 60] == 2000
    assert table.off(second, 2000) == [note_off(0, 60)]


def test_equal_notes_are_told_apart(table):
    first, second = note(1), note(1)
    table.on(first, 1000)
    table.on(second, 1000)
    assert table.off(first, 1000) == []
    assert table.off(second, 1000) == [note_off(0, 60)]


def test_a_note_off_is_held_while_it_may_be_on_its_way(table):
    only = note()
    table.on(only, 1000)
    table.off(only, 1000)
    table.settle(1000 + IN_FLIGHT_NS - 1)
    assert table.cells[0, 60] == -1000
    assert table.held() == [(0, 60)]
    table.settle(1000 + IN_FLIGHT_NS)
    assert table.cells[0, 60] == 0
    assert table.held() == []


@given(st.dictionaries(st.tuples(st.integers(0, 15), st.integers(0, 127)), st.integers(1, 2**62), max_size=30))
def test_another_process_finds_every_sounding_note(ends):
    cells = np.zeros((16, 128), np.int64)
    mine = NoteTable(cells)
    for i, ((channel, pitch), end_ns) in enumerate(ends.items()):
        mine.on(note(i, pitch, channel), end_ns)
    messages = NoteTable(cells).release_all(now_ns=5)
    assert messages[: len(ends)] == [note_off(*key) for key in sorted(ends)]
    assert messages[len(ends) :] == silence()
    assert not (cells > 0).any()


def test_silence_is_three_controllers_on_every_channel():
    assert sorted(silence()) == sorted(bytes((0xB0 | c, n, 0)) for c in range(16) for n in (64, 120, 123))


def test_a_table_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(16, 128\)"):
        NoteTable(np.zeros((128, 16), np.int64))


@pytest.mark.parametrize("wrong", [{"pitch": 128}, {"pitch": -1}, {"channel": 16}, {"velocity": 0}, {"velocity": 128}, {"duration": -1}])
def test_what_midi_cannot_say_is_not_playable(wrong):
    assert playable(note())
    assert not playable(note(**wrong))
