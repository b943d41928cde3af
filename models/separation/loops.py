"""Excerpts from loops: drum loops cut and put together anew, sounds without a score layered into chords and textures."""

from __future__ import annotations

import numpy as np

from models.separation.sampler import ENDLESS, decibels, panned, play
from models.separation.songs import KEY, ONSET, VELOCITY
from models.separation.stems import SAMPLE_RATE, Sample, Stems

CROSS = int(0.01 * SAMPLE_RATE)  # frames over which one turn gives way to the next,
SHORT = int(0.0015 * SAMPLE_RATE)  # where the attack of a drum must be kept
CHORDS = ((0,), (0, 7), (0, 12), (0, 4, 7), (0, 3, 7), (0, 5, 7), (0, 7, 14))
AMBIENT_S = 0.7  # shorter sounds are played as notes


def turns(sound: np.ndarray, cross: int) -> np.ndarray:
    """A loop as it is repeated: (2, n), the end faded over the beginning."""
    both = np.repeat(sound, 2, axis=0) if len(sound) == 1 else sound
    ramp = np.linspace(0.0, 1.0, cross, dtype=np.float32)
    body = both[:, : both.shape[1] - cross].copy()
    body[:, :cross] = body[:, :cross] * ramp + both[:, both.shape[1] - cross :] * (1.0 - ramp)
    return body


def repeated(sound: np.ndarray, n_frames: int, ratio: float, cross: int = CROSS) -> np.ndarray:
    """A loop, as long as is asked for, `ratio` times as quick."""
    body = turns(sound, cross)
    n = int(n_frames * ratio) + 8
    long = np.ascontiguousarray(np.tile(body, (1, n // body.shape[1] + 1))[:, :n])
    out = np.zeros((2, n_frames), np.float32)
    play(out, long, 0, ratio, np.float32(1.0), np.float32(1.0), ENDLESS, 1)
    return out


def shuffled(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A loop in eight or sixteen slices, some in other places. A slice fades in before its first frame: its attack is whole."""
    body = turns(sound, SHORT)
    n_slices = int(rng.choice([8, 16]))
    length = body.shape[1] // n_slices
    order = np.arange(n_slices)
    moved = rng.random(n_slices) < rng.uniform(0.2, 0.7)
    order[moved] = rng.permutation(order[moved]) if rng.random() < 0.5 else rng.integers(0, n_slices, int(moved.sum()))
    ramp = np.linspace(0.0, 1.0, SHORT, dtype=np.float32)
    out = np.zeros((2, SHORT + n_slices * length), np.float32)
    for i, s in enumerate(order):
        piece = np.take(body, np.arange(s * length - SHORT, (s + 1) * length), axis=1, mode="wrap")
        piece[:, :SHORT] *= ramp
        piece[:, length:] *= ramp[::-1]
        out[:, i * length : (i + 1) * length + SHORT] += piece
    return out


def drum_loop(stems: Stems, n_frames: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """One drum loop, often cut anew, at another speed, sometimes with a second one under it."""
    loops = stems.where(lambda s: s.collection == "loops" and s.stem == "drums")
    out, names = np.zeros((2, n_frames), np.float32), []
    for layer in range(2 if rng.random() < 0.2 else 1):
        loop = loops[rng.integers(len(loops))]
        sound = stems.audio(loop)
        if rng.random() < 0.5:
            sound = shuffled(sound, rng)
        gain = decibels(float(rng.uniform(-12.0, -3.0)) * layer)
        out += np.float32(gain) * repeated(sound, n_frames, float(2.0 ** rng.uniform(-0.4, 0.4)), SHORT)
        names.append(loop.articulation)
    return out, ", ".join(names)


def tonal_loop(stems: Stems, notes: np.ndarray, n_frames: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """One to three layers: long sounds repeated as chords, short ones played with the rhythm of `notes`."""
    sounds = stems.where(lambda s: s.collection == "loops" and s.stem == "other")
    out, names = np.zeros((2, n_frames), np.float32), []
    for _ in range(int(rng.integers(1, 4))):
        sample = sounds[rng.integers(len(sounds))]
        short = stems.audio(sample).shape[1] < AMBIENT_S * SAMPLE_RATE or sample.articulation.startswith("perc_")
        layer = _struck(stems, sample, notes, n_frames, rng) if short else _laid(stems, sample, n_frames, rng)
        left, right = panned(decibels(float(rng.uniform(-9.0, 0.0))), float(rng.uniform(-0.6, 0.6)))
        out[0] += left * layer[0]
        out[1] += right * layer[1]
        names.append(sample.articulation)
    return out, ", ".join(names)


def _laid(stems: Stems, sample: Sample, n_frames: int, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros((2, n_frames), np.float32)
    root = rng.uniform(-12.0, 7.0)
    for semitones in CHORDS[rng.integers(len(CHORDS))]:
        out += repeated(stems.audio(sample), n_frames, float(2.0 ** ((root + semitones) / 12.0)))
    return out


def _struck(stems: Stems, sample: Sample, notes: np.ndarray, n_frames: int, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros((2, n_frames), np.float32)
    middle = float(np.median(notes[:, KEY])) + rng.uniform(-7.0, 7.0) if len(notes) else 60.0
    for row in notes:
        ratio = 2.0 ** (float(np.clip(row[KEY] - middle, -14.0, 14.0)) / 12.0)
        gain = np.float32(0.4 + 0.6 * row[VELOCITY] / 127.0)
        play(out, stems.audio(sample), int(row[ONSET] * SAMPLE_RATE), ratio, gain, gain, ENDLESS, 1)
    return out
