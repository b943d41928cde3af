"""Committed notes as the raw MIDI of the topics ``midi.PART``: what is said when, and what is taken back. Pure: the caller has the time.

A note is told with its release: its note-on and its note-off go out together when it is committed, each with the time at which it is
due. What becomes of it otherwise is told by a `CUT`, a note-off that takes the place of what was told. Whoever has both messages needs
nothing more, so that nothing hangs should no further message come.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import NamedTuple

from rtserver.events import Note
from rtserver.midi.messages import note_off, note_on
from rtserver.midi.notes import playable
from rtserver.midi.schedule import LATE_NS, MAX_NOTES

FAMILY = "midi."  # followed by the part
PARTS = ("performer", "client", "cue", "command", "click", "score")  # those that the server has; `Note.part` may name others
ON, OFF, CUT = "on", "off", "cut"
SLACK_NS = 20_000_000  # a note-off this much earlier than told is none of the clock's doing, and one less early is not heard as such


class Raw(NamedTuple):
    """A message: bytes that are due at `due_ns` (CLOCK_MONOTONIC)."""

    topic: str
    what: str  # ON, OFF or CUT
    frame: int
    due_ns: int
    note_id: int
    duration_ns: int  # of the whole note, as it is known by now
    data: bytes


@dataclass
class _Told:
    """A note as it was told last."""

    note: Note
    due_ns: int
    off_ns: int
    early_ns: int  # how much earlier than due the port that tells of it sends it


def topic_of(part: str) -> str:
    """The topic of the notes of `part`."""
    return FAMILY + part


class RawNotes:
    """The notes that were told and have not ended."""

    def __init__(self) -> None:
        self._told: dict[int, _Told] = {}
        self._keys: dict[tuple[str, int, int], list[int]] = {}  # part, channel, pitch: ids
        self._ends: list[tuple[int, int]] = []  # heap of (end, id)

    def __len__(self) -> int:
        """Notes told and not ended, as far as that was looked at."""
        return len(self._told)

    def take(self, note: Note, due_ns: int, off_ns: int, now_ns: int, early_ns: int = 0) -> list[Raw]:
        """A committed note, in the order in which it is to be said. Nothing for what MIDI cannot say, is too late, or finds no room.

        One pitch of one channel of a part sounds once: a note ends where the next one begins.
        """
        self._forget(now_ns)
        if not playable(note) or now_ns - due_ns > LATE_NS or len(self._told) >= MAX_NOTES:
            return []
        if note.note_id in self._told:  # ids of notes by command begin anew with their role
            self._drop(self._told[note.note_id].note)
        said: list[Raw] = []
        for other in [self._told[i] for i in self._keys.get(_key(note), ())]:
            if other.due_ns <= due_ns < other.off_ns:
                said.append(self._cut(other, due_ns, note.frame))
            elif due_ns < other.due_ns < off_ns:
                off_ns = other.due_ns
        told = self._told[note.note_id] = _Told(note, due_ns, max(off_ns, due_ns + 1), early_ns)
        self._keys.setdefault(_key(note), []).append(note.note_id)
        heapq.heappush(self._ends, (told.off_ns, note.note_id))
        on = _raw(told, ON, note.frame, due_ns, note_on(note.channel, note.pitch, note.velocity))
        return [*said, on, _raw(told, OFF, note.frame + note.duration, told.off_ns, note_off(note.channel, note.pitch))]

    def ended(self, note_id: int, due_ns: int, now_ns: int, frame: int) -> list[Raw]:
        """The midi role has sent the note-off that was due at `due_ns`: to be told where that is earlier than was said."""
        told = self._told.get(note_id)
        if told is None or due_ns >= told.off_ns - told.early_ns - SLACK_NS:
            return []
        self._drop(told.note)
        return [self._cut(told, now_ns, frame)]

    def cut_all(self, now_ns: int, frame: int) -> list[Raw]:
        """Everything that was told and has not ended is taken back."""
        said = [self._cut(told, now_ns, frame) for told in self._told.values() if told.off_ns > now_ns]
        self.clear()
        return said

    def clear(self) -> None:
        """Forget everything: nobody listens."""
        self._told.clear()
        self._keys.clear()
        self._ends.clear()

    def _cut(self, told: _Told, at_ns: int, frame: int) -> Raw:
        told.off_ns = at_ns
        heapq.heappush(self._ends, (at_ns, told.note.note_id))
        return _raw(told, CUT, frame, at_ns, note_off(told.note.channel, told.note.pitch))

    def _forget(self, now_ns: int) -> None:
        while self._ends and self._ends[0][0] <= now_ns:
            told = self._told.get(heapq.heappop(self._ends)[1])
            if told is not None and told.off_ns <= now_ns:
                self._drop(told.note)

    def _drop(self, note: Note) -> None:
        del self._told[note.note_id]
        ids = self._keys[_key(note)]
        ids.remove(note.note_id)
        if not ids:
            del self._keys[_key(note)]


def _key(note: Note) -> tuple[str, int, int]:
    return note.part, note.channel, note.pitch


def _raw(told: _Told, what: str, frame: int, due_ns: int, data: bytes) -> Raw:
    note = told.note
    return Raw(topic_of(note.part), what, frame, due_ns, note.note_id, max(told.off_ns - told.due_ns, 0), data)
