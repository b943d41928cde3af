"""Synthetic drum sounds: sweeps, noise, clusters of squares, frequency modulation, struck modes.

Each is (n,) float32 at 44.1 kHz with a peak of 1.
"""

from __future__ import annotations

import math

import numpy as np

from models.separation.stems import SAMPLE_RATE

F32 = np.ndarray


def seconds(n: float) -> F32:
    """The time of each frame of a sound of `n` seconds."""
    return np.arange(int(n * SAMPLE_RATE), dtype=np.float32) / np.float32(SAMPLE_RATE)


def finished(y: F32, attack_s: float = 0.0) -> F32:
    """Scaled to a peak of 1, with a short fade at the end, and at the beginning if asked."""
    y = np.asarray(y, np.float32)
    n = min(len(y), int(0.01 * SAMPLE_RATE))
    y[len(y) - n :] *= np.linspace(1.0, 0.0, n, dtype=np.float32)
    n = min(len(y), int(attack_s * SAMPLE_RATE))
    y[:n] *= np.linspace(0.0, 1.0, n, dtype=np.float32)
    return y / np.float32(np.abs(y).max() + 1e-9)


def shaped(noise: F32, low: float, high: float) -> F32:
    """Noise between two frequencies, with slopes of 12 dB an octave."""
    f = np.fft.rfftfreq(len(noise), 1.0 / SAMPLE_RATE) + 1.0
    gain = 1.0 / (1.0 + (low / f) ** 2) / (1.0 + (f / high) ** 2)
    return np.fft.irfft(np.fft.rfft(noise) * gain, len(noise)).astype(np.float32)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between two, even in octaves."""
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def sweep(rng: np.random.Generator, low: float, high: float, fall_s: float, decay_s: float, drive: float = 0.0) -> F32:  # noqa: PLR0917
    """A tone that falls from `high` to `low` Hz: kicks, toms, zaps."""
    t = seconds(min(6.9 * decay_s, 6.0))
    phase = 2.0 * math.pi * (low * t + (high - low) * fall_s * (1.0 - np.exp(-t / fall_s)))
    y = np.sin(phase + rng.uniform(0.0, 0.5)) * np.exp(-t / decay_s)
    if drive:
        y = np.tanh(drive * y)
    return finished(y, 0.0005)


def kick(rng: np.random.Generator) -> F32:
    """A bass drum: short and clicking to long and booming."""
    low = log_uniform(rng, 36.0, 75.0)
    decay = log_uniform(rng, 0.05, 0.5)
    drive = float(rng.uniform(1.5, 6.0)) if rng.random() < 0.4 else 0.0
    y = sweep(rng, low, low * rng.uniform(1.5, 10.0), log_uniform(rng, 0.008, 0.09), decay, drive)
    if rng.random() < 0.7:
        n = int(log_uniform(rng, 0.001, 0.012) * SAMPLE_RATE)
        click = shaped(rng.standard_normal(4 * n).astype(np.float32), 300.0, log_uniform(rng, 1500.0, 9000.0))
        y[: 4 * n] += np.float32(rng.uniform(0.05, 0.5)) * click[: len(y)] * np.exp(-np.arange(4 * n, dtype=np.float32)[: len(y)] / n)
    return finished(y)


def boom(rng: np.random.Generator, low: float) -> F32:
    """A bass drum that rings at `low` Hz, for 0.25 to 1.2 s until it is 1/e, as the TR-808's does."""
    drive = float(rng.uniform(1.2, 4.0)) if rng.random() < 0.5 else 0.0
    return sweep(rng, low, low * rng.uniform(1.3, 5.0), log_uniform(rng, 0.006, 0.04), log_uniform(rng, 0.25, 1.2), drive)


def zap(rng: np.random.Generator) -> F32:
    """A tone that falls, or rises, through some octaves within a tenth of a second."""
    low, octaves = log_uniform(rng, 80.0, 900.0), rng.uniform(2.0, 5.0)
    high = min(low * 2.0**octaves, 14000.0)
    decay = log_uniform(rng, 0.03, 0.15)
    if rng.random() < 0.2:
        return sweep(rng, high, low, log_uniform(rng, 0.02, 0.08), decay)
    return sweep(rng, low, high, log_uniform(rng, 0.008, 0.05), decay)


def backwards(y: F32, longest_s: float = 0.35) -> F32:
    """The beginning of a hit, from its end on."""
    return finished(y[: int(longest_s * SAMPLE_RATE)][::-1].copy(), 0.01)


def crushed(rng: np.random.Generator, y: F32) -> F32:
    """A hit at a lower sample rate, in few bits."""
    hold, bits = int(rng.integers(3, 24)), int(rng.integers(2, 7))
    return finished(np.round(np.repeat(y[::hold], hold)[: len(y)] * 2.0**bits) / 2.0**bits)


def stuttered(rng: np.random.Generator, y: F32) -> F32:
    """The first 8 to 50 ms of a hit, three to ten times, each softer than the one before."""
    n = min(int(log_uniform(rng, 0.008, 0.05) * SAMPLE_RATE), len(y))
    piece = y[:n] * np.minimum(1.0, np.linspace(8.0, 0.0, n, dtype=np.float32))
    levels = rng.uniform(0.7, 1.0) ** np.arange(rng.integers(3, 11))
    return finished((levels[:, None] * piece).ravel())


def snare(rng: np.random.Generator) -> F32:
    """Noise over two falling tones."""
    decay = log_uniform(rng, 0.05, 0.22)
    t = seconds(6.0 * decay)
    noise = shaped(rng.standard_normal(len(t)).astype(np.float32), log_uniform(rng, 300.0, 2500.0), log_uniform(rng, 5000.0, 16000.0))
    noise *= np.exp(-t / decay) / (np.abs(noise).max() + 1e-9)
    hz = log_uniform(rng, 130.0, 330.0)
    body = np.sin(2.0 * math.pi * hz * (t + 0.01 * (1.0 - np.exp(-t / 0.01)))) + 0.5 * np.sin(2.0 * math.pi * 1.8 * hz * t)
    return finished(noise + np.float32(rng.uniform(0.1, 0.9)) * body * np.exp(-t / (decay * rng.uniform(0.3, 0.9))))


def clap(rng: np.random.Generator) -> F32:
    """A few bursts of noise, then their room."""
    t = seconds(0.5)
    y = np.zeros(len(t), np.float32)
    at = 0.0
    n_bursts = int(rng.integers(2, 6))
    for i in range(n_bursts):
        late = t >= at
        y[late] += np.exp(-(t[late] - at) / (log_uniform(rng, 0.03, 0.14) if i == n_bursts - 1 else 0.006))
        at += rng.uniform(0.006, 0.016)
    noise = shaped(rng.standard_normal(len(t)).astype(np.float32), log_uniform(rng, 500.0, 1200.0), log_uniform(rng, 2000.0, 9000.0))
    return finished(y * noise)


def metal(rng: np.random.Generator, decay_s: float, squares: bool, low: float) -> F32:
    """Hats, rides, crashes: six squares at odd ratios or noise, without its low end."""
    t = seconds(min(6.9 * decay_s, 2.5))
    if squares:
        hz = log_uniform(rng, 180.0, 600.0) * np.array([1.0, 1.342, 1.2312, 1.6532, 1.9523, 2.1523]) * rng.uniform(0.97, 1.03, 6)
        y = np.sign(np.sin(2.0 * math.pi * hz[:, None].astype(np.float32) * t)).sum(axis=0)
    else:
        y = rng.standard_normal(len(t)).astype(np.float32)
    y = shaped(y, low, 18000.0)
    env = np.exp(-t / decay_s)
    if rng.random() < 0.3:
        env = 0.6 * env + 0.4 * np.exp(-t / (0.15 * decay_s))
    return finished(y * env)


def modulated(rng: np.random.Generator, hz: float, decay_s: float) -> F32:
    """Frequency modulation with a falling index: blips, bells, metallic toms, cowbells."""
    t = seconds(min(6.9 * decay_s, 1.5))
    ratio = float(rng.choice([0.5, 1.0, 1.41, 2.0, 2.76, 3.5, 5.19, 7.0])) * rng.uniform(0.98, 1.02)
    index = log_uniform(rng, 0.3, 8.0) * np.exp(-t / (decay_s * log_uniform(rng, 0.1, 1.5)))
    bend = 1.0 + (rng.uniform(-0.5, 1.5) if rng.random() < 0.4 else 0.0) * 0.02 * (1.0 - np.exp(-t / 0.02)) / np.maximum(t, 1e-4)
    phase = 2.0 * math.pi * hz * t * bend
    return finished(np.sin(phase + index * np.sin(phase * ratio)) * np.exp(-t / decay_s), 0.0008)


def struck(rng: np.random.Generator, hz: float, decay_s: float) -> F32:
    """A few modes that die at their own pace: congas, wood, glass, tubes."""
    t = seconds(min(6.9 * decay_s, 1.5))
    n = int(rng.integers(1, 6))
    ratios = np.concatenate([[1.0], np.sort(rng.uniform(1.3, 7.0, n - 1))])
    y = np.zeros(len(t), np.float32)
    for i, ratio in enumerate(ratios):
        if ratio * hz < 0.45 * SAMPLE_RATE:
            fall = 1.0 + 0.03 * rng.random() * np.exp(-t / 0.02)
            y += (0.7**i * rng.uniform(0.4, 1.0)) * np.sin(2.0 * math.pi * ratio * hz * t * fall) * np.exp(-t * ratio**0.7 / decay_s)
    n = int(0.004 * SAMPLE_RATE)
    y[:n] += np.float32(rng.uniform(0.0, 0.4)) * rng.standard_normal(n).astype(np.float32) * np.linspace(1.0, 0.0, n, dtype=np.float32)
    return finished(y, 0.0004)
