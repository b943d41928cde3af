"""What is done to sound in training: kernels on float32 arrays of two channels, mostly in place."""

from __future__ import annotations

import math

import numpy as np

from models.separation.sampler import decibels
from models.separation.stems import SAMPLE_RATE
from rtserver.kernels import jit

F32 = np.ndarray
LOW, BAND, HIGH = range(3)  # outputs of `filtered`
Span = tuple[float, float]


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


@jit("void(float32[:,::1], int64, float64, float64)")
def filtered(x: F32, output: int, cutoff: float, damping: float) -> None:
    """A low-, band- or high-pass (LOW, BAND, HIGH) of 12 dB an octave at `cutoff` (share of the rate), flat at a damping of 1.4.

    The state-variable filter of V. Zavalishin, "The Art of VA Filter Design". A band has 0 dB at its centre. `voices.wave` has it once
    more, multiplied out for a cutoff that moves: from one form for both the last bits of one would change, and with them what a seed gives.
    """
    g = math.tan(math.pi * min(max(cutoff, 0.0005), 0.45))
    a1 = 1.0 / (1.0 + g * (g + damping))
    for c in range(2):
        s1 = s2 = 0.0
        for t in range(x.shape[1]):
            v3 = x[c, t] - s2
            band = a1 * s1 + g * a1 * v3
            low = s2 + g * band
            s1 = 2.0 * band - s1
            s2 = 2.0 * low - s2
            y = low if output == 0 else damping * band if output == 1 else x[c, t] - damping * band - low
            x[c, t] = np.float32(y)


@jit("void(float32[:,::1], float64, float32)")
def crush(x: F32, hold: float, step: float) -> None:
    """Each frame is held for `hold` frames (a lower sample rate, with its mirror images) and rounded to multiples of `step`."""
    for c in range(2):
        due, y = 0.0, np.float32(0.0)
        for t in range(x.shape[1]):
            if t >= due:
                due += hold
                y = np.float32(step * np.floor(x[c, t] / step + np.float32(0.5)))
            x[c, t] = y


@jit("void(float32[:,::1], int64, float32, float32, float32)")
def echo(x: F32, delay: int, feedback: float, damping: float, wet: float) -> None:
    """Repeats after `delay` frames, each `feedback` times the one before and darker by `damping` (0 to 1)."""
    for c in range(2):
        line = np.zeros(delay, np.float32)
        low, i = np.float32(0.0), 0
        for t in range(x.shape[1]):
            low += (np.float32(1.0) - damping) * (line[i] - low)
            line[i] = x[c, t] + feedback * low
            x[c, t] += wet * low
            i += 1
            if i == delay:
                i = 0


@jit("void(float32[:,::1], float32, float32, float32, float32, float32, float32)")
def compress(x: F32, threshold: float, slope: float, attack: float, release: float, makeup: float, share: float) -> None:  # noqa: PLR0917
    """Parallel compression, one gain for both channels: above `threshold` the level rises `1 - slope` times as much.

    `attack` and `release` are the parts of the way to a new peak that the follower goes in a frame; `share` is the compressed part of the
    sum, raised by `makeup`.
    """
    level, gain = np.float32(0.0), np.float32(1.0)
    for t in range(x.shape[1]):
        peak = max(abs(x[0, t]), abs(x[1, t]))
        level += (attack if peak > level else release) * (peak - level)
        if t % 8 == 0:
            gain = np.float32((threshold / level) ** slope) if level > threshold else np.float32(1.0)
        y = np.float32(1.0) - share + share * makeup * gain
        x[0, t] *= y
        x[1, t] *= y


def room(x: F32, rng: np.random.Generator, size: Span = (0.4, 1.3), decay_s: Span = (0.2, 1.2), wet: Span = (0.1, 0.7)) -> None:
    """A drawn room (`reverberate`) on (2, n): its size, how long it rings (s), how much of it is heard."""
    scale = rng.uniform(*size)
    combs = rng.uniform(0.022, 0.046, (2, 4)) * scale
    passes = rng.uniform(0.004, 0.013, (2, 2)) * scale
    delays = (np.concatenate([combs, passes], axis=1).ravel() * SAMPLE_RATE).astype(np.int64)
    feedback = 10.0 ** (-3.0 * 0.034 * scale / rng.uniform(*decay_s))
    reverberate(x, delays, np.float32(feedback), np.float32(rng.uniform(0.1, 0.6)), np.float32(rng.uniform(*wet)))


def compressed(x: F32, rng: np.random.Generator) -> None:
    """Beside (2, n), what a compressor with drawn numbers makes of it, in place: 20 to 70 % of the sum."""
    threshold = np.float32(max(float(np.abs(x).max()), 1e-6) * decibels(float(rng.uniform(-30.0, -14.0))))
    attack, release = (np.float32(1.0 - np.exp(-1.0 / (s * SAMPLE_RATE))) for s in (rng.uniform(0.0003, 0.01), rng.uniform(0.05, 0.25)))
    makeup = np.float32(decibels(float(rng.uniform(4.0, 14.0))))
    compress(x, threshold, np.float32(rng.uniform(0.5, 0.95)), attack, release, makeup, np.float32(rng.uniform(0.2, 0.7)))


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
