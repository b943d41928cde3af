"""Plays recorded sounds at any pitch: cubic interpolation (Catmull-Rom), cut with a raised-cosine fade."""

from __future__ import annotations

import math

import numpy as np

from rtserver.kernels import jit

F32 = np.ndarray
ENDLESS = 1 << 60  # no end: the sound plays to its own


@jit("void(float32[:,::1], float32[:,::1], int64, float64, float32, float32, int64, int64)")
def play(out: F32, sound: F32, start: int, ratio: float, left: float, right: float, end: int, fade: int) -> None:  # noqa: PLR0917
    """Add `sound` (1 or 2 channels, m) to `out` (2, n) from frame `start`, `ratio` times as quick, faded over `fade` frames from `end` on.

    A start before the first frame leaves the beginning out. `left` and `right` are gains.
    """
    n, m, second = out.shape[1], sound.shape[1], sound.shape[0] - 1
    last = min(n, start + np.int64((m - 3) / ratio), end + fade)
    for t in range(max(0, start), last):
        position = (t - start) * ratio
        i = np.int64(position)
        f = np.float32(position - i)
        before = max(i - 1, 0)
        gain = np.float32(1.0)
        if t >= end:
            gain = np.float32(0.5 + 0.5 * math.cos(math.pi * (t - end) / fade))
        a, b, c, d = sound[0, before], sound[0, i], sound[0, i + 1], sound[0, i + 2]
        y = b + np.float32(0.5) * f * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)))
        out[0, t] += left * gain * y
        if second:
            a, b, c, d = sound[1, before], sound[1, i], sound[1, i + 1], sound[1, i + 2]
            y = b + np.float32(0.5) * f * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)))
        out[1, t] += right * gain * y


def panned(gain: float, pan: float) -> tuple[np.float32, np.float32]:
    """Gains of left and right, `pan` from -1 to 1, of equal power, 0 dB in the middle."""
    angle = (pan + 1.0) * math.pi / 4.0
    return np.float32(gain * math.sqrt(2.0) * math.cos(angle)), np.float32(gain * math.sqrt(2.0) * math.sin(angle))


def decibels(x: float) -> float:
    """A level in dB as a factor."""
    return 10.0 ** (x / 20.0)
