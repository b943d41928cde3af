"""Time, injected: which session frame is heard when. Nothing in the core reads the wall clock."""

from __future__ import annotations

import math
from typing import Protocol


class Clock(Protocol):
    """Maps between session frames and CLOCK_MONOTONIC seconds."""

    def now_s(self) -> float:
        """The present, in seconds on the clock's own axis."""
        ...

    def frame_at(self, time_s: float) -> float:
        """The (fractional) session frame whose input arrives at `time_s`."""
        ...

    def time_at(self, frame: float) -> float:
        """When session frame `frame` arrives at the input, in seconds."""
        ...


class SampleClock:
    """The clock of freewheeling: frame 0 is second 0, and the present is wherever `advance` has taken it."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.frame = 0

    def advance(self, frames: int) -> None:
        """Let `frames` frames pass."""
        self.frame += frames

    def now_s(self) -> float:
        return self.frame / self.sample_rate

    def frame_at(self, time_s: float) -> float:
        return time_s * self.sample_rate

    def time_at(self, frame: float) -> float:
        return frame / self.sample_rate


class DelayLockedLoop:
    """Second-order loop that turns jittery (frame, time) pairs into a smooth line.

    F. Adriaensen, "Using a DLL to filter time", Linux Audio Conference 2005: the loop predicts the next time stamp and corrects
    offset and rate by fractions of the error set by its bandwidth.

    Parameters
    ----------
    sample_rate : float
        Nominal frames per second; the estimate starts from it.
    bandwidth_hz : float
        Loop bandwidth: lower is smoother and slower. 0.5 Hz follows a drift within seconds and hides scheduling jitter.
    """

    def __init__(self, sample_rate: float, bandwidth_hz: float = 0.5) -> None:
        self.nominal_rate = float(sample_rate)
        self.bandwidth_hz = bandwidth_hz
        self.reset()

    def reset(self) -> None:
        """Forget everything; the next pair starts the line anew."""
        self.rate = self.nominal_rate  # frames a second
        self.frame = 0.0
        self.time_s = 0.0
        self.error_s = 0.0
        self.locked = False

    def update(self, frame: int, time_s: float) -> None:
        """Take one pair. A pair more than 0.1 s off the line starts the line anew (a restart, not jitter)."""
        if not self.locked:
            self.frame, self.time_s, self.locked = float(frame), time_s, True
            return
        dt = (frame - self.frame) / self.rate
        if dt <= 0:
            return
        error = time_s - (self.time_s + dt)
        self.error_s = error
        if abs(error) > 0.1:
            self.frame, self.time_s, self.rate = float(frame), time_s, self.nominal_rate
            return
        omega = min(2.0 * math.pi * self.bandwidth_hz * dt, 0.5)
        self.time_s = self.time_s + dt + math.sqrt(2.0) * omega * error
        period = 1.0 / self.rate + omega * omega * error / (frame - self.frame)
        self.rate = 1.0 / period
        self.frame = float(frame)

    def frame_at(self, time_s: float) -> float:
        """The session frame at `time_s`."""
        return self.frame + (time_s - self.time_s) * self.rate

    def time_at(self, frame: float) -> float:
        """The time of session frame `frame`."""
        return self.time_s + (frame - self.frame) / self.rate
