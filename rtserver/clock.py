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


FIRST_ERROR_S = 0.02  # what the error is taken to be before anything is known of it
FIRST_SCALE_S = 0.001  # the same of the usual jitter
FORGET_S = 2.0  # for so long the largest disagreement of late counts, by 1/e
SCALE_S = 1.0  # the usual jitter is an average over so long
LEAST_LIMIT_S = 1e-4  # no disagreement below this is an outlier
OUTLIER = 4.0  # times the usual jitter
JUMP_S = 0.1  # a disagreement beyond this is no jitter
STEP_S = 0.25  # disagreeing for so long in one direction is no jitter: frames were lost
FIRST_BANDWIDTH_HZ = 0.5
SETTLED_S = 10.0  # after so long the rate is worth keeping over a step
MOST_OFF = 2e-3  # of the rate: twice what the worst audio devices are off; beyond that frames were lost or stamps came late


class DelayLockedLoop:
    """Second-order loop that turns jittery (frame, time) pairs into a smooth line.

    F. Adriaensen, "Using a DLL to filter time", Linux Audio Conference 2005: the loop predicts the next time stamp and corrects
    offset and rate by fractions of the error set by its bandwidth. What is added: it begins wide and narrows as it learns; a
    disagreement beyond what is usual counts only as much as that; one that stays is a step, and the line starts anew there, at the
    rate from before it; no rate is believed that no device has.

    Parameters
    ----------
    sample_rate : float
        Nominal frames per second; the estimate starts from it.
    bandwidth_hz : float
        Loop bandwidth once it has settled: lower is smoother and slower.

    Attributes
    ----------
    frame, time_s, rate : float
        The line: `frame` is at `time_s`, `rate` frames a second. The rate is never more than 0.2 % off the nominal one: a machine that
        stands still loses frames, or stamps them late and in bursts, and that says nothing of the device.
    error_s : float
        How far from the true line it may lie at `frame`: twice the largest disagreement of late, which fades by 1/e in 2 s. It holds
        as long as some pairs of the last seconds came promptly; a delay that all pairs share cannot be seen.

    Notes
    -----
    After 10 s the rate of a device 300 ppm off is known to 1 ppm without jitter, and to 200 ppm where a fifth of the callbacks is lost, the
    others are up to 2 ms late, and some 5 ms more. After 1 s the line lies within 2.5 ms, and then within the jitter.
    """

    def __init__(self, sample_rate: float, bandwidth_hz: float = 0.1) -> None:
        self.nominal_rate = float(sample_rate)
        self.bandwidth_hz = bandwidth_hz
        self.reset()

    def reset(self) -> None:
        """Forget everything; the next pair starts the line anew."""
        self.rate = self.nominal_rate  # frames a second
        self._known_rate = self.rate  # of a line that had settled, when pairs last agreed with it
        self.frame = 0.0
        self.time_s = 0.0
        self.restart()

    def restart(self) -> None:
        """The stream started anew: the next pair starts the line, at the rate that is known."""
        self.error_s = FIRST_ERROR_S
        self.locked = False
        self._age_s = 0.0
        self._scale_s = FIRST_SCALE_S
        self._astray_s = 0.0  # for how long pairs have disagreed, with the sign of their error

    def update(self, frame: int, time_s: float) -> None:
        """Take one pair. One more than 0.1 s off the line starts the line anew: no jitter is that large."""
        if not self.locked:
            self.frame, self.time_s, self.locked = float(frame), time_s, True
            return
        dt = (frame - self.frame) / self.rate
        if dt <= 0:
            return
        error = time_s - (self.time_s + dt)
        if abs(error) > JUMP_S:
            self._begin(frame, time_s, error)
            return
        passed_s = min(dt, time_s - self.time_s)  # less than the frames say where callbacks are made up for in a burst
        self.error_s *= math.exp(-max(passed_s, 0.0) / FORGET_S)
        self.error_s = max(2.0 * abs(error), self.error_s)
        limit = max(OUTLIER * self._scale_s, LEAST_LIMIT_S)
        self._note_step(error, limit, dt)
        if abs(self._astray_s) > STEP_S:
            self._begin(frame, time_s, error)
            return
        error = min(max(error, -limit), limit)
        self._scale_s += min(dt / SCALE_S, 1.0) * (abs(error) - self._scale_s)
        self._age_s += dt
        bandwidth_hz = max(self.bandwidth_hz, FIRST_BANDWIDTH_HZ / (1.0 + self._age_s))
        omega = min(2.0 * math.pi * bandwidth_hz * dt, 0.5)
        self.time_s = self.time_s + dt + math.sqrt(2.0) * omega * error
        period = 1.0 / self.rate + omega * omega * error / (frame - self.frame)
        self.rate = min(max(1.0 / period, self.nominal_rate * (1.0 - MOST_OFF)), self.nominal_rate * (1.0 + MOST_OFF))
        self.frame = float(frame)

    def _begin(self, frame: int, time_s: float, error: float) -> None:
        """A step. The rate is as before it. Until later pairs tell, it may be that no frames were lost but that this pair came late."""
        error_s = self.error_s + max(error, 0.0)  # no pair comes early
        self.rate = self._known_rate
        self.restart()
        self.error_s = max(self.error_s, error_s)
        self.frame, self.time_s, self.locked = float(frame), time_s, True

    def _note_step(self, error: float, limit: float, dt: float) -> None:
        if abs(error) <= limit:
            self._astray_s = 0.0
            if self._age_s > SETTLED_S:
                self._known_rate = self.rate
        elif error * self._astray_s < 0.0:
            self._astray_s = math.copysign(dt, error)
        else:
            self._astray_s += math.copysign(dt, error)

    def frame_at(self, time_s: float) -> float:
        """The session frame at `time_s`."""
        return self.frame + (time_s - self.time_s) * self.rate

    def time_at(self, frame: float) -> float:
        """The time of session frame `frame`."""
        return self.time_s + (frame - self.frame) / self.rate
