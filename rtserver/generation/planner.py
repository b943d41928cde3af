"""What comes next: a note of the network's own within the limits, or one that the score has. Pure; time comes in ticks."""

from __future__ import annotations

import math

from rtserver.generation import vocabulary as v
from rtserver.generation.constraints import Constraints
from rtserver.generation.draft import FAR, Draft, Step
from rtserver.generation.metre import Metre
from rtserver.generation.performer import Performer, Snapshot
from rtserver.generation.vocabulary import NoteEvent
from rtserver.generation.written import LONG_REST, Harmony, WrittenPart

NOTHING = v.condition(None)


class Planner:
    """Adds to a draft, note by note.

    Parameters
    ----------
    performer : Performer
    constraints : Constraints
        Kept by every note of the network's own.
    metre : Metre
        Where the bar lines are.
    written : WrittenPart
        What may be played as written.
    fill : bool
        Whether the network plays in the long rests of that.
    harmony : Harmony or None
        The score's, for a model that takes what comes.

    Attributes
    ----------
    controls : float32 (4,) or None
        Density and register that are wished for.
    enters : bool
        The next note of its own comes on the earliest tick, whatever the network would draw.
    """

    def __init__(
        self,
        performer: Performer,
        constraints: Constraints,
        metre: Metre,
        written: WrittenPart,
        *,
        fill: bool = True,
        harmony: Harmony | None = None,
    ) -> None:
        self.performer, self.constraints, self.metre = performer, constraints, metre
        self.written, self.fill = written, fill
        self.harmony = harmony if "ahead" in performer.network.takes else None
        self.controls: v.Float | None = None
        self.draft = Draft(performer)
        self.reset(0.0)

    def reset(self, quarter: float) -> None:
        """As new, at that place of the score."""
        self.draft.drop()
        self.performer.reset()
        self.enters = False
        self._foreseen: tuple[tuple[object, ...], NoteEvent, Snapshot] | None = None
        self._bar = (-1, -1)
        self.turn_to(quarter)

    def turn_to(self, quarter: float) -> None:
        """Of what is written, the notes from `quarter` on are to come."""
        self.draft.place = self.written.place(math.ceil(quarter * v.TICKS_PER_QUARTER - 1e-6))

    def along(self, earliest: int, condition: v.Float) -> bool:
        """Plan the next note of what is written, or one in the rest before it. False where the music has ended."""
        place, before = self.draft.place, self.performer.tick
        rest, until = self.written.rest(place)
        if self.fill and until - max(rest, before) >= LONG_REST:
            if self.own(max(earliest, rest), condition, until=until).tick < until:
                return True
            self.draft.undo()
        if place == len(self.written):
            return False
        tick, pitch, duration, part = self.written.notes[place]
        self.draft.add(NoteEvent(max(0, tick - before), pitch, duration), self.performer.snapshot(), NOTHING, part)
        return True

    def own(self, earliest: int, condition: v.Float, dt: int | None = None, until: int = FAR, ahead: bool = True) -> Step:
        """Plan a note of the network's own, not before the tick `earliest`; it is to end by `until`.

        dt : as an earlier draft had it, where only the pitch is to be chosen anew; ahead : whether the harmony to come may be known.
        """
        performer = self.performer
        line, bar = self.metre.bar_at(performer.tick / v.TICKS_PER_QUARTER).ticks
        if (line % bar, bar) != self._bar:
            self._bar = line % bar, bar
            performer.set_bar(line, bar)
        coming = self.harmony.ahead(performer.tick) if ahead and self.harmony is not None else None
        before = performer.snapshot()
        if self.enters:
            self.enters, dt = False, max(0, earliest - performer.tick)
            if self._foreseen is not None and self._foreseen[0] == self._circumstances(dt, condition, coming):
                return self.draft.put(self._foreseen[1], before, self._foreseen[2], condition, until=until)
        note = performer.query(self.constraints, condition, earliest, dt, ahead=coming, controls=self.controls)
        return self.draft.add(note, before, condition, until=until)

    def foresee(self, tick: int, condition: v.Float, ahead: bool = True) -> None:
        """Choose the note with which it would enter at `tick`, and forget it: if nothing is another then, it is at hand.

        A network that has slept takes a millisecond for it, most of that to fetch its weights from memory.
        """
        performer = self.performer
        coming = self.harmony.ahead(performer.tick) if ahead and self.harmony is not None else None
        circumstances = self._circumstances(max(0, tick - performer.tick), condition, coming)
        if self._foreseen is not None and self._foreseen[0] == circumstances:
            return
        self.enters = True
        note = self.own(tick, condition, ahead=ahead).note
        self._foreseen = circumstances, note, performer.snapshot()
        self.draft.undo()

    def _circumstances(self, dt: int, condition: v.Float, coming: v.Float | None) -> tuple[object, ...]:
        """All that decides which note comes after `dt` ticks, the bar apart, which is set before."""
        performer = self.performer
        given = tuple(b"" if x is None else x.tobytes() for x in (condition, coming, self.controls))
        return (dt, given, self.constraints, performer.circumstances())
