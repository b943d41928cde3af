"""Pitched parts played with real samples: a patch is drawn for each part of a song, by family and not by the number of its files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.separation.effects import distort
from models.separation.sampler import decibels, panned, play
from models.separation.songs import CHANNEL, END, KEY, ONSET, PROGRAM, VELOCITY, VOLUME
from models.separation.stems import SAMPLE_RATE, Sample, Stems

LEAD_FRAMES = 132  # files begin 3 ms before the onset
DISTORTED = (29, 30)  # General MIDI programs
GUITARS = range(24, 32)
UNTUNED = ("bass_hit_c",)  # glides, so that no key is its own: measured a semitone beside it
FADE_S = (0.06, 0.2)
BASS_FAMILIES = {"growly sustain": 0.4, "growly staccato": 0.12, "meat pizz": 0.22, "meat arco": 0.06, "sonicpi": 0.2}


@dataclass
class Patch:
    """Samples that play a part."""

    name: str
    samples: list[Sample]
    fade_s: float
    drive: float = 0.0  # distortion of the sum of the notes; 0: none

    @property
    def tuned(self) -> bool:
        """Whether it sounds at the keys that it is told."""
        return not any(s.articulation in UNTUNED for s in self.samples)

    def __post_init__(self) -> None:
        self.keys = np.array([s.keys[0] for s in self.samples])

    def choose(self, key: int, velocity: int, rng: np.random.Generator) -> tuple[Sample, int]:
        """The sample to play and the key that shall sound, in another octave where the instrument does not go."""
        low, high = int(self.keys.min()) - 4, int(self.keys.max()) + 4
        while key < low and high - low >= 12:
            key += 12
        while key > high and high - low >= 12:
            key -= 12
        distance = np.abs(self.keys - key)
        near = [self.samples[i] for i in np.flatnonzero(distance <= distance.min() + 1)]
        layer = [s for s in near if s.velocity[0] <= velocity <= s.velocity[1]] or near
        return layer[rng.integers(len(layer))], key


def bass_patch(stems: Stems, rng: np.random.Generator) -> Patch:
    """A bass of a random family."""
    families: dict[str, list[Sample]] = {}
    for s in stems.where(lambda s: s.stem == "bass"):
        families.setdefault(s.collection if s.collection == "sonicpi" else f"{s.collection} {s.articulation}", []).append(s)
    names = sorted(families)
    weights = np.array([BASS_FAMILIES.get(name, 0.1) for name in names])
    name = names[rng.choice(len(names), p=weights / weights.sum())]
    samples = families[name]
    if name == "sonicpi":
        samples = [samples[rng.integers(len(samples))]]
    drive = float(rng.uniform(1.0, 4.0)) if rng.random() < 0.15 else 0.0
    return Patch(f"{name} {samples[0].articulation}", samples, float(rng.uniform(*FADE_S)), drive)


def other_patch(stems: Stems, program: int, rng: np.random.Generator) -> Patch:
    """A patch for a General MIDI program: mostly of its family."""
    families: dict[str, list[Sample]] = {}
    for s in stems.where(lambda s: s.stem == "other" and s.collection != "loops"):
        families.setdefault(s.collection, []).append(s)
    names = sorted(families)
    wanted = "guitar" if program in GUITARS else "piano" if program < 24 else ""
    name = wanted if wanted in families and rng.random() < 0.8 else names[rng.integers(len(names))]
    distorted = name == "guitar" and rng.random() < (0.85 if program in DISTORTED else 0.2)
    return Patch(name + " distorted" * distorted, families[name], float(rng.uniform(*FADE_S)), float(rng.uniform(4.0, 25.0)) * distorted)


def play_patch(stems: Stems, patch: Patch, notes: np.ndarray, n_frames: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One part: its sound (2, n_frames) float32, and its notes as heard (n, 3) float32: key, onset frame, end frame."""
    out = np.zeros((2, n_frames), np.float32)
    heard = np.zeros((len(notes), 3), np.float32)
    fade = int(patch.fade_s * SAMPLE_RATE)
    for i, row in enumerate(notes):
        velocity = int(row[VELOCITY])
        sample, key = patch.choose(int(row[KEY]), velocity, rng)
        gain = decibels(sample.level_db) * (0.55 + 0.45 * velocity / 127.0)
        ratio = 2.0 ** ((key - sample.keys[0]) / 12.0)
        onset, end = int(row[ONSET] * SAMPLE_RATE), int(row[END] * SAMPLE_RATE)
        sound = stems.audio(sample)
        play(out, sound, onset - int(LEAD_FRAMES / ratio), ratio, np.float32(gain), np.float32(gain), end, fade)
        heard[i] = key, onset, min(end, onset + int((sound.shape[1] - LEAD_FRAMES) / ratio))
    if patch.drive:
        distort(out, np.float32(patch.drive), np.float32(5000.0 / SAMPLE_RATE))
    return out, heard


def parts(notes: np.ndarray) -> list[np.ndarray]:
    """The notes of one stem, part by part: one channel with one program."""
    names = np.unique(notes[:, [CHANNEL, PROGRAM]], axis=0)
    return [notes[(notes[:, CHANNEL] == c) & (notes[:, PROGRAM] == p)] for c, p in names]


def placed(sound: np.ndarray, part: np.ndarray, stem: str, rng: np.random.Generator) -> np.ndarray:
    """The part at its place in the stem: level, pan; a bass stays in the middle."""
    level = decibels(float(np.clip(rng.normal(0.0, 2.5), -6.0, 6.0))) * float(np.clip(part[:, VOLUME].mean(), 0.3, 1.0))
    left, right = panned(level, 0.0 if stem == "bass" else float(rng.uniform(-0.7, 0.7)))
    sound[0] *= left
    sound[1] *= right
    return sound
