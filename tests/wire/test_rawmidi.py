"""Raw MIDI of committed notes: what is told, and what is taken back."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from rtserver.events import Command, Note
from rtserver.midi.panics import Panics
from rtserver.midi.schedule import LATE_NS, MAX_NOTES
from rtserver.wire.rawmidi import CUT, OFF, ON, Raw, RawNotes

MS = 1_000_000
S = 1000 * MS


def note(note_id: int, pitch: int = 60, channel: int = 0, part: str = "performer", velocity: int = 72) -> Note:
    return Note(480, 0, note_id, pitch, velocity, 24000, channel, part)


def said(raws: list[Raw]) -> list[tuple[str, int, int]]:
    return [(raw.what, raw.note_id, raw.due_ns) for raw in raws]


def test_a_note_is_told_with_its_release() -> None:
    on, off = RawNotes().take(note(7, channel=3), S, 2 * S, 0)
    assert on == Raw("midi.performer", ON, 480, S, 7, S, bytes((0x93, 60, 72)))
    assert off == Raw("midi.performer", OFF, 24480, 2 * S, 7, S, bytes((0x83, 60, 0)))


def test_the_topic_is_the_part() -> None:
    assert {raw.topic for raw in RawNotes().take(note(1, part="click"), S, 2 * S, 0)} == {"midi.click"}


def test_what_midi_cannot_say_is_not_told() -> None:
    assert RawNotes().take(note(1, velocity=0), S, 2 * S, 0) == []
    assert RawNotes().take(note(1, channel=16), S, 2 * S, 0) == []


def test_a_note_that_is_too_late_is_not_told() -> None:
    assert RawNotes().take(note(1), S, 2 * S, S + LATE_NS + 1) == []
    assert RawNotes().take(note(1), S, 2 * S, S + LATE_NS) != []


def test_no_more_is_told_than_can_wait() -> None:
    notes = RawNotes()
    for i in range(MAX_NOTES):
        notes.take(note(i, i % 128, i // 128 % 16), S + i // 2048 * S, S + i // 2048 * S + 1, 0)
    assert notes.take(note(MAX_NOTES, part="client"), S, 2 * S, 0) == []
    assert notes.take(note(MAX_NOTES, part="client"), 5 * S, 6 * S, 4 * S) != []  # those have ended


def test_a_pitch_that_sounds_ends_where_it_is_struck_anew() -> None:
    notes = RawNotes()
    notes.take(note(1), S, 3 * S, 0)
    assert said(notes.take(note(2), 2 * S, 4 * S, 0)) == [(CUT, 1, 2 * S), (ON, 2, 2 * S), (OFF, 2, 4 * S)]


def test_a_note_told_later_ends_where_one_told_before_begins() -> None:
    notes = RawNotes()
    notes.take(note(1), 2 * S, 3 * S, 0)
    on, off = notes.take(note(2), S, 4 * S, 0)
    assert (on.duration_ns, off.due_ns) == (S, 2 * S)


def test_other_pitches_channels_and_parts_are_left_alone() -> None:
    notes = RawNotes()
    notes.take(note(1), S, 3 * S, 0)
    for other in (note(2, pitch=61), note(3, channel=1), note(4, part="click")):
        assert [raw.what for raw in notes.take(other, 2 * S, 4 * S, 0)] == [ON, OFF]


def test_a_note_that_the_midi_role_ends_early_is_cut_now() -> None:
    notes = RawNotes()
    notes.take(note(1), S, 3 * S, 0)
    assert said(notes.ended(1, 2 * S, 2 * S + MS, 9)) == [(CUT, 1, 2 * S + MS)]
    assert notes.ended(1, 2 * S, 2 * S + MS, 9) == []


def test_a_note_that_ends_in_its_time_is_not() -> None:
    notes = RawNotes()
    notes.take(note(1), S, 3 * S, 0)
    assert notes.ended(1, 3 * S - MS, 3 * S, 9) == []


def test_a_port_that_sends_earlier_cuts_nothing() -> None:
    notes = RawNotes()
    notes.take(note(1), S, 3 * S, 0, early_ns=S // 2)
    assert notes.ended(1, 3 * S - S // 2, 3 * S - S // 2, 9) == []
    assert notes.ended(1, 2 * S, 2 * S, 9) != []


def test_everything_that_has_not_ended_is_taken_back() -> None:
    notes = RawNotes()
    for i, due in ((1, S), (2, 2 * S), (3, 9 * S)):
        notes.take(note(i, 60 + i), due, due + S, 0)
    assert said(notes.cut_all(2 * S + 1, 9)) == [(CUT, 2, 2 * S + 1), (CUT, 3, 2 * S + 1)]
    assert notes.cut_all(2 * S + 1, 9) == []


def test_a_note_to_be_struck_anew_later_is_taken_back_too() -> None:
    """Its cut lies in the future: until then it sounds."""
    notes = RawNotes()
    notes.take(note(1), S, 9 * S, 0)
    notes.take(note(2), 5 * S, 9 * S, 0)
    assert said(notes.cut_all(2 * S, 9)) == [(CUT, 1, 2 * S), (CUT, 2, 2 * S)]


def test_a_panic_voids_what_the_performer_decided_before_it() -> None:
    panics = Panics()
    panics.take(Command(1000, 40, "panic"))  # a controller's: the performer obeys at frame 1000
    assert panics.void(Note(5000, 999, 1, 60, 72, 10, 0))
    assert not panics.void(Note(5000, 1000, 1, 60, 72, 10, 0))
    assert panics.void(Note(5000, 39, 1, 60, 72, 10, 0, "client"))
    assert not panics.void(Note(5000, 40, 1, 60, 72, 10, 0, "client"))


@dataclass
class Listener:
    """Plays the bytes at their due times by the two rules of the page: note ids decide, and what was cut does not begin."""

    queue: list[Raw] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)

    def take(self, raws: list[Raw]) -> None:
        self.queue += raws
        self.ends |= {raw.note_id: raw.due_ns for raw in raws if raw.what == CUT}

    def sounding(self, at_ns: int) -> dict[tuple[int, int], int]:
        """What sounds after everything due up to `at_ns`: ids by (channel, pitch)."""
        down: dict[tuple[int, int], int] = {}
        for raw in sorted((raw for raw in self.queue if raw.due_ns <= at_ns), key=lambda raw: (raw.due_ns, raw.what == ON)):
            key = (raw.data[0] & 15, raw.data[1])
            if raw.what == ON and self.ends.get(raw.note_id, raw.due_ns + 1) > raw.due_ns:
                assert key not in down, "one pitch sounds once"
                down[key] = raw.note_id
            elif raw.what != ON and down.get(key) == raw.note_id:
                del down[key]
        return down


steps = st.lists(
    st.one_of(
        st.tuples(st.just("note"), st.integers(60, 62), st.integers(0, 400), st.integers(0, 500)),
        st.tuples(st.sampled_from(["panic", "early"]), st.integers(0, 30), st.just(0), st.just(0)),
    ),
    max_size=30,
)


@given(steps, st.lists(st.integers(1, 100), min_size=30, max_size=30))
def test_whatever_is_committed_and_taken_back_a_listener_ends_in_silence(does: list[tuple[str, int, int, int]], waits: list[int]) -> None:
    notes, listener, now = RawNotes(), Listener(), 0
    last = 0
    for i, ((what, which, in_ms, length_ms), wait) in enumerate(zip(does, waits, strict=False)):
        now += wait * MS
        if what == "note":
            due = now + in_ms * MS
            last = max(last, due + length_ms * MS)
            listener.take(notes.take(note(i, which), due, due + length_ms * MS, now))
        elif what == "panic":
            listener.take(notes.cut_all(now, 0))
            assert listener.sounding(now) == listener.sounding(10**15) == {}, "and what waited does not begin"
        else:
            listener.take(notes.ended(which, now, now, 0))
    assert listener.sounding(max(last, now) + 1) == {}
