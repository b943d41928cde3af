"""A small tempo model: the straight line through the last seconds of the path, and a smooth position that runs along it.

The rate is in frames of the reference a hop: 1 is the nominal tempo. A Huber-weighted least-squares line (P. J. Huber, "Robust estimation
of a location parameter", 1964; two reweightings) does not care for the stray places that a warping path has; its slope is smoothed, and
the position extrapolates with it between corrections by the path. Where the path stands still for long, the player pauses: that is no
tempo, so the line begins anew when it moves on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.kernels import jit

Floats = npt.NDArray[np.float64]

WINDOW = 300  # hops: 3 s of the path; shorter follows the jitter of the path, longer misses a ritardando
LEAST = 50  # hops before the line is trusted
KNEE = 5.0  # frames: a place further off the line than 50 ms counts less
SMOOTHING = 0.05  # of the slope, a hop: a fifth of a second
CORRECTION = 0.3  # of the position towards the path, a hop: what jitter is left does not show, and a hesitation shows within 30 ms
LARGEST = 30.0  # frames that one correction sees at most
LEAP = 100.0  # frames: further than a second off, the position is set anew
STALL = 40  # hops without progress that are a pause: the longest that a path rests on a held note while the player goes on
SLOWEST, FASTEST = 0.25, 4.0  # rates outside these are not tempo


@jit("float64(float64[::1], int64)")
def robust_slope(ring: Floats, n: int) -> float:
    """Slope of the Huber line through the newest values of a ring; value k of `n` lies at ``ring[k % len(ring)]``."""
    size = min(ring.shape[0], n)
    origin = ring[(n - size) % ring.shape[0]]
    slope, offset = 0.0, 0.0
    for again in range(3):
        sw, sx, sy, sxx, sxy = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(size):
            x = float(i)
            y = ring[(n - size + i) % ring.shape[0]] - origin
            w = 1.0
            if again > 0:
                error = abs(y - offset - slope * x)
                w = 1.0 if error <= KNEE else KNEE / error
            sw += w
            sx += w * x
            sy += w * y
            sxx += w * x * x
            sxy += w * x * y
        slope = (sw * sxy - sx * sy) / max(sw * sxx - sx * sx, 1e-9)
        offset = (sy - slope * sx) / sw
    return float(slope)


class TempoModel:
    """Places of a path in, a smooth place and a rate out, one hop a call.

    Attributes
    ----------
    place : float
        Smoothed place in the reference, frames.
    rate : float
        Frames of the reference a hop.
    """

    def __init__(self) -> None:
        self._ring = np.zeros(WINDOW)
        robust_slope(self._ring, 1)
        self.reset()

    def reset(self, place: float = 0.0, rate: float = 1.0) -> None:
        """Start at `place` with `rate`."""
        self._n = 0
        self._furthest = place
        self._stall = 0
        self.place = place
        self.rate = rate

    def process(self, place: float, rate: float | None = None) -> None:
        """Take the place that the path names for this hop, and the rate, if it is known from elsewhere than the line."""
        if abs(place - self.place - self.rate) > LEAP:
            self.reset(place, self.rate)
        if place <= self._furthest:
            self._stall += 1
        elif self._stall > STALL:
            self._n = self._stall = 0
        else:
            self._stall = 0
        self._furthest = max(place, self._furthest)
        moving = self._stall <= STALL
        if moving:
            self._ring[self._n % WINDOW] = place
            self._n += 1
            if rate is not None:
                self.rate = rate
            elif self._n >= LEAST:
                slope = robust_slope(self._ring, self._n)
                self.rate += SMOOTHING * (min(max(slope, SLOWEST), FASTEST) - self.rate)
            self.place += self.rate
        self.place += CORRECTION * min(max(place - self.place, -LARGEST), LARGEST)
