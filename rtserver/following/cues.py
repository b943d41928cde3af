"""Cues: what is to happen at places of a score, each once, however the position gets there.

A cue is *passed* when the position, plus the way that the player goes within the cue's lead time, reaches its place. It fires then,
unless it was passed before, is disarmed, or was left so far behind by a leap that it is dropped. A position that trembles passes nothing
twice; only one that has clearly gone back lets a cue fire again, and only where the cue says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rtserver.following.states import BACK_S, FORWARD_S

ARRIVE_S = 0.25  # where somebody enters this late after a place, he enters at the place
WAITING, PASSED, HELD = 0, 1, 2  # states of a cue; HELD: taken back by hand while the player is beyond it


class Mark(NamedTuple):
    """What decides when a cue fires: its `quarter`, how long before, and whether it does although skipped, and anew when passed again."""

    quarter: float
    lead_s: float = 0.0
    fire_skipped: bool = False
    again: bool = False


class Fired(NamedTuple):
    """Cue `number` fired, or was dropped. how : ``place``, ``skipped``, ``hand`` or ``dropped``; ahead_s : until its place, >= 0."""

    number: int
    how: str
    ahead_s: float


class Cues:
    """Positions in, cues out.

    Parameters
    ----------
    marks : sequence of Mark
    state, armed : int8 (n,)
        Kept up to date in place, so that an heir knows what has fired. `armed` is as it should be at the start.

    Notes
    -----
    Times are music's: seconds that the player needs at the present tempo.
    """

    def __init__(self, marks: Sequence[Mark], state: npt.NDArray[np.int8], armed: npt.NDArray[np.int8]) -> None:
        self.marks = list(marks)
        self.state, self.armed = state, armed
        self._order = sorted(range(len(self.marks)), key=lambda i: (self.marks[i].quarter, i))
        self._history: list[int] = []
        self._quarter, self._tempo_bpm = 0.0, 120.0
        self._floor: float | None = None  # what lies before it is not passed: the player began here
        self._furthest = 0.0

    def reset(self, quarter: float = 0.0) -> None:
        """Everything may fire again; the player begins at `quarter`."""
        self.state[:] = WAITING
        self._history.clear()
        self.seek(quarter)

    def seek(self, quarter: float) -> None:
        """The player goes on from `quarter`, by hand: what lies between is neither fired nor dropped."""
        self._floor, self._quarter = None, quarter

    def take(self, quarter: float, tempo_bpm: float) -> list[Fired]:
        """A position that can be trusted: what fires at it, in the order of the score."""
        a_second = tempo_bpm / 60.0
        self._quarter, self._tempo_bpm = quarter, tempo_bpm
        arrived = quarter - ARRIVE_S * a_second
        if self._floor is None or quarter < self._furthest - BACK_S * a_second:
            self._return(arrived)
            self._furthest = quarter
            self._floor = arrived
        self._furthest = max(self._furthest, quarter)
        fired: list[Fired] = []
        for index in self._order:
            mark = self.marks[index]
            reached = self._floor <= mark.quarter <= quarter + mark.lead_s * a_second
            if not reached or self.state[index] != WAITING:
                continue
            self.state[index] = PASSED
            if not self.armed[index]:
                continue
            behind_s = (quarter - mark.quarter) / a_second
            how = "place" if behind_s <= FORWARD_S else "skipped" if mark.fire_skipped else "dropped"
            fired.append(self._fire(index, how))
        return fired

    def arm(self, indices: Sequence[int], armed: bool) -> None:
        """Let cues fire, or not. One that is armed behind the player waits until it is passed again."""
        for index in indices:
            self.armed[index] = armed

    def go(self) -> Fired | None:
        """Fire the next one now; None if there is none."""
        index = self.next
        if index is None:
            return None
        self.state[index] = PASSED
        return self._fire(index, "hand")

    def back(self) -> int | None:
        """Take the last one back: it may fire again, by `go`, or once the player has gone back before it. None if there is none."""
        if not self._history:
            return None
        index = self._history.pop()
        ahead = self.marks[index].quarter - self.marks[index].lead_s * self._tempo_bpm / 60.0 > self._quarter
        self.state[index] = WAITING if ahead else HELD
        return index

    @property
    def next(self) -> int | None:
        """The cue that `go` would fire: the first one taken back, else the first one ahead that is armed."""
        here = self._quarter - ARRIVE_S * self._tempo_bpm / 60.0
        for index in self._order:
            ahead = self.state[index] == WAITING and self.marks[index].quarter >= here
            if self.armed[index] and (ahead or self.state[index] == HELD):
                return index
        return None

    def _fire(self, index: int, how: str) -> Fired:
        self._history = [*(i for i in self._history if i != index), index]
        ahead = (self.marks[index].quarter - self._quarter) * 60.0 / self._tempo_bpm
        return Fired(index, how, max(ahead, 0.0) if how == "place" else 0.0)

    def _return(self, arrived: float) -> None:
        """The player has gone back, or begins: what lies from here on and may fire again waits once more."""
        for index, mark in enumerate(self.marks):
            if mark.quarter >= arrived and (self.state[index] == HELD or (mark.again and self.state[index] == PASSED)):
                self.state[index] = WAITING
