"""What surrounds electronic music: frozen grains, the crackle of a record, tails of reverberation, levels that duck under the kick."""

from __future__ import annotations

import math

import numpy as np

from models.separation import effects
from models.separation.beats import KICKS
from models.separation.oneshots import log_uniform, shaped
from models.separation.sampler import decibels
from models.separation.songs import KEY, ONSET
from models.separation.stems import SAMPLE_RATE

TAIL = {"size": (0.8, 1.6), "decay_s": (1.0, 4.0), "wet": (0.2, 1.0)}
SOURCE_S = (0.15, 2.0)  # the stretch of a sound that grains are taken from
# Shares of the electronic excerpts.
GRAINS, TAILS, PUMPED, RECORD = 0.12, 0.3, 0.3, 0.1


def surround(other: np.ndarray, drums: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """The stem "other" (2, n) in its surroundings, given the notes of the drums; and whether only its notes sound."""
    frozen = rng.random() < GRAINS
    if frozen:
        cloud = grains(loudest(other, rng), other.shape[1], rng)
        other = np.float32(rng.uniform(0.0, 0.7)) * other + np.float32(decibels(float(rng.uniform(-6.0, 3.0)))) * cloud
    if rng.random() < TAILS:
        effects.room(other, rng, **TAIL)
    if rng.random() < PUMPED:
        pump(other, drums, rng)
    if rng.random() < RECORD:
        level = math.sqrt(float(np.mean(other**2))) * decibels(float(rng.uniform(-34.0, -18.0)))
        other += np.float32(level) * record(other.shape[1], rng)
    return other, not frozen


def loudest(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Of eight stretches of 0.15 to 2 s the loudest: (2, m)."""
    n = min(int(log_uniform(rng, *SOURCE_S) * SAMPLE_RATE), sound.shape[1])
    starts = rng.integers(0, sound.shape[1] - n + 1, 8)
    power = [float(np.mean(sound[:, s : s + n] ** 2)) for s in starts]
    start = int(starts[int(np.argmax(power))])
    return sound[:, start : start + n]


def grains(source: np.ndarray, n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """A cloud (2, n_frames) of overlapping grains of 60 to 300 ms, from places around one that wanders through `source` (2, m).

    Soft grains are raised, by 20 dB at most, so that a sound that dies stands still.
    """
    size = max(64, min(int(log_uniform(rng, 0.06, 0.3) * SAMPLE_RATE), source.shape[1] - 1))
    hop = size // int(rng.integers(3, 7))
    window = np.hanning(size).astype(np.float32)
    out = np.zeros((2, n_frames + size + hop), np.float32)
    level = math.sqrt(float(np.mean(source**2)))
    spare = source.shape[1] - size
    place, pace, spray = rng.random(), rng.normal(0.0, 0.01), rng.uniform(0.02, 0.3)
    for t in range(0, n_frames, hop):
        place = (place + pace) % 1.0
        start = int(spare * min(max(place + spray * rng.normal(), 0.0), 1.0))
        late = t + int(rng.integers(0, hop))
        grain = source[:, start : start + size] * window
        out[:, late : late + size] += np.float32(level / (math.sqrt(float(np.mean(grain**2))) + 0.1 * level + 1e-9)) * grain
    return np.ascontiguousarray(out[:, :n_frames])


def pump(sound: np.ndarray, drums: np.ndarray, rng: np.random.Generator) -> None:
    """Lower (2, n) at each kick of `drums` (rows of `songs`) by 4 to 24 dB, in place; it comes back within 0.08 to 0.4 s."""
    kicks = drums[np.isin(drums[:, KEY], KICKS), ONSET]
    depth = 1.0 - decibels(-float(rng.uniform(4.0, 24.0)))
    back, n = int(rng.uniform(0.08, 0.4) * SAMPLE_RATE), sound.shape[1]
    curve = (1.0 - depth * 0.5 * (1.0 + np.cos(np.linspace(0.0, math.pi, back)))).astype(np.float32)
    attack = int(0.004 * SAMPLE_RATE)
    curve[:attack] = np.maximum(curve[:attack], np.linspace(1.0, curve[attack], attack, dtype=np.float32))
    gain = np.ones(n, np.float32)
    for start in (max(0, int(k * SAMPLE_RATE)) for k in kicks):
        end = min(start + back, n)
        gain[start:end] = np.minimum(gain[start:end], curve[: max(0, end - start)])
    sound *= gain


def record(n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """The hiss and faint crackle of a record, of RMS 1: (2, n_frames)."""
    period = int(1.8 * SAMPLE_RATE)  # a turn, near enough
    hiss = shaped(rng.standard_normal(period).astype(np.float32), 200.0, log_uniform(rng, 1500.0, 7000.0))
    hiss /= np.sqrt(np.mean(hiss**2))
    clicks = np.zeros(period, np.float32)
    n = int(rng.integers(5, 40))
    clicks[rng.integers(0, period, n)] = rng.normal(0.0, 1.0, n) * 60.0
    turn = hiss + rng.uniform(0.0, 1.0) * shaped(clicks, 500.0, 4000.0)
    turn /= np.sqrt(np.mean(turn**2))
    long = np.tile(turn, n_frames // period + 2)
    return np.stack([long[:n_frames], long[period // 3 : period // 3 + n_frames]]).astype(np.float32)
