"""MIDI clock out: 24 ticks a quarter with start, stop, continue and song position, from the line of the musical clock. Pure.

Every tick has an absolute deadline on the line (quarter at a time, tempo), so nothing adds up. The line is corrected all the time; ticks
bend to it and are never left out nor sent in bursts: two are at least half a period apart. A jump is told as stop, position, continue.
"""

from __future__ import annotations

import math

from rtserver.midi.clock import CONTINUE, POSITION, START, STOP, TICK, TICKS_PER_QUARTER, TICKS_PER_SIXTEENTH

JUMP = 12  # ticks: half a quarter off the line is a jump, less is made up for
CLOSEST = 0.5  # of a period: the least distance of two ticks
MAX_SIXTEENTHS = 16383  # what a song position can say


class ClockOut:
    """The ticks of one port.

    Attributes
    ----------
    ticks : int
        Ticks sent.
    """

    def __init__(self) -> None:
        self.ticks = 0
        self.running = False
        self._at_ns, self._quarter, self._tempo_bpm = 0, 0.0, 120.0
        self._next = 0  # number of the next tick, from the beginning
        self._sent_ns = 0  # when the last one went out
        self._orders: list[bytes] = []  # to be sent at once

    def take(self, at_ns: int, quarter: float, tempo_bpm: float, running: bool, now_ns: int) -> None:
        """Take the line: `quarter` is at `at_ns`, going on at `tempo_bpm`, or standing still."""
        self._at_ns, self._quarter, self._tempo_bpm = at_ns, quarter, tempo_bpm
        if not running:
            self.stop()
            return
        tick = self._tick_at(now_ns)
        if self.running and abs(tick - self._next) <= JUMP:
            return
        self.stop()
        self._begin(tick)

    def stop(self) -> None:
        """Stand still."""
        if self.running:
            self._orders.append(bytes((STOP,)))
        self.running = False

    @property
    def next_due_ns(self) -> int | None:
        """When the next message is due; None if none is."""
        if self._orders:
            return 0
        if not self.running:
            return None
        period_ns = 60e9 / (self._tempo_bpm * TICKS_PER_QUARTER)
        due_ns = self._at_ns + round((self._next - self._quarter * TICKS_PER_QUARTER) * period_ns)
        return max(due_ns, self._sent_ns + round(CLOSEST * period_ns))

    def due(self, now_ns: int) -> list[bytes]:
        """What is to be sent now."""
        messages, self._orders = self._orders, []
        due_ns = self.next_due_ns
        if due_ns is not None and due_ns <= now_ns:
            messages.append(bytes((TICK,)))
            self._next += 1
            self._sent_ns = now_ns
            self.ticks += 1
        return messages

    def _tick_at(self, now_ns: int) -> float:
        return self._quarter * TICKS_PER_QUARTER + (now_ns - self._at_ns) * 1e-9 * self._tempo_bpm / 60 * TICKS_PER_QUARTER

    def _begin(self, tick: float) -> None:
        """Run: from the start if that is now or to come, else from the next sixteenth."""
        self.running = True
        if tick <= 1.0:
            self._next = 0
            self._orders.append(bytes((START,)))
            return
        sixteenth = math.ceil(tick / TICKS_PER_SIXTEENTH) % (MAX_SIXTEENTHS + 1)
        self._next = math.ceil(tick / TICKS_PER_SIXTEENTH) * TICKS_PER_SIXTEENTH
        self._orders += [bytes((POSITION, sixteenth & 0x7F, sixteenth >> 7)), bytes((CONTINUE,))]
