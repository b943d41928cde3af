"""Pitched parts played with real samples: a patch is drawn for each part of a song, by family and not by the number of its files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.separation.effects import HIGH, LOW, compressed, distort, filtered, peaking
from models.separation.oneshots import log_uniform
from models.separation.sampler import decibels, panned, play
from models.separation.songs import CHANNEL, END, KEY, ONSET, PROGRAM, VELOCITY, VOLUME
from models.separation.stems import SAMPLE_RATE, Sample, Stems

LEAD_FRAMES = 132  # files begin 3 ms before the onset
DISTORTED = (29, 30)  # General MIDI programs
GUITARS = range(24, 32)
UNTUNED = ("bass_hit_c",)  # glides, so that no key is its own: measured a semitone beside it
FADE_S = (0.06, 0.2)
BASSES = {"electric_bass": 0.56, "double_bass": 0.26, "synth_bass": 0.18}  # weights, however many files an instrument has
ARTICULATIONS = {"sustain": 0.75, "staccato": 0.25, "pizz": 0.8, "arco": 0.2}
AMPLIFIED = 0.4  # share of the basses, for each of the things done
EMPHASIS, EMPHASIS_S, EMPHASIS_FADE_S = 0.45, 0.012, 0.03  # share of the plucked basses; how long it lasts


@dataclass
class Patch:
    """Samples that play a part."""

    name: str
    samples: list[Sample]
    fade_s: float
    drive: float = 0.0  # distortion of the sum of the notes; 0: none
    emphasis: float = 0.0  # gain of what a pick or a thumb adds: the first hundredths of a second above 800 Hz

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
    """A bass: the instrument is drawn first, then how it is played."""
    basses = stems.where(lambda s: s.stem == "bass")
    instrument = _weighted({s.instrument for s in basses}, BASSES, rng)
    articulation = _weighted({s.articulation for s in basses if s.instrument == instrument}, ARTICULATIONS, rng)
    samples = [s for s in basses if (s.instrument, s.articulation) == (instrument, articulation)]
    drive = float(rng.uniform(1.0, 4.0)) if rng.random() < 0.15 else 0.0
    plucked = instrument != "synth_bass" and articulation != "arco"
    emphasis = float(rng.uniform(1.0, 4.0)) if plucked and rng.random() < EMPHASIS else 0.0
    return Patch(f"{instrument} {articulation}", samples, float(rng.uniform(*FADE_S)), drive, emphasis)


def _weighted(names: set[str], weights: dict[str, float], rng: np.random.Generator) -> str:
    """One of the names; what has no weight has 0.2."""
    found = sorted(names)
    p = np.array([weights.get(name, 0.2) for name in found])
    return found[rng.choice(len(found), p=p / p.sum())]


def amplified(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A bass as it is amplified and mixed, in place: two bands of an equaliser, compression, the top cut as a cabinet does."""
    for low, high in ((50.0, 130.0), (250.0, 1500.0)):
        if rng.random() < AMPLIFIED:
            centre, gain_db = log_uniform(rng, low, high) / SAMPLE_RATE, rng.uniform(-7.0, 7.0)
            peaking(sound, np.float32(centre), np.float32(gain_db), np.float32(rng.uniform(0.5, 1.5)))
    if rng.random() < AMPLIFIED:
        compressed(sound, rng)
    if rng.random() < AMPLIFIED:
        filtered(sound, LOW, log_uniform(rng, 700.0, 5000.0) / SAMPLE_RATE, 1.4)
    return sound


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
    attacks = np.zeros_like(out) if patch.emphasis else None
    for i, row in enumerate(notes):
        velocity = int(row[VELOCITY])
        sample, key = patch.choose(int(row[KEY]), velocity, rng)
        gain = decibels(sample.level_db) * (0.55 + 0.45 * velocity / 127.0)
        ratio = 2.0 ** ((key - sample.keys[0]) / 12.0)
        onset, end = int(row[ONSET] * SAMPLE_RATE), int(row[END] * SAMPLE_RATE)
        sound = stems.audio(sample)
        play(out, sound, onset - int(LEAD_FRAMES / ratio), ratio, np.float32(gain), np.float32(gain), end, fade)
        if attacks is not None:
            brief, gone = int(EMPHASIS_S * SAMPLE_RATE), int(EMPHASIS_FADE_S * SAMPLE_RATE)
            play(attacks, sound, onset - int(LEAD_FRAMES / ratio), ratio, np.float32(gain), np.float32(gain), onset + brief, gone)
        heard[i] = key, onset, min(end, onset + int((sound.shape[1] - LEAD_FRAMES) / ratio))
    if attacks is not None:
        filtered(attacks, HIGH, 800.0 / SAMPLE_RATE, 1.4)
        out += np.float32(patch.emphasis) * attacks
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
