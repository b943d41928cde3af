"""Synthesiser voices, one note a call, added to (2, n_frames) float32: a wave through a filter, frequency modulation, a string, modes."""

from __future__ import annotations

import math

import numpy as np

from rtserver.kernels import jit

F32 = np.ndarray
TABLE = 2048  # frames of one period
# What `wave` is told, in this order. Times in frames, frequencies as shares of the rate, depths in octaves.
(
    HZ, LEFT, RIGHT, ATTACK, DECAY, SUSTAIN, RELEASE, CUTOFF, BRIGHTER, BRIGHTER_DECAY, DAMPING, VIBRATO, VIBRATO_DEPTH, MOTION,
    MOTION_DEPTH, NOISE,
) = range(16)  # fmt: skip
N_WAVE = 16


@jit("void(float32[:,::1], float32[::1], int64, int64, float64[::1], int64)")
def wave(out: F32, table: F32, start: int, end: int, told: F32, seed: int) -> None:  # noqa: PLR0917
    """One period (`table`, TABLE + 1 frames) repeated, with an envelope, vibrato, and a low-pass that opens and moves.

    The filter is the state-variable one of V. Zavalishin, "The Art of VA Filter Design" (trapezoidal integrators).
    """
    n = out.shape[1]
    left, right, sustain = np.float32(told[LEFT]), np.float32(told[RIGHT]), told[SUSTAIN]
    fall, let_go = math.exp(-1.0 / told[DECAY]), math.exp(-6.9 / told[RELEASE])
    darker = math.exp(-16.0 / told[BRIGHTER_DECAY])
    attack = 1.0 / max(told[ATTACK], 1.0)
    phase = float(seed % TABLE)
    level, brighter, env, releasing = 1.0, told[BRIGHTER], 0.0, 1.0
    step = told[HZ] * TABLE
    a1 = a2 = a3 = 0.0
    s1 = s2 = 0.0
    noise = np.uint32(seed)
    k = told[DAMPING]
    for t in range(start, min(n, end + np.int64(told[RELEASE]))):
        i = t - start
        if i % 16 == 0:
            cutoff = told[CUTOFF] * 2.0 ** (brighter + told[MOTION_DEPTH] * math.sin(2.0 * math.pi * told[MOTION] * t))
            brighter *= darker
            g = math.tan(math.pi * min(max(cutoff, 0.0005), 0.45))
            a1 = 1.0 / (1.0 + g * (g + k))
            a2 = g * a1
            a3 = g * a2
            step = (
                told[HZ] * TABLE * (1.0 + told[VIBRATO_DEPTH] * 0.69 * min(1.0, i / 15000.0) * math.sin(2.0 * math.pi * told[VIBRATO] * i))
            )
        if i * attack < 1.0:
            env = i * attack
        else:
            level = sustain + (level - sustain) * fall
            env = level
        if t >= end:
            releasing *= let_go
        j = np.int64(phase)
        f = phase - j
        x = table[j] + f * (table[j + 1] - table[j])
        if told[NOISE] > 0.0:
            noise = np.uint32(noise * np.uint32(1664525) + np.uint32(1013904223))
            x += told[NOISE] * (np.float64(noise) / 2147483648.0 - 1.0)
        phase += step
        if phase >= TABLE:
            phase -= TABLE
        v3 = x - s2
        v1 = a1 * s1 + a2 * v3
        v2 = s2 + a2 * s1 + a3 * v3
        s1 = 2.0 * v1 - s1
        s2 = 2.0 * v2 - s2
        if t >= 0:
            y = np.float32(v2 * env * releasing)
            out[0, t] += left * y
            out[1, t] += right * y


@jit("void(float32[:,::1], int64, int64, float64, float64, float64, float64, float64, float64, float32, float32)")
def modulation(  # noqa: PLR0917
    out: F32,
    start: int,
    end: int,
    hz: float,
    ratio: float,
    index: float,
    mellow: float,
    decay: float,
    release: float,
    left: float,
    right: float,
) -> None:
    """One sine bends another (J. Chowning, 1973). `mellow`, `decay` and `release` in frames; `hz` as a share of the rate."""
    keep, less, let_go = math.exp(-1.0 / decay), math.exp(-1.0 / mellow), math.exp(-6.9 / release)
    level, depth, w = 1.0, index, 2.0 * math.pi * hz
    for t in range(start, min(out.shape[1], end + np.int64(release))):
        i = t - start
        y = np.float32(level * min(1.0, i / 60.0) * math.sin(w * i + depth * math.sin(w * ratio * i)))
        level *= keep
        if level < 1e-5:
            break
        depth *= less
        if t >= end:
            level *= let_go
        if t >= 0:
            out[0, t] += left * y
            out[1, t] += right * y


@jit("void(float32[:,::1], float32[::1], int64, int64, float64, float64, float64, float32, float32)")
def string(  # noqa: PLR0917
    out: F32, noise: F32, start: int, end: int, period: float, loss: float, release: float, left: float, right: float
) -> None:
    """A plucked string (K. Karplus and A. Strong, 1983), tuned by an all-pass (D. Jaffe and J. Smith, 1983).

    `noise` is what it is plucked with, at least a period long; `period` in frames; `loss` each round, 0.99 to 1.
    """
    length = np.int64(period - 0.7)
    part = period - 0.5 - length
    c = (1.0 - part) / (1.0 + part)
    line = np.empty(length, np.float64)
    for i in range(length):
        line[i] = noise[i]
    let_go = math.exp(-6.9 / release)
    before = old_in = old_out = 0.0
    level = 1.0
    i = 0
    for t in range(start, min(out.shape[1], end + np.int64(release))):
        x = line[i]
        low = loss * 0.5 * (x + before)
        before = x
        tuned = c * (low - old_out) + old_in
        old_in, old_out = low, tuned
        line[i] = tuned
        i += 1
        if i == length:
            i = 0
        if t >= end:
            level *= let_go
        if t >= 0:
            y = np.float32(level * x)
            out[0, t] += left * y
            out[1, t] += right * y


@jit("void(float32[:,::1], int64, int64, float64, float64[:,::1], float64, float64, float32, float32)")
def modes(out: F32, start: int, end: int, hz: float, told: F32, attack: float, release: float, left: float, right: float) -> None:  # noqa: PLR0917
    """Partials that die, swell and beat: bells, glass. `told` (n, 4): ratio, level, decay in frames, beats (share of the rate)."""
    let_go = math.exp(-6.9 / release)
    last = min(out.shape[1], end + np.int64(release))
    for p in range(told.shape[0]):
        w = 2.0 * math.pi * hz * told[p, 0]
        if w > 2.8:
            continue
        keep, level = math.exp(-1.0 / told[p, 2]), told[p, 1]
        turn_re, turn_im = math.cos(w), math.sin(w)
        re, im = 0.0, 1.0
        beat_re, beat_im = math.cos(2.0 * math.pi * told[p, 3]), math.sin(2.0 * math.pi * told[p, 3])
        slow_re, slow_im = 1.0, 0.0
        for t in range(start, last):
            re, im = re * turn_re - im * turn_im, re * turn_im + im * turn_re
            slow_re, slow_im = slow_re * beat_re - slow_im * beat_im, slow_re * beat_im + slow_im * beat_re
            level *= keep
            if t >= end:
                level *= let_go
            if t >= 0:
                y = np.float32(re * level * (0.65 + 0.35 * slow_re) * min(1.0, (t - start) / attack))
                out[0, t] += left * y
                out[1, t] += right * y


@jit("void(float32[:,::1], int64, int64, float64, float64, float64, float64, float64, float64, float32, float32)")
def glide(  # noqa: PLR0917
    out: F32,
    start: int,
    end: int,
    begun: float,
    hz: float,
    slide: float,
    drive: float,
    decay: float,
    release: float,
    left: float,
    right: float,
) -> None:
    """A sine, bent by tanh of `drive`, that slides from `begun` to `hz` (shares of the rate): sub-basses.

    `slide`, `decay` and `release` in frames: the slide is over by 63 % after the first.
    """
    keep, nearer, let_go = math.exp(-1.0 / decay), math.exp(-1.0 / max(slide, 1.0)), math.exp(-6.9 / release)
    level, away, phase, scale = 1.0, begun - hz, 0.0, 1.0 / math.tanh(drive)
    for t in range(start, min(out.shape[1], end + np.int64(release))):
        phase += hz + away
        phase -= math.floor(phase)
        away *= nearer
        y = np.float32(level * scale * min(1.0, (t - start) / 150.0) * math.tanh(drive * math.sin(2.0 * math.pi * phase)))
        level *= keep
        if t >= end:
            level *= let_go
        if t >= 0:
            out[0, t] += left * y
            out[1, t] += right * y
