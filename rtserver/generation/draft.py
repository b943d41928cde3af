"""What the performer means to play next, and the way back: each note is kept with the performer's state before it.

A note that is drafted has been fed, so the next one is asked for at once; a note that is no longer wanted is taken back with all that was
drafted after it, dice included. So a draft that is made again under the same circumstances is the same.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from rtserver.generation.performer import Performer, Snapshot
from rtserver.generation.vocabulary import Float, NoteEvent

FAR = 1 << 40  # a tick that never comes


class Step(NamedTuple):
    """One note of a draft.

    tick : its onset; condition : the harmony by which it was chosen; part : of the score, -1 for the performer's own; until : the tick at
    which it ends at the latest; place : how many notes of the score came before it.
    """

    note: NoteEvent
    tick: int
    before: Snapshot
    condition: Float
    part: int
    until: int
    place: int


class Draft:
    """Notes ahead of what has been committed. The performer stands behind the last of them.

    Attributes
    ----------
    place : int
        How many notes of the score have been drafted.
    revision : int
        Rises whenever notes are added or taken back: whoever shows the draft knows when to show it anew.
    """

    def __init__(self, performer: Performer) -> None:
        self.performer = performer
        self.steps: deque[Step] = deque()
        self.place = 0
        self.revision = 0

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, note: NoteEvent, before: Snapshot, condition: Float, part: int = -1, until: int = FAR) -> Step:
        """Draft `note`, chosen when the performer was in the state `before`."""
        self.performer.feed(note)
        step = Step(note, self.performer.tick, before, condition, part, until, self.place)
        self.steps.append(step)
        self.place += part >= 0
        self.revision += 1
        return step

    def put(self, note: NoteEvent, before: Snapshot, after: Snapshot, condition: Float, until: int = FAR) -> Step:
        """The same of a note that was chosen, and fed, earlier: the performer is put into the state `after` it."""
        self.performer.restore(after)
        step = Step(note, self.performer.tick, before, condition, -1, until, self.place)
        self.steps.append(step)
        self.revision += 1
        return step

    def pop(self) -> Step:
        """The first note, which has been committed or left out: there is no way back behind it."""
        return self.steps.popleft()

    def undo(self) -> None:
        """Take back the last note."""
        step = self.steps.pop()
        self.performer.restore(step.before)
        self.place = step.place
        self.revision += 1

    def drop(self) -> bool:
        """Take back all notes. Whether there were any."""
        if not self.steps:
            return False
        first = self.steps[0]
        self.performer.restore(first.before)
        self.place = first.place
        self.steps.clear()
        self.revision += 1
        return True
