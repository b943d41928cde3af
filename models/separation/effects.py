"""What is done to sound in training: kernels on float32 arrays of two channels, mostly in place."""

from __future__ import annotations

import math

import numpy as np

from rtserver.kernels import jit

F32 = I16 = np.ndarray


@jit("void(float32[:,::1], float32, float32)")
def distort(x: F32, drive: float, cut: float) -> None:
    """tanh of `drive` times the sound (scaled to a peak of one first), then a low-pass of 12 dB an octave at `cut` (share of the rate)."""
    n = x.shape[1]
    peak = np.float32(1e-9)
    for c in range(2):
        for t in range(n):
            peak = max(peak, abs(x[c, t]))
    gain, back = drive / peak, np.float32(peak * 0.5)
    k = np.float32(1.0) - np.float32(math.exp(-2.0 * math.pi * cut))
    for c in range(2):
        a = b = np.float32(0.0)
        for t in range(n):
            y = np.float32(math.tanh(gain * x[c, t]))
            a += k * (y - a)
            b += k * (a - b)
            x[c, t] = back * b


@jit("void(int16[:,::1], int64, float64, float32, float32, float32, float32, float32[:,::1])")
def cut_out(source: I16, start: int, speed: float, ll: float, lr: float, rl: float, rr: float, out: F32) -> None:  # noqa: PLR0917
    """Fill `out` (2, n) from frame `start` of `source` (2, m), `speed` times as quick, through a 2 by 2 matrix (pan, width, polarity).

    left = ll·left + lr·right, right = rl·left + rr·right. Cubic interpolation; what lies behind the end is silent.
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
        j = max(i - 1, 0)
        a, b, c, d = np.float32(source[0, j]), np.float32(source[0, i]), np.float32(source[0, i + 1]), np.float32(source[0, i + 2])
        x = b + np.float32(0.5) * f * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)))
        a, b, c, d = np.float32(source[1, j]), np.float32(source[1, i]), np.float32(source[1, i + 1]), np.float32(source[1, i + 2])
        y = b + np.float32(0.5) * f * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)))
        out[0, t] = ll * x + lr * y
        out[1, t] = rl * x + rr * y


@jit("void(float32[:,::1], float32, float32, float32)")
def peaking(x: F32, centre: float, gain_db: float, q: float) -> None:
    """A peaking equaliser at `centre` (share of the rate), after R. Bristow-Johnson's "Cookbook formulae for audio EQ biquads"."""
    w = 2.0 * math.pi * centre
    a, alpha = 10.0 ** (gain_db / 40.0), math.sin(w) / (2.0 * q)
    scale = 1.0 / (1.0 + alpha / a)
    b0, b2 = np.float32((1.0 + alpha * a) * scale), np.float32((1.0 - alpha * a) * scale)
    b1, a2 = np.float32(-2.0 * math.cos(w) * scale), np.float32((1.0 - alpha / a) * scale)
    p1 = p2 = q1 = q2 = np.float32(0.0)
    for t in range(x.shape[1]):  # transposed direct form II; both channels at once hide each other's latency
        left, right = x[0, t], x[1, t]
        y, z = b0 * left + p1, b0 * right + q1
        p1 = b1 * (left - y) + p2
        q1 = b1 * (right - z) + q2
        p2 = b2 * left - a2 * y
        q2 = b2 * right - a2 * z
        x[0, t] = y
        x[1, t] = z


@jit("void(float32[:,::1], int64[::1], float32, float32, float32)")
def reverberate(x: F32, delays: np.ndarray, feedback: float, damping: float, wet: float) -> None:
    """A short room after M. R. Schroeder and J. A. Moorer: four damped combs and two all-passes a side, fed by the sum of both.

    `delays` (12,) frames: four combs and two all-passes left, then right.
    """
    n = x.shape[1]
    mono = np.empty(n, np.float32)
    for t in range(n):
        mono[t] = np.float32(0.5) * (x[0, t] + x[1, t])
    room = np.empty(n, np.float32)
    g = np.float32(0.6)
    for side in range(2):
        room[:] = np.float32(0.0)
        for k in range(4):
            length = delays[6 * side + k]
            line = np.zeros(length, np.float32)
            low, i = np.float32(0.0), 0
            for t in range(n):
                y = line[i]
                low += (np.float32(1.0) - damping) * (y - low)
                line[i] = mono[t] + feedback * low
                room[t] += np.float32(0.25) * y
                i += 1
                if i == length:
                    i = 0
        for k in range(4, 6):
            length = delays[6 * side + k]
            line = np.zeros(length, np.float32)
            i = 0
            for t in range(n):
                y = line[i]
                z = room[t] + g * y
                line[i] = z
                room[t] = y - g * z
                i += 1
                if i == length:
                    i = 0
        for t in range(n):
            x[side, t] += wet * room[t]


@jit("void(float32[:,:,::1], float32, int64, float32)")
def limit(stems: F32, ceiling: float, attack: int, release: float) -> None:
    """Keep the sum of `stems` (n, 2, n_frames) under `ceiling` by one gain for all: it falls within `attack` frames, rises by `release`."""
    n = stems.shape[2]
    gain = np.ones(n, np.float32)
    for t in range(n):
        left = right = np.float32(0.0)
        for s in range(stems.shape[0]):
            left += stems[s, 0, t]
            right += stems[s, 1, t]
        peak = max(abs(left), abs(right))
        if peak > ceiling:
            gain[t] = ceiling / peak
    step = np.float32(1.0 / attack)
    for t in range(n - 2, -1, -1):
        gain[t] = min(gain[t], gain[t + 1] + step)
    now = np.float32(1.0)
    for t in range(n):
        now = min(gain[t], now + release * (np.float32(1.0) - now))
        for s in range(stems.shape[0]):
            stems[s, 0, t] *= now
            stems[s, 1, t] *= now
