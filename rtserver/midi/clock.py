"""MIDI clock in: from 24 jittery ticks a quarter to position, tempo and whether the music runs. Pure: the caller brings the times.

The first ticks are averaged; then a second-order loop takes over, after F. Adriaensen, "Using a DLL to filter time", Linux Audio
Conference 2005: each tick is predicted, and a part of the error corrects offset and period. It narrows as it settles, to hide the jitter of
cables, drivers and periods. What a tick that is off by more than its jitter means, the next ones tell: if they keep their distance, ticks
were lost on the way, and are made up for; if they do not, the tempo has changed, and the loop starts anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TICK, START, CONTINUE, STOP, POSITION = 0xF8, 0xFA, 0xFB, 0xFC, 0xF2
CLOCK_MESSAGES = frozenset((TICK, START, CONTINUE, STOP, POSITION))
TICKS_PER_QUARTER = 24
TICKS_PER_SIXTEENTH = 6  # the unit of song position
WIDE, NARROW = 0.12, 0.03  # loop bandwidth times 2 pi, per tick: settles within two quarters, then averages over some fifty ticks
SETTLING = 48  # ticks over which it narrows
AVERAGED = 12  # first ticks, whose mean distance is the period to begin with
SLOWEST_S, FASTEST_S = 60 / (20 * 24), 60 / (400 * 24)  # seconds a tick at 20 and at 400 quarters a minute
SILENT_S = 0.5  # without a tick for so long, the clock has gone
ASTRAY = 4  # ticks in a row that are off: the tempo has changed
LEARNT = 24  # ticks after which the jitter is known, so that what is off can be told from what jitters
JITTER_FADE = 0.995  # per tick: the largest jitter is forgotten within some ten quarters


@dataclass(frozen=True, slots=True)
class Fix:
    """The clock at one moment: position in quarters at `at_s`, quarters a minute, and whether it advances."""

    at_s: float
    quarter: float
    tempo_bpm: float
    running: bool


class ClockIn:
    """Follows one MIDI clock.

    Parameters
    ----------
    grain_s : float
        What arrivals are rounded up to, in seconds; a JACK period, as a rule. Where it is as long as a tick, a lost one cannot be told.

    Attributes
    ----------
    ticks, lost, since_start : int
        Ticks that came; ticks that are known to be missing between them; ticks that came since it runs.
    """

    def __init__(self, grain_s: float = 0.0) -> None:
        self.grain_s = grain_s
        self.ticks = 0
        self.lost = 0
        self.running = False
        self.since_start = 0  # ticks
        self._position = 0  # in ticks: of the last tick, or, while it stands still, of the next
        self._fresh = True  # the next tick is the one at `_position`, and does not advance it
        self._forget()

    @property
    def locked(self) -> bool:
        """Whether the tempo is known."""
        return self._period_s > 0.0

    @property
    def tempo_bpm(self) -> float:
        """Quarters a minute; 0 while not known."""
        return 60.0 / (TICKS_PER_QUARTER * self._period_s) if self.locked else 0.0

    def take(self, message: bytes, at_s: float) -> Fix | None:
        """Take a message that arrived at `at_s`. Returns the clock as it is then, or None if that is not news or not known."""
        if message[0] == TICK:
            return self._tick(at_s)
        if message[0] == START:
            self._position, self._fresh, self.running = 0, True, True
        elif message[0] == CONTINUE:
            self._fresh, self.running = True, True
        elif message[0] == STOP:
            if self.running and not self._fresh:
                self._position += 1  # where it goes on
            self._fresh, self.running = True, False
            return self._fix(at_s)
        elif message[0] == POSITION and len(message) == 3:
            self._position, self._fresh = (message[1] | message[2] << 7) * TICKS_PER_SIXTEENTH, True
            return None if self.running else self._fix(at_s)
        return None

    def silent(self, now_s: float) -> Fix | None:
        """If the clock has gone without a stop: told once, standing still. A tick makes it run on from there."""
        if not self.running or self._dead or not self.ticks or now_s - self._last_s < SILENT_S:
            return None
        self._dead = True
        return Fix(now_s, self._position / TICKS_PER_QUARTER, self.tempo_bpm, False)

    def _tick(self, at_s: float) -> Fix | None:
        self.ticks += 1
        advance = self._filter(at_s)
        self._last_s = at_s
        self._dead = False
        if not self.running:
            return None
        self.since_start += 1
        if self._fresh:
            self._fresh, self.since_start = False, 1
        else:
            self._position += advance
        return self._fix(self._time_s) if self.locked and not self._odd_s else None

    def _fix(self, at_s: float) -> Fix:
        return Fix(at_s, self._position / TICKS_PER_QUARTER, self.tempo_bpm, self.running)

    def _forget(self) -> None:
        """The next tick starts the loop anew."""
        self._period_s = 0.0
        self._time_s = self._last_s = self._first_s = 0.0
        self._n = 0  # ticks in the loop
        self._jitter_s = 0.0
        self._odd_s: list[float] = []  # arrivals of ticks in a row that are not explained, after the arrival of the one before
        self._dead = False

    def _filter(self, at_s: float) -> int:
        """Take a tick into the loop; by how many ticks the clock has advanced."""
        gap_s = at_s - self._last_s
        if self._n and gap_s > SILENT_S:
            self._forget()
        self._n += 1
        if self._n == 1:
            self._time_s = self._first_s = at_s
            return 1
        if self._n <= AVERAGED:
            self._settle(at_s, (at_s - self._first_s) / (self._n - 1))
            return 1
        error_s = at_s - self._time_s - (len(self._odd_s) or 1) * self._period_s
        spread_s = max(self._jitter_s, self.grain_s)
        n_lost = 0
        if self._n > LEARNT and abs(error_s) > 0.5 * self._period_s + spread_s:
            if not self._hole(gap_s, 0.3 * self._period_s + spread_s):
                return self._stray(at_s)
            n_lost = max(round(error_s / self._period_s), 1)
            self.lost += n_lost
        else:
            # Once it is known it grows slowly: the first tick of another tempo must not pass for jitter.
            seen_s = abs(error_s) if self._n <= LEARNT else min(abs(error_s), 1.2 * self._jitter_s)
            self._jitter_s = max(seen_s, self._jitter_s * JITTER_FADE)
        steps = (len(self._odd_s) or 1) + n_lost
        error_s -= n_lost * self._period_s
        self._odd_s.clear()
        omega = max(NARROW, WIDE * (1.0 - self._n / SETTLING))
        self._time_s += steps * self._period_s + math.sqrt(2.0) * omega * error_s
        self._period_s = _bounded(self._period_s + omega * omega * error_s)
        return 1 + n_lost

    def _hole(self, gap_s: float, near_s: float) -> bool:
        """Whether what is off began with a gap of whole periods, after which the ticks keep their distance."""
        if not self._odd_s or abs(gap_s - self._period_s) > near_s:
            return False
        first_s = self._odd_s[1] - self._odd_s[0]
        n_periods = round(first_s / self._period_s)
        return n_periods > 1 and abs(first_s - n_periods * self._period_s) < near_s

    def _stray(self, at_s: float) -> int:
        """A tick that the loop cannot explain: the next ones tell what it was."""
        if not self._odd_s:
            self._odd_s.append(self._last_s)
        self._odd_s.append(at_s)
        n_odd = len(self._odd_s) - 1
        if n_odd == ASTRAY:
            self._settle(at_s, (at_s - self._odd_s[0]) / n_odd)
            self._first_s, self._n = self._odd_s[0], n_odd + 1
            self._odd_s.clear()
        return 1

    def _settle(self, at_s: float, period_s: float) -> None:
        self._time_s, self._period_s = at_s, _bounded(period_s)


def _bounded(period_s: float) -> float:
    return min(max(period_s, FASTEST_S), SLOWEST_S)
