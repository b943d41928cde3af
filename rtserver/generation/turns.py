"""Whose turn it is, where the performer and the player take turns. Pure; time comes in ticks.

``continue``: once the player has been silent for a while the performer goes on, until the player comes in again. ``call_response``: it
answers from the next beat on, for as long as the call was, to the bar line.
"""

from __future__ import annotations

import math

from rtserver.generation.listener import Listener, Phrase
from rtserver.generation.metre import Metre
from rtserver.generation.vocabulary import TICKS_PER_QUARTER, NoteEvent

TAKING = ("continue", "call_response")


class Turns:
    """Follows the listener.

    Parameters
    ----------
    listener : Listener
    patience : float
        Quarters of silence of the player before the performer plays; 0 never waits.

    Attributes
    ----------
    phrase : Phrase
        What the player has played by keys since the performer's last turn.
    ours : bool
        Whether it is the performer's turn.
    start, until : float
        Ticks from which and up to which it plays in this turn; without end in ``continue``.
    """

    def __init__(self, listener: Listener, patience: float) -> None:
        self.listener, self.patience = listener, patience
        self.reset()

    def reset(self) -> None:
        """As new: nobody has played."""
        self.phrase = Phrase()
        self.ours = False
        self.start, self.until = -math.inf, math.inf
        self._since: float | None = None  # where what the player says now has begun

    def shift(self, ticks: int) -> None:
        """The clock has jumped by so much."""
        self.phrase.shift(ticks)
        self.start += ticks
        self.until += ticks
        self._since = None if self._since is None else self._since + ticks

    def hear(self, tick: float) -> None:
        """The player has done something."""
        if self._since is None and (self.phrase or self.listener.sounding):
            self._since = tick

    def look(self, tick: float, mode: str, metre: Metre) -> tuple[int, list[NoteEvent]] | None:
        """See whose turn it is at `tick`. Where it has just become the performer's: the phrase, as `Phrase.take` gives it."""
        if self._since is not None:
            listener = self.listener
            if self.patience > 0 and (listener.sounding or tick - listener.quiet_since < self.patience * TICKS_PER_QUARTER):
                self.ours = False
                return None
            self._begin(tick, mode, metre)
            return self.phrase.take(round(tick))
        if mode == "call_response" and tick >= self.until:
            self.ours = False
        return None

    def _begin(self, tick: float, mode: str, metre: Metre) -> None:
        ended = self.listener.quiet_since if self.listener.quiet_since > -math.inf else tick
        length = max(ended - (self._since or 0.0), 0.0)
        self.ours, self._since = True, None
        self.start, self.until = -math.inf, math.inf
        if mode == "call_response":
            beat = metre.next_beat(tick / TICKS_PER_QUARTER)
            end = metre.next_line(beat + length / TICKS_PER_QUARTER)
            if end - beat < 1.0:  # hardly a word
                end = metre.next_line(beat + 1.0)
            self.start, self.until = beat * TICKS_PER_QUARTER, end * TICKS_PER_QUARTER
