from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rtserver.events import Note
from rtserver.midi.gate import Bucket
from rtserver.midi.notes import NoteTable
from rtserver.midi.schedule import LATE_NS, Schedule

MS = 1_000_000


def note(note_id: int, pitch: int = 60, channel: int = 0) -> Note:
    return Note(0, 0, note_id, pitch, 80, 0, channel)


def test_due_in_order_of_deadlines_whatever_the_order_of_arrival():
    schedule = Schedule()
    for due_ms in (30, 10, 20):
        schedule.add(note(due_ms), due_ms * MS, (due_ms + 5) * MS)
    assert schedule.next_due_ns == 10 * MS
    taken = [(d.note.note_id, d.on) for t in range(0, 40, 5) for d in schedule.due(t * MS)]
    assert taken == [(10, True), (10, False), (20, True), (20, False), (30, True), (30, False)]
    assert schedule.next_due_ns is None


def test_at_one_instant_ends_come_before_starts():
    schedule = Schedule()
    schedule.add(note(1), 0, 10 * MS)
    schedule.due(0)
    schedule.add(note(2), 10 * MS, 20 * MS)
    assert [(d.note.note_id, d.on) for d in schedule.due(10 * MS)] == [(1, False), (2, True)]


def test_a_start_later_than_the_limit_is_dropped_with_its_end():
    schedule = Schedule()
    schedule.add(note(1), 0, 500 * MS)
    assert schedule.due(LATE_NS + 1) == []
    assert schedule.due(1000 * MS) == []
    assert schedule.dropped == 1


def test_what_is_left_out_is_kept_with_the_reason():
    schedule = Schedule(max_notes=2, gate=Bucket(1.0, 1.0))
    schedule.add(note(1), 0, 10)
    schedule.add(note(2), LATE_NS, LATE_NS + 10)
    schedule.add(note(3), 0, 10)
    schedule.due(LATE_NS + 1)
    schedule.add(note(4), LATE_NS, LATE_NS + 10)
    schedule.due(LATE_NS + 1)
    assert [(note.note_id, why) for note, why in schedule.left_out] == [(3, "room"), (1, "late"), (4, "rate")]
    assert schedule.dropped == 3


def test_a_start_at_the_limit_is_played():
    schedule = Schedule()
    schedule.add(note(1), 0, 500 * MS)
    assert [d.on for d in schedule.due(LATE_NS)] == [True]


def test_an_end_is_never_dropped_however_late():
    schedule = Schedule()
    schedule.add(note(1), 0, 1 * MS)
    schedule.due(0)
    assert [d.on for d in schedule.due(3_600_000 * MS)] == [False]


def test_a_full_schedule_refuses_the_whole_note():
    schedule = Schedule(max_notes=2)
    assert [schedule.add(note(i), i, 10) for i in range(3)] == [True, True, False]
    assert schedule.dropped == 1
    assert len([d for d in schedule.due(10) if not d.on]) == 2


def test_a_note_without_length_still_starts_before_it_ends():
    schedule = Schedule()
    schedule.add(note(1), 5, 5)
    assert [d.on for d in schedule.due(10)] == [True, False]


NOTES = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200), st.integers(60, 62), st.integers(0, 1)), max_size=40
)  # (arrives at, due after, lasts), ms; pitch; channel


@given(NOTES, st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(1, 20), st.none() | st.integers(0, 300))
def test_every_on_is_followed_by_exactly_one_off(notes, steps, max_notes, panic_ms):
    schedule, cells = Schedule(max_notes=max_notes), np.zeros((16, 128), np.int64)
    table = NoteTable(cells)
    sent: list[bytes] = []
    coming = sorted((arrives, i, after, lasts, pitch, channel) for i, (arrives, after, lasts, pitch, channel) in enumerate(notes))
    now_ms, step, n_played = 1, 0, 0
    while coming or len(schedule):
        while coming and coming[0][0] <= now_ms:
            arrives, i, after, lasts, pitch, channel = coming.pop(0)
            schedule.add(note(i, pitch, channel), (arrives + after) * MS, (arrives + after + lasts) * MS)
        for due in schedule.due(now_ms * MS):
            n_played += due.on
            sent += table.on(due.note, due.off_ns) if due.on else table.off(due.note, now_ms * MS)
        if panic_ms is not None and now_ms >= panic_ms:
            schedule.clear()
            sent += [m for m in table.release_all(now_ms * MS) if m[0] & 0xF0 != 0xB0 and table_sounds(sent, m)]
            panic_ms = None
            n_played = len(notes) - schedule.dropped - len(coming)  # what waited has been forgotten on purpose
        now_ms += steps[step % len(steps)]
        step += 1
    sounding: set[tuple[int, int]] = set()
    for message in sent:
        key = (message[0] & 0x0F, message[1])
        if message[0] & 0xF0 == 0x90:
            assert key not in sounding, "started while it sounded"
            sounding.add(key)
        else:
            assert key in sounding, "ended twice"
            sounding.remove(key)
    assert not sounding
    assert not (cells > 0).any()
    assert n_played + schedule.dropped == len(notes)


def table_sounds(sent: list[bytes], off: bytes) -> bool:
    """Whether the pitch of `off` sounds after `sent`: a panic also repeats ends that may still be on their way."""
    last = [m for m in sent if (m[0] & 0x0F, m[1]) == (off[0] & 0x0F, off[1])]
    return bool(last) and last[-1][0] & 0xF0 == 0x90
