"""Where a rendering is heard: a room, a microphone, an instrument a little out of tune, noise, a level.

All of it is drawn at random, so that what is learned does not rest on one hall or one sound font.
"""

from __future__ import annotations

import numpy as np

F32 = np.ndarray


def room(y: F32, rng: np.random.Generator, sample_rate: int) -> F32:
    """Reverberation: some early reflections, then noise that decays by 60 dB in 0.2 to 2.5 s, quicker above, of random loudness."""
    decay_s = float(np.exp(rng.uniform(np.log(0.2), np.log(2.5))))
    n = int(1.2 * decay_s * sample_rate)
    t = np.arange(n) / sample_rate
    tail = rng.standard_normal(n) * 10.0 ** (-3.0 * t / decay_s)
    cut = rng.uniform(1500.0, 12000.0)
    spectrum = np.fft.rfft(tail)
    spectrum /= 1.0 + (np.fft.rfftfreq(n, 1.0 / sample_rate) / cut) ** 2  # walls and air take the treble
    tail = np.fft.irfft(spectrum, n)
    tail[: int(rng.uniform(0.002, 0.03) * sample_rate)] = 0.0
    tail /= np.linalg.norm(tail) + 1e-12
    tail *= 10.0 ** (rng.uniform(-20.0, 3.0) / 20.0)  # against the direct sound
    tail[0] = 1.0
    for _ in range(int(rng.integers(0, 6))):
        tail[min(int(rng.uniform(0.001, 0.04) * sample_rate), n - 1)] += rng.uniform(-0.4, 0.4)
    return convolved(y, tail)


def microphone(y: F32, rng: np.random.Generator, sample_rate: int) -> F32:
    """A response that rises and falls by up to 9 dB, as random smooth curves over log frequency."""
    f = np.fft.rfftfreq(len(y), 1.0 / sample_rate)
    octave = np.log2(np.maximum(f, 20.0) / 20.0)
    gain_db = np.interp(octave, np.arange(11), rng.normal(0.0, 3.0, 11)) + rng.normal(0.0, 0.7) * (octave - 5.0)
    return np.fft.irfft(np.fft.rfft(y) * 10.0 ** (np.clip(gain_db, -18.0, 12.0) / 20.0), len(y))


def noise(y: F32, rng: np.random.Generator) -> F32:
    """Between white and brown, 5 to 60 dB below the music."""
    spectrum = np.fft.rfft(rng.standard_normal(len(y)))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** (0.5 * rng.uniform(0.0, 2.0))
    spectrum[0] = 0.0
    hiss = np.fft.irfft(spectrum, len(y))
    return y + hiss * np.sqrt((y**2).mean() / ((hiss**2).mean() + 1e-20)) * 10.0 ** (-rng.uniform(5.0, 60.0) / 20.0)


def heard(y: F32, rng: np.random.Generator, sample_rate: int) -> F32:
    """`y` (frames,) as it might arrive."""
    if rng.random() < 0.5:
        y = room(y, rng, sample_rate)
    if rng.random() < 0.5:
        y = microphone(y, rng, sample_rate)
    y = y / max(float(np.abs(y).max()), 1e-9)
    y = y * np.exp(rng.uniform(np.log(0.08), np.log(0.9)))
    if rng.random() < 0.5:
        y = noise(y, rng)
    return np.ascontiguousarray(np.clip(y, -1.0, 1.0), np.float32)


def convolved(y: F32, response: F32) -> F32:
    """The first ``len(y)`` frames of the convolution."""
    size = 1 << int(np.ceil(np.log2(len(y) + len(response))))
    return np.fft.irfft(np.fft.rfft(y, size) * np.fft.rfft(response, size), size)[: len(y)]
