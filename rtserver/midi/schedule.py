"""What is due when: notes in a heap of absolute deadlines. Pure: the caller brings the time.

Late policy: a note-on that is more than `LATE_NS` late is dropped together with its note-off, and counted; a note-off is never dropped,
however late. A full schedule refuses whole notes, and counts them.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import NamedTuple

from rtserver.events import Note
from rtserver.midi.gate import Bucket

LATE_NS = 30_000_000  # a note 30 ms behind is heard as wrong; leaving it out is heard as a rest
MAX_LEFT_OUT = 256  # more than can be told at once; the count has them all
MAX_NOTES = 4096  # notes waiting or sounding: minutes of dense playing, and 1 MB; more is a fault upstream


class Due(NamedTuple):
    """A note's start (`on`) or its end."""

    due_ns: int
    on: bool
    note: Note
    off_ns: int


class Schedule:
    """Notes that wait for their start, and starts that wait for their end.

    Attributes
    ----------
    dropped : int
        Notes left out so far, each with its note-off: too late, too many at once, or no room.
    left_out : deque of (Note, str)
        Those of late and why, for whoever tells of them; the caller empties it.
    """

    def __init__(self, late_ns: int = LATE_NS, max_notes: int = MAX_NOTES, gate: Bucket | None = None) -> None:
        self.late_ns = late_ns
        self.max_notes = max_notes
        self._gate = gate  # how many starts may pass
        self.dropped = 0
        self.left_out: deque[tuple[Note, str]] = deque(maxlen=MAX_LEFT_OUT)
        self._serial = 0
        self._heap: list[tuple[int, bool, int, Due]] = []  # at one instant ends come before starts, else first come first served

    def __len__(self) -> int:
        """Notes waiting or sounding."""
        return len(self._heap)

    @property
    def next_due_ns(self) -> int | None:
        """When something is due next; None if nothing waits."""
        return self._heap[0][0] if self._heap else None

    def add(self, note: Note, due_ns: int, off_ns: int) -> bool:
        """`note` starts at `due_ns` and ends at `off_ns`. False if there is no room: dropped and counted."""
        if len(self._heap) >= self.max_notes:
            self._leave_out(note, "room")
            return False
        self._push(Due(due_ns, True, note, max(off_ns, due_ns + 1)))
        return True

    def due(self, now_ns: int) -> list[Due]:
        """Take everything that is due at `now_ns`, in the order in which it is to be sent."""
        taken: list[Due] = []
        while self._heap and self._heap[0][0] <= now_ns:
            due = heapq.heappop(self._heap)[3]
            if not due.on:
                taken.append(due)
            elif now_ns - due.due_ns > self.late_ns:
                self._leave_out(due.note, "late")
            elif self._gate is not None and not self._gate.take(now_ns):
                self._leave_out(due.note, "rate")
            else:
                taken.append(due)
                # An end takes the place of its start, so there is always room for it, and without a start there is none.
                self._push(Due(due.off_ns, False, due.note, due.off_ns))
        return taken

    def clear(self) -> None:
        """Forget everything; the caller has let go of what sounds."""
        self._heap.clear()

    def _leave_out(self, note: Note, why: str) -> None:
        self.dropped += 1
        self.left_out.append((note, why))

    def _push(self, due: Due) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (due.due_ns, due.on, self._serial, due))
