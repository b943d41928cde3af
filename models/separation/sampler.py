"""Plays recorded sounds at any pitch or speed, by cubic interpolation: notes added to a part, cut with a raised-cosine fade; stretches."""

from __future__ import annotations

import math

import numpy as np

from rtserver.kernels import inlined, jit

F32 = I16 = np.ndarray
ENDLESS = 1 << 60  # no end: the sound plays to its own


@inlined
def cubic(sound: F32 | I16, channel: int, i: int, f: float) -> float:
    """`sound` (channels, m) at frame i + f, 0 <= f < 1, on a Catmull-Rom spline; the first frame stands for the one before it, too.

    Its callers lie in this file: of a callee in another file the cache of kernels would not see that it changed.
    """
    a, b, c, d = sound[channel, max(i - 1, 0)], sound[channel, i], sound[channel, i + 1], sound[channel, i + 2]
    a, b, c, d = np.float32(a), np.float32(b), np.float32(c), np.float32(d)
    return b + np.float32(0.5) * f * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)))


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
        gain = np.float32(1.0)
        if t >= end:
            gain = np.float32(0.5 + 0.5 * math.cos(math.pi * (t - end) / fade))
        y = cubic(sound, 0, i, f)
        out[0, t] += left * gain * y
        if second:
            y = cubic(sound, 1, i, f)
        out[1, t] += right * gain * y


@jit("void(int16[:,::1], int64, float64, float32, float32, float32, float32, float32[:,::1])")
def cut_out(source: I16, start: int, speed: float, ll: float, lr: float, rl: float, rr: float, out: F32) -> None:  # noqa: PLR0917
    """Fill `out` (2, n) from frame `start` of `source` (2, m), `speed` times as quick, through a 2 by 2 matrix (pan, width, polarity).

    left = ll·left + lr·right, right = rl·left + rr·right. What lies behind the end is silent.
    """
    m = source.shape[1]
    for t in range(out.shape[1]):
        position = t * speed
        i = np.int64(position)
        f = np.float32(position - i)
        i += start
        if i + 2 >= m:
            out[0, t] = out[1, t] = np.float32(0.0)
            continue
        x, y = cubic(source, 0, i, f), cubic(source, 1, i, f)
        out[0, t] = ll * x + lr * y
        out[1, t] = rl * x + rr * y


def panned(gain: float, pan: float) -> tuple[np.float32, np.float32]:
    """Gains of left and right, `pan` from -1 to 1, of equal power, 0 dB in the middle."""
    angle = (pan + 1.0) * math.pi / 4.0
    return np.float32(gain * math.sqrt(2.0) * math.cos(angle)), np.float32(gain * math.sqrt(2.0) * math.sin(angle))


def decibels(x: float) -> float:
    """A level in dB as a factor."""
    return 10.0 ** (x / 20.0)
