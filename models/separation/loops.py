"""Excerpts from loops: drum loops cut and put together anew, sounds without a score layered into chords and textures."""

from __future__ import annotations

import numpy as np

from models.separation import drumbus, effects
from models.separation.atmosphere import grains, loudest
from models.separation.electronic import BLIPS, draw_electronic
from models.separation.kits import Hit, draw_kit, play_drums
from models.separation.oneshots import log_uniform
from models.separation.patterns import pattern
from models.separation.sampler import ENDLESS, decibels, panned, play
from models.separation.songs import KEY, ONSET, VELOCITY
from models.separation.stems import SAMPLE_RATE, Sample, Stems

CROSS = int(0.01 * SAMPLE_RATE)  # frames over which one turn gives way to the next,
SHORT = int(0.0015 * SAMPLE_RATE)  # where the attack of a drum must be kept
CHORDS = (
    (0,), (0, 7), (0, 12), (0, 4, 7), (0, 3, 7), (0, 5, 7), (0, 7, 14), (0, 4, 7, 11), (0, 3, 7, 10), (0, 2, 7), (0, 7, 16), (-12, 0, 7),
)  # fmt: skip
AMBIENT_S = 0.7  # shorter sounds are played as notes,
BLIP_S = 0.25  # or, as still shorter ones count as percussion, frozen
FROZEN, FROZEN_S = 0.25, 5.0  # share of the layers that are grains of a sound; how long until they are repeated
SPED_SHARE, SLICE_SHARE = 0.35, 0.25  # of the loops that are cut those with slices at another speed, and how many of these
QUARTER_S = (0.35, 0.85)
LAYERED, DRUMMED, FILTERED = 0.2, 0.4, 0.25  # shares of the loops with a second loop, with drums over them, through a filter


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
    """A loop in eight or sixteen slices, some in other places, some backwards, some at another speed.

    A slice fades in before its first frame: its attack is whole.
    """
    body = turns(sound, SHORT)
    n_slices = int(rng.choice([8, 16]))
    length = body.shape[1] // n_slices
    order = np.arange(n_slices)
    moved = rng.random(n_slices) < rng.uniform(0.2, 0.7)
    order[moved] = rng.permutation(order[moved]) if rng.random() < 0.5 else rng.integers(0, n_slices, int(moved.sum()))
    ramp = np.linspace(0.0, 1.0, SHORT, dtype=np.float32)
    out = np.zeros((2, SHORT + n_slices * length), np.float32)
    backwards = (rng.random(n_slices) < 0.2) & (rng.random() < 0.35)
    octaves = rng.uniform(-1.0, 1.0, n_slices) * ((rng.random(n_slices) < SLICE_SHARE) & (rng.random() < SPED_SHARE))
    for i, s in enumerate(order):
        frames = s * length - SHORT + np.arange(SHORT + length) * 2.0 ** octaves[i]
        piece = _at(body, frames[::-1] if backwards[i] else frames)
        piece[:, :SHORT] *= ramp
        piece[:, length:] *= ramp[::-1]
        out[:, i * length : (i + 1) * length + SHORT] += piece
    return out


def _at(body: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """A repeated sound at any places, with a line from frame to frame."""
    first = np.floor(frames).astype(np.int64)
    part = (frames - first).astype(np.float32)
    before, after = (np.take(body, first + k, axis=1, mode="wrap") for k in (0, 1))
    return before + part * (after - before)


def drum_loop(stems: Stems, n_frames: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """One drum loop, often cut anew, at another speed; sometimes filtered, with a second one under it or drums in its tempo over it."""
    loops = stems.where(lambda s: s.collection == "loops" and s.stem == "drums")
    out, names = np.zeros((2, n_frames), np.float32), []
    turn_s = 0.0
    for layer in range(2 if rng.random() < LAYERED else 1):
        loop = loops[rng.integers(len(loops))]
        sound = stems.audio(loop)
        if rng.random() < 0.6:
            sound = shuffled(sound, rng)
        ratio = float(2.0 ** rng.uniform(-0.5, 0.5))
        turn_s = turn_s or sound.shape[1] / ratio / SAMPLE_RATE
        gain = decibels(float(rng.uniform(-12.0, -3.0)) * layer)
        out += np.float32(gain) * repeated(sound, n_frames, ratio, SHORT)
        names.append(loop.articulation)
    if rng.random() < FILTERED:
        output = int(rng.choice([effects.LOW, effects.LOW, effects.HIGH]))
        hz = log_uniform(rng, 150.0, 800.0) if output == effects.HIGH else log_uniform(rng, 1500.0, 8000.0)
        effects.filtered(out, output, hz / SAMPLE_RATE, rng.uniform(0.5, 1.4))
    if rng.random() < DRUMMED:
        drums = _drummed(stems, n_frames, turn_s, rng)
        level = _rms(out) / max(_rms(drums), 1e-6) * decibels(float(rng.uniform(-8.0, 4.0)))
        out += np.float32(level) * drums
        names.append("drums")
    return drumbus.machine(out, rng), ", ".join(names)


def sixteenth(turn_s: float) -> float:
    """How long a sixteenth of a loop lasts, if a quarter is 0.35 to 0.85 s long and the loop has a power of two of them."""
    quarter = turn_s
    while quarter > QUARTER_S[1]:
        quarter *= 0.5
    return max(quarter, QUARTER_S[0]) / 4.0


def _drummed(stems: Stems, n_frames: int, turn_s: float, rng: np.random.Generator) -> np.ndarray:
    """A pattern in the loop's tempo, on one-shots or an electronic kit, its blips sometimes recorded ones."""
    hits = stems.where(lambda s: s.stem == "drums" and s.collection != "loops")
    kit = draw_kit(stems, rng) if hits and rng.random() < 0.4 else draw_electronic(rng)
    blips = stems.where(lambda s: s.collection == "loops" and s.stem == "other" and stems.audio(s).shape[1] < BLIP_S * SAMPLE_RATE)
    if blips and rng.random() < 0.5:
        sound = stems.audio(blips[rng.integers(len(blips))])
        for i, note in enumerate(BLIPS):
            kit.hits[note] = [Hit(sound, (1, 127), 0.5, 2.0 ** ((i - len(BLIPS) // 2) / 12.0))]
    return play_drums(kit, pattern(rng, n_frames / SAMPLE_RATE, sixteenth(turn_s)).drums, n_frames, rng)


def _rms(sound: np.ndarray) -> float:
    return float(np.sqrt(np.mean(sound**2)))


def tonal_loop(stems: Stems, notes: np.ndarray, n_frames: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """One to four layers: long sounds or frozen grains repeated as chords, short ones played with the rhythm of `notes`."""
    sounds = stems.where(lambda s: s.collection == "loops" and s.stem == "other")
    out, names = np.zeros((2, n_frames), np.float32), []
    for _ in range(int(rng.integers(1, 5))):
        sample = sounds[rng.integers(len(sounds))]
        length_s = stems.audio(sample).shape[1] / SAMPLE_RATE
        if length_s < BLIP_S or rng.random() < FROZEN:
            layer, name = _chord(frozen(stems.audio(sample), rng), n_frames, rng), f"{sample.articulation} frozen"
        elif length_s < AMBIENT_S or sample.articulation.startswith("perc_"):
            layer, name = _struck(stems, sample, notes, n_frames, rng), sample.articulation
        else:
            layer, name = _chord(stems.audio(sample), n_frames, rng), sample.articulation
        if rng.random() < FILTERED:
            effects.filtered(layer, effects.LOW, log_uniform(rng, 400.0, 6000.0) / SAMPLE_RATE, rng.uniform(0.3, 1.4))
        left, right = panned(decibels(float(rng.uniform(-9.0, 0.0))), float(rng.uniform(-0.6, 0.6)))
        out[0] += left * layer[0]
        out[1] += right * layer[1]
        names.append(name)
    if rng.random() < 0.3:
        effects.room(out, rng, (0.8, 1.6), (0.8, 3.0), (0.2, 0.9))
    return out, ", ".join(names)


def frozen(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A few seconds of one place of a sound, grain by grain, as loud as the sound's loud parts: (2, n)."""
    both = np.repeat(sound, 2, axis=0) if len(sound) == 1 else sound
    source = loudest(both, rng)
    cloud = grains(source, int(FROZEN_S * SAMPLE_RATE), rng)
    return cloud * np.float32(_rms(source) / max(_rms(cloud), 1e-6))


def _chord(sound: np.ndarray, n_frames: int, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros((2, n_frames), np.float32)
    root = rng.uniform(-12.0, 7.0)
    for semitones in CHORDS[rng.integers(len(CHORDS))]:
        out += repeated(sound, n_frames, float(2.0 ** ((root + semitones) / 12.0)))
    return out


def _struck(stems: Stems, sample: Sample, notes: np.ndarray, n_frames: int, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros((2, n_frames), np.float32)
    middle = float(np.median(notes[:, KEY])) + rng.uniform(-7.0, 7.0) if len(notes) else 60.0
    for row in notes:
        ratio = 2.0 ** (float(np.clip(row[KEY] - middle, -14.0, 14.0)) / 12.0)
        gain = np.float32(0.4 + 0.6 * row[VELOCITY] / 127.0)
        play(out, stems.audio(sample), int(row[ONSET] * SAMPLE_RATE), ratio, gain, gain, ENDLESS, 1)
    return out
