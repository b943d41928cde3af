"""The follower by hand: where the player is, said by somebody who knows; bars to be played again and again.

What is said names places (`rtserver.following.naming`). A tap speaks of the moment at which it came (`available_frame` of its command),
not of the later one at which it takes effect.
"""

from __future__ import annotations

import msgspec
import numpy as np

from rtserver.errors import ScoreError
from rtserver.events import Command, Position
from rtserver.following.follower import Follower
from rtserver.following.naming import quarter_of, stretch_of
from rtserver.following.score import Score
from rtserver.following.states import FOLLOWING

AHEAD_S = 0.1  # so long before a loop ends the follower listens for its beginning: nobody turns back to the millisecond
LEAPT = 2.0  # quarters beyond the end of a loop: nobody has passed it, somebody has left it
MOST_TAPS = 16  # that can be undone
NEAR = 1e-6  # quarters


class Hand:
    """Obeys ``reset``, ``seek``, ``start_at``, ``tap``, ``untap`` and ``loop`` for a follower.

    Parameters
    ----------
    follower : Follower
        Prepared.
    sample_rate : int
    """

    def __init__(self, follower: Follower, sample_rate: int) -> None:
        self._follower, self._score, self._sample_rate = follower, follower.score, sample_rate
        self._start = 0.0
        self._loop: tuple[float, float] | None = None
        self._forget()

    def _forget(self) -> None:
        self._at: Position | None = None  # the last position, as shown
        self._taps: list[float] = []  # by how many quarters each has moved the follower
        self._inside = self._turning = False  # within the loop; between its end and its beginning

    def obey(self, command: Command) -> None:
        """Do what `command` says, before the next hop. Raises `ScoreError` for a place that the score has not; then nothing happens."""
        value = command.value
        if command.name == "reset":
            self._seek(self._start)
        elif command.name == "start_at":
            self._start = self._quarter(value)
            self._seek(self._start)
        elif command.name == "seek":
            self._seek(self._quarter(value))
        elif command.name == "tap":
            self._tap("bar" if value is None else str(value), command.available_frame)
        elif command.name == "untap":
            self._untap()
        elif command.name == "loop":
            self._loop = None if value in (None, "off") else stretch_of(self._score, str(value))
            self._inside = self._turning = False

    def take(self, position: Position) -> Position:
        """Take what the follower says after each hop; returns what is to be told."""
        shown = position
        if self._loop is not None and position.state in FOLLOWING:
            quarter = self._turn(position, *self._loop)
            if quarter != position.quarter:
                shown = msgspec.structs.replace(position, quarter=quarter, beat=float(self._score.beat_at(quarter)))
        self._at = shown
        return shown

    def _turn(self, position: Position, begin: float, end: float) -> float:
        """At the end of a loop expect its beginning; returns the quarter within the loop.

        Shortly before the end the follower is put as far before the beginning, so that it is the beginning that it listens for. Until
        that is reached the loop has not ended.
        """
        quarter, length = position.quarter, end - begin
        ahead = min(AHEAD_S * position.tempo_bpm / 60.0, 0.25 * length)
        if self._turning:
            self._turning = begin - 2.0 * ahead - NEAR <= quarter < begin - NEAR
            if self._turning:
                return max(quarter + length, end - ahead)
        elif self._inside and end - ahead <= quarter < end + LEAPT:
            self._follower.anchor(quarter - length)
            self._turning = quarter < end
            self._inside = True
            return quarter if quarter < end else quarter - length
        self._inside = begin - NEAR <= quarter < end
        return quarter

    def _quarter(self, value: object) -> float:
        return quarter_of(self._score, value) if isinstance(value, str) else float(value or 0.0)  # pyright: ignore[reportArgumentType]

    def _seek(self, quarter: float) -> None:
        self._follower.seek(quarter)
        self._forget()

    def _tap(self, value: str, frame: int) -> None:
        """The player was at a place at session frame `frame`: a named one, or the nearest bar line or beat."""
        at = self._at
        if value not in ("bar", "beat"):
            goal = quarter_of(self._score, value)
        elif at is None:
            raise ScoreError(f"nothing has been followed yet that a {value} could be near to: name the bar")
        else:
            goal = (nearest_bar if value == "bar" else nearest_beat)(self._score, at.quarter + self._since(at, frame))
        if at is None:
            self._follower.anchor(goal)
            return
        target = goal - self._since(at, frame)
        self._taps = [*self._taps[1 - MOST_TAPS :], target - at.quarter]
        self._anchor(at, target)

    def _untap(self) -> None:
        if not self._taps or self._at is None:
            raise ScoreError("there is no tap to undo")
        self._anchor(self._at, self._at.quarter - self._taps.pop())

    def _anchor(self, at: Position, quarter: float) -> None:
        self._turning = False
        self._at = msgspec.structs.replace(at, quarter=quarter)
        self._follower.anchor(quarter)

    def _since(self, at: Position, frame: int) -> float:
        """Quarters that the player goes between a position and `frame`."""
        moves = at.state in FOLLOWING
        return (frame - at.frame) / self._sample_rate * at.tempo_bpm / 60.0 if moves else 0.0


def nearest_bar(score: Score, quarter: float) -> float:
    """The bar line nearest to `quarter`."""
    begins = score.bar_quarter[score.bar_into == 0.0] if len(score.bar_into) else score.bar_quarter
    lines = begins if len(begins) else score.bar_quarter
    return float(lines[int(np.argmin(np.abs(lines - quarter)))])


def nearest_beat(score: Score, quarter: float) -> float:
    """The beat of the metre nearest to `quarter`."""
    k = max(int(np.searchsorted(score.metre_quarter, quarter + NEAR, side="right")) - 1, 0)
    beat = score.place_at(quarter).beat
    return quarter + (round(beat) - beat) * 4.0 / float(score.metre[k, 1])
