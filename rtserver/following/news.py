"""What is new in a stream of positions: a bar begins, the tempo is another, the follower is surer or less sure."""

from __future__ import annotations

import numpy as np

from rtserver.events import Bar, Event, Position, State, Tempo
from rtserver.following.score import Score

NOTABLE = 0.05  # share by which the tempo must have changed since it was told
BACK = 0.5  # quarters before a bar line that a position may fall back without having left the bar


class News:
    """Positions in, `Bar`, `Tempo` and `State` events out, with the frames of the position that they come from."""

    def __init__(self, score: Score) -> None:
        self._score = score
        self._bar = -1
        self._tempo_bpm = 0.0
        self._state = ""

    def take(self, position: Position) -> list[Event]:
        """What this position has new, in the order state, tempo, bar. Before the first sound there is neither tempo nor bar."""
        frame, available, quarter = position.frame, position.available_frame, position.quarter
        found: list[Event] = []
        if position.state != self._state:
            self._state = position.state
            found.append(State(frame, available, position.state))
        if position.state == "WAITING":
            self._bar, self._tempo_bpm = -1, 0.0
            return found
        if abs(position.tempo_bpm - self._tempo_bpm) > NOTABLE * self._tempo_bpm:
            self._tempo_bpm = position.tempo_bpm
            found.append(Tempo(frame, available, position.tempo_bpm))
        lines = self._score.bar_quarter
        bar = max(int(np.searchsorted(lines, quarter + 1e-6, side="right")) - 1, 0)
        fell_back = bar == self._bar - 1 and quarter > lines[self._bar] - BACK
        if bar != self._bar and not fell_back:
            self._bar = bar
            quarter = max(quarter, float(lines[bar]))  # who is about to begin is at the first line
            place = self._score.place_at(quarter)
            found.append(Bar(frame, available, place.bar, place.beat, place.mark, quarter))
        return found
