from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.config.midi import MidiPort
from rtserver.events import Note
from rtserver.midi.messages import note_off, note_on, program_change, silence
from rtserver.midi.player import ECHO_NS, MAX_BURST, MAX_RATE, PortPlayer

MS = 1_000_000


def note(note_id: int = 1, pitch: int = 60, channel: int = 0, part: str = "performer") -> Note:
    return Note(0, 0, note_id, pitch, 80, 0, channel, part)


def player(**port) -> PortPlayer:
    return PortPlayer(MidiPort(**port), np.zeros((16, 128), np.int64))


def sent(of: PortPlayer, now_ns: int) -> list[bytes]:
    return [message for step in of.due(now_ns) for message in step.messages]


def test_a_note_off_is_sent_again_twice():
    p = player()
    p.add(note(), 0, 10 * MS, 0)
    assert sent(p, 0) == [note_on(0, 60, 80)]
    assert sent(p, 10 * MS) == [note_off(0, 60)]
    for after in ECHO_NS:
        assert p.next_due_ns == 10 * MS + after
        assert sent(p, 10 * MS + after) == [note_off(0, 60)]
    assert p.next_due_ns is None


def test_a_pitch_struck_anew_is_not_cut_by_an_echo():
    p = player()
    p.add(note(1), 0, 10 * MS, 0)
    p.add(note(2), 20 * MS, 900 * MS, 0)
    sent(p, 0), sent(p, 10 * MS), sent(p, 20 * MS)
    assert sent(p, 500 * MS) == []
    assert sent(p, 900 * MS) == [note_off(0, 60)]


def test_channels_are_mapped_and_the_table_says_what_was_sent():
    p = player(channels={"1": 10, "3": 4})
    p.add(note(1), 0, 10 * MS, 0)
    p.add(note(2, channel=2), 0, 10 * MS, 0)
    p.add(note(3, channel=5), 0, 10 * MS, 0)
    assert sent(p, 0) == [note_on(9, 60, 80), note_on(3, 60, 80), note_on(5, 60, 80)]
    assert sorted(map(tuple, np.argwhere(p.table.cells).tolist())) == [(3, 60), (5, 60), (9, 60)]
    assert sent(p, 10 * MS) == [note_off(9, 60), note_off(3, 60), note_off(5, 60)]


def test_two_channels_that_become_one_share_its_keys():
    p = player(channels={"2": 1})
    first, second = note(1, channel=0), note(2, channel=1)
    p.add(first, 0, 900 * MS, 0)
    p.add(second, 10 * MS, 500 * MS, 0)
    sent(p, 0)
    (step,) = p.due(10 * MS)
    assert (step.messages, step.on, step.off) == ([note_off(0, 60), note_on(0, 60, 80)], second, first)
    assert sent(p, 500 * MS) == [note_off(0, 60)]


def test_a_port_plays_the_parts_that_it_is_given():
    assert player().plays(note(part="client"))
    assert player(parts=["performer"]).plays(note())
    assert not player(parts=["performer"]).plays(note(part="client"))
    assert not player(output=False, input=True).plays(note())


def test_the_click_is_for_nobody_who_does_not_ask_for_it():
    assert not player().plays(note(part="click"))
    assert not player(parts=["performer"]).plays(note(part="click"))
    assert player(parts=["performer", "click"]).plays(note(part="click"))


def test_programs_are_told_with_their_banks():
    p = player(programs={"10": 3, "1": 5}, banks={"1": 130})
    assert p.greeting() == [bytes((0xB0, 0, 1)), bytes((0xB0, 32, 2)), program_change(0, 5), program_change(9, 3)]


def test_an_offset_shifts_start_and_end():
    p = player(offset_s=0.1)
    p.add(note(), 0, 50 * MS, 0)
    assert sent(p, 99 * MS) == []
    assert sent(p, 100 * MS) == [note_on(0, 60, 80)]
    assert p.next_due_ns == 150 * MS


def test_an_earlier_offset_cannot_reach_back_before_the_note_was_known():
    p = player(offset_s=-0.1)
    p.add(note(), 150 * MS, 250 * MS, 120 * MS)
    assert sent(p, 120 * MS) == [note_on(0, 60, 80)], "as early as can be, and not dropped as late"
    assert p.next_due_ns == 220 * MS


def test_panic_releases_now_and_again():
    p = player()
    p.add(note(1), 0, 900 * MS, 0)
    p.add(note(2, pitch=61), 500 * MS, 900 * MS, 0)
    sent(p, 0)
    messages, ended = p.panic(10 * MS)
    assert (messages, [n.note_id for n in ended]) == ([note_off(0, 60), *silence()], [1])
    for after in ECHO_NS:
        assert sent(p, 10 * MS + after) == [note_off(0, 60), *silence()]
    assert p.next_due_ns is None


def test_channels_are_not_silenced_again_under_a_new_note():
    p = player()
    p.panic(0)
    p.add(note(), 10 * MS, 900 * MS, 0)
    sent(p, 10 * MS)
    assert sent(p, 500 * MS) == []


Played = st.tuples(st.integers(0, 400), st.integers(1, 300), st.integers(60, 63), st.integers(0, 3))


@given(
    st.lists(Played, max_size=30),
    st.lists(st.integers(0, 800), max_size=40),
    st.integers(-100, 100),
    st.dictionaries(st.sampled_from(["1", "2", "3"]), st.integers(1, 4), max_size=3),
)
def test_whatever_is_played_and_whenever_it_is_looked_at_nothing_sounds_in_the_end(notes, looks, offset_ms, channels):
    p = player(offset_s=offset_ms / 1000, channels=channels)
    for i, (start, length, pitch, channel) in enumerate(notes):
        p.add(note(i, pitch, channel), start * MS, (start + length) * MS, 0)
    sounding: set[tuple[int, int]] = set()
    for now in [*sorted(looks), 2000, 3000]:
        for message in sent(p, now * MS):
            key = (message[0] & 0x0F, message[1])
            if message[0] & 0xF0 == 0x90:
                assert key not in sounding, "struck while it sounds"
                sounding.add(key)
            else:
                sounding.discard(key)
        cells = {(c, q) for c, q in np.argwhere(p.table.cells > 0).tolist()}
        assert cells == sounding, "the table says what sounds"
    assert not sounding
    assert p.next_due_ns is None


@pytest.mark.parametrize("later", ECHO_NS)
def test_the_table_holds_a_note_off_until_its_last_echo_is_out(later):
    p = player()
    p.add(note(), 0, 10 * MS, 0)
    sent(p, 0), sent(p, 10 * MS)
    p.table.settle(10 * MS + later)
    assert p.table.held() == [(0, 60)]


def test_a_flood_of_notes_is_cut_and_whole():
    p = player()
    for i in range(4000):
        p.add(note(i, 30 + i % 60, i % 16), i * 100_000, i * 100_000 + 5 * MS, 0)  # 10 000 a second
    messages = [m for now in range(0, 2000, 2) for m in sent(p, now * MS)]
    ons = sum(m[0] & 0xF0 == 0x90 for m in messages)
    assert MAX_BURST <= ons <= MAX_BURST + 0.4 * MAX_RATE + 1
    assert p.schedule.dropped == 4000 - ons
    assert not (p.table.cells > 0).any()


def test_a_note_for_one_port_is_played_there_whatever_its_parts() -> None:
    lead = PortPlayer(MidiPort(parts=["performer"]), np.zeros((16, 128), np.int64), "lead")
    click = PortPlayer(MidiPort(), np.zeros((16, 128), np.int64), "click")
    note = Note(0, 0, 1, 60, 80, 100, 0, part="client", port="lead")
    assert lead.plays(note)
    assert not click.plays(note)


def test_another_song_has_other_programs_and_what_sounds_goes_on() -> None:
    p = player(programs={"1": 5})
    p.add(note(), 0, 10 * MS, 0)
    assert sent(p, 0) == [note_on(0, 60, 80)]
    assert p.take_song(MidiPort(programs={"2": 5}))
    assert p.greeting() == [program_change(1, 5)]
    assert not p.take_song(MidiPort(programs={"2": 5}))
    assert sent(p, 10 * MS) == [note_off(0, 60)]
