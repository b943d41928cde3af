"""Synthesised patches for bass and other, drawn for each part: pads, leads, organs, choirs, keys, plucks, glass, drones, wind, basses.

A short tone that dies at once counts as percussion, which electronic drums are full of: so in other it is rare (`blip`), and the rest
sounds for longer (`_kept`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from models.separation import voices as v
from models.separation.effects import distort
from models.separation.oneshots import log_uniform
from models.separation.sampler import panned
from models.separation.songs import END, KEY, ONSET, VELOCITY
from models.separation.stems import SAMPLE_RATE

A4, A4_HZ = 69, 440.0
GLIDE_GAP_S = 0.1
WAVES = ("pad", "lead", "organ", "choir", "bass", "drone", "reese", "wind")
MODULATED = ("keys", "bell", "chime", "blip", "fm bass")
SLIDING = ("sub", "808")
# Kinds and their weights for the bass, and for parts of other: those that a General MIDI program of this kind asks for, or any.
BASSES = {"bass": 0.36, "fm bass": 0.14, "string": 0.12, "sub": 0.12, "reese": 0.12, "808": 0.14}
ANY = {
    "pad": 0.2,
    "lead": 0.12,
    "organ": 0.1,
    "choir": 0.1,
    "keys": 0.12,
    "string": 0.12,
    "glass": 0.09,
    "bell": 0.06,
    "drone": 0.05,
    "chime": 0.04,
    "wind": 0.03,
    "blip": 0.01,
}
LONG = {"pad": 0.36, "choir": 0.16, "drone": 0.2, "organ": 0.07, "glass": 0.09, "chime": 0.06, "wind": 0.06}
SHORT = {"keys": 0.25, "string": 0.25, "lead": 0.2, "bell": 0.12, "glass": 0.08, "organ": 0.06, "pad": 0.03, "blip": 0.01}
VOWELS = ((800.0, 1150.0, 2900.0), (400.0, 1600.0, 2700.0), (350.0, 1700.0, 2700.0), (450.0, 800.0, 2830.0), (325.0, 700.0, 2700.0))  # Hz


@dataclass
class Synth:
    """A patch: what kind it is and the numbers drawn for it."""

    name: str
    seed: int
    told: dict[str, float]
    _tables: dict[int, np.ndarray] = field(default_factory=dict)

    def table(self, key: int) -> np.ndarray:
        """One period of the wave at this key, without partials above 16 kHz: (TABLE + 1,) float32 of RMS 0.35."""
        found = self._tables.get(key)
        if found is None:
            found = self._tables[key] = _table(self.name, self.told, hertz(key), np.random.default_rng(self.seed))
        return found


def hertz(key: float) -> float:
    """The frequency of a key."""
    return A4_HZ * 2.0 ** ((key - A4) / 12.0)


def draw_synth(rng: np.random.Generator, stem: str, length_s: float) -> Synth:
    """A patch for a part whose notes last `length_s`, as a rule."""
    weights = BASSES if stem == "bass" else ANY if rng.random() < 0.4 else LONG if length_s > 0.6 else SHORT
    names = list(weights)
    p = np.array(list(weights.values()))
    name = names[rng.choice(len(names), p=p / p.sum())]
    slow = name in ("pad", "drone", "choir", "wind")
    told = {
        "slope": float(rng.uniform(0.5, 2.2)), "odd": float(rng.random() < 0.3), "pulse": float(rng.uniform(0.05, 0.5)),
        "kind": float(rng.random()),
        "vowel": float(rng.integers(len(VOWELS))), "formant": float(rng.uniform(0.85, 1.2)),
        "unison": float(rng.integers(2, 5) if slow else rng.choice([1, 1, 2, 3])), "detune": log_uniform(rng, 2.0, 25.0),
        "attack": log_uniform(rng, 0.05, 0.9) if slow else log_uniform(rng, 0.001, 0.03), "decay": log_uniform(rng, 0.05, 1.2),
        "sustain": float(rng.uniform(0.6, 1.0) if slow or name == "organ" else rng.uniform(0.05, 0.9)),
        "release": log_uniform(rng, 0.2, 1.5) if slow else log_uniform(rng, 0.03, 0.4),
        "cutoff": log_uniform(rng, 150.0, 1500.0) if stem == "bass" else log_uniform(rng, 500.0, 9000.0),
        "brighter": float(rng.uniform(0.0, 4.0)),
        "brighter decay": log_uniform(rng, 0.04, 0.8), "damping": float(rng.uniform(0.25, 1.6)), "vibrato": float(rng.uniform(4.0, 6.5)),
        "vibrato depth": float(rng.uniform(0.0, 0.03)) * float(rng.random() < 0.5), "motion": log_uniform(rng, 0.05, 6.0),
        "motion depth": float(rng.uniform(0.0, 1.5)) * float(rng.random() < 0.45),
        "noise": float(rng.uniform(0.02, 0.3)) * float(rng.random() < (0.5 if slow else 0.1)),
        "ratio": float(rng.choice([0.5, 1.0, 1.0, 2.0, 3.0, 4.0, 7.0, 14.0])), "inharmonic": float(rng.choice([1.41, 2.76, 3.5, 5.4])),
        "index": log_uniform(rng, 0.3, 6.0), "mellow": log_uniform(rng, 0.03, 1.5), "ring": log_uniform(rng, 0.3, 3.0),
        "loss": float(1.0 - log_uniform(rng, 0.0008, 0.012)), "spread": float(rng.uniform(0.0, 0.9)) * float(stem != "bass"),
        "drive": float(rng.uniform(1.0, 8.0)) if rng.random() < (0.3 if name in ("lead", "bass") else 0.05) else 0.0,
        "glide": 0.0,
    }  # fmt: skip
    told |= _of_kind(name, rng)
    if stem == "other" and name != "blip":
        _kept(told)
    return Synth(name, int(rng.integers(1 << 30)), told)


def _of_kind(name: str, rng: np.random.Generator) -> dict[str, float]:
    """What sets a kind apart from the numbers that all have."""
    if name == "drone":
        return {
            "motion": log_uniform(rng, 0.03, 0.4),
            "motion depth": float(rng.uniform(0.4, 2.5)),
            "damping": float(rng.uniform(0.2, 1.2)),
        }
    if name == "wind":  # noise alone, through a filter that moves
        return {"noise": 2.0, "motion": log_uniform(rng, 0.05, 0.5), "motion depth": float(rng.uniform(0.3, 1.5)), "unison": 1.0,
                "damping": log_uniform(rng, 0.08, 1.2), "cutoff": log_uniform(rng, 250.0, 4000.0)}  # fmt: skip
    if name == "pad" and rng.random() < 0.3:
        return {"detune": float(rng.uniform(20.0, 45.0)), "unison": float(rng.integers(3, 6))}
    if name == "chime":
        return {"ring": log_uniform(rng, 2.0, 8.0), "mellow": log_uniform(rng, 0.5, 4.0), "release": float(rng.uniform(0.7, 1.7)),
                "detune": log_uniform(rng, 1.0, 8.0)}  # fmt: skip
    if name == "reese":  # waves that beat against each other, through a filter that moves
        return {"unison": float(rng.integers(2, 5)), "detune": float(rng.uniform(15.0, 60.0)), "slope": 1.0, "odd": 0.0, "kind": 1.0,
                "sustain": 1.0, "motion": log_uniform(rng, 0.1, 3.0), "motion depth": float(rng.uniform(0.3, 1.5))}  # fmt: skip
    if name in SLIDING:
        long = name == "808"
        return {"ring": log_uniform(rng, 0.8, 4.0) if long else 1e3, "drive": float(rng.uniform(0.1, 4.0 if long else 1.2)),
                "glide": log_uniform(rng, 0.02, 0.12) * float(rng.random() < (0.6 if long else 0.2))}  # fmt: skip
    return {}


def _kept(told: dict[str, float]) -> None:
    """No short tones: what is held sounds on for more than 0.12 s, and is let go slowly."""
    told["sustain"], told["release"] = max(told["sustain"], 0.35), max(told["release"], 0.15)
    told["ring"] = max(told["ring"], 0.5)
    told["loss"] = max(told["loss"], 0.997)


def play_synth(synth: Synth, notes: np.ndarray, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """One part, as `instruments.play_patch`: sound (2, n_frames), notes as heard (n, 3), of wind none."""
    out = np.zeros((2, n_frames), np.float32)
    heard = np.zeros((len(notes), 3), np.float32)
    rng = np.random.default_rng(synth.seed)
    for i, row in enumerate(notes):
        onset, end = int(row[ONSET] * SAMPLE_RATE), int(row[END] * SAMPLE_RATE)
        gain = 0.2 * (0.4 + 0.6 * row[VELOCITY] / 127.0)
        if synth.name in SLIDING:
            _slide(synth, out, notes, i, gain)
        else:
            _note(synth, out, int(row[KEY]), onset, end, gain, rng)
        heard[i] = row[KEY], onset, min(end, onset + _audible(synth, int(row[KEY])))
    if synth.told["drive"] and synth.name not in SLIDING:
        distort(out, np.float32(synth.told["drive"]), np.float32(8000.0 / SAMPLE_RATE))
    return out, heard[:0] if synth.name == "wind" else heard


def _audible(synth: Synth, key: int) -> int:
    """Frames after which a note that is still held has died by 40 dB."""
    told = synth.told
    if synth.name in (*MODULATED, *SLIDING):
        return int(4.6 * _ring(synth) * SAMPLE_RATE)
    if synth.name == "string":
        return int(4.6 / max(1.0 - told["loss"], 1e-4) * SAMPLE_RATE / hertz(key))
    return 1 << 30


def _ring(synth: Synth) -> float:
    return synth.told["ring"] * (0.1 if synth.name == "blip" else 1.0)


def _note(synth: Synth, out: np.ndarray, key: int, onset: int, end: int, gain: float, rng: np.random.Generator) -> None:  # noqa: PLR0917
    told, hz = synth.told, hertz(key) / SAMPLE_RATE
    release = told["release"] * SAMPLE_RATE
    left, right = panned(gain, 0.0)
    if synth.name in WAVES:
        _wave(synth, out, key, onset, end, gain, rng)
    elif synth.name in MODULATED:
        ratio = told["inharmonic"] if synth.name in ("bell", "chime") or (synth.name == "blip" and told["odd"]) else told["ratio"]
        if synth.name == "fm bass":
            ratio = min(max(ratio, 1.0), 3.0)  # below 1 it would be heard an octave lower
        index = min(told["index"], 0.3 / (hz * ratio)) if hz * ratio < 0.3 else 0.2
        beside = 2.0 ** (told["detune"] / 1200.0) if synth.name == "chime" else 1.0  # a second one, so that they beat
        for each in (hz,) if beside == 1.0 else (hz / beside, hz * beside):
            v.modulation(
                out, onset, end, each, ratio, index, told["mellow"] * SAMPLE_RATE, _ring(synth) * SAMPLE_RATE, release, left, right
            )
    elif synth.name == "string":
        period = SAMPLE_RATE / hertz(key)
        noise = rng.standard_normal(max(int(period) + 1, 8)).astype(np.float32)
        noise = np.convolve(noise, np.ones(1 + int(told["kind"] * 4), np.float32) / (1 + int(told["kind"] * 4)), "same").astype(np.float32)
        if period > 4.0:
            v.string(out, noise, onset, end, period, told["loss"], max(release, 800.0), np.float32(1.5) * left, np.float32(1.5) * right)
    else:  # glass
        n = 5
        bowed = told["kind"] < 0.5
        modes = np.empty((n, 4))
        ratios = np.random.default_rng(synth.seed).uniform(1.8, 3.2, n - 1).cumsum()
        modes[:, 0] = np.concatenate([[1.0], ratios])
        modes[:, 1] = 0.9 * 0.45 ** np.arange(n)
        modes[:, 2] = told["ring"] * SAMPLE_RATE * (3.0 if bowed else 1.0) / np.sqrt(modes[:, 0])
        modes[:, 3] = rng.uniform(0.2, 5.0, n) / SAMPLE_RATE
        attack = (told["attack"] * 20.0 + 0.05) * SAMPLE_RATE if bowed else 60.0
        v.modes(out, onset, end, hz, modes, attack, release, left, right)


def _slide(synth: Synth, out: np.ndarray, notes: np.ndarray, i: int, gain: float) -> None:
    """A sub-bass; where the patch glides, from the key before if that has just ended or sounds."""
    told, row = synth.told, notes[i]
    close = i > 0 and row[ONSET] - notes[i - 1, END] < GLIDE_GAP_S
    hz = hertz(row[KEY]) / SAMPLE_RATE
    begun = hertz(notes[i - 1, KEY]) / SAMPLE_RATE if close and told["glide"] else hz
    left, right = panned(gain, 0.0)
    v.glide(
        out, int(row[ONSET] * SAMPLE_RATE), int(row[END] * SAMPLE_RATE), begun, hz, told["glide"] * SAMPLE_RATE, told["drive"],
        told["ring"] * SAMPLE_RATE, told["release"] * SAMPLE_RATE, left, right,
    )  # fmt: skip


def _wave(synth: Synth, out: np.ndarray, key: int, onset: int, end: int, gain: float, rng: np.random.Generator) -> None:  # noqa: PLR0917
    told = synth.told
    n = int(told["unison"])
    numbers = np.zeros(v.N_WAVE)
    rate = float(SAMPLE_RATE)
    numbers[[v.ATTACK, v.DECAY, v.SUSTAIN, v.RELEASE]] = (
        min(told["attack"] * rate, 0.5 * max(end - onset, 1)), told["decay"] * rate, told["sustain"], told["release"] * rate,
    )  # fmt: skip
    numbers[[v.CUTOFF, v.BRIGHTER, v.BRIGHTER_DECAY, v.DAMPING]] = (
        max(told["cutoff"], 1.2 * hertz(key)) / rate, told["brighter"], told["brighter decay"] * rate, told["damping"],
    )  # fmt: skip
    numbers[[v.VIBRATO, v.VIBRATO_DEPTH, v.MOTION, v.MOTION_DEPTH, v.NOISE]] = (
        told["vibrato"] / rate, told["vibrato depth"], told["motion"] / rate, told["motion depth"], told["noise"],
    )  # fmt: skip
    for i in range(n):
        aside = 0.0 if n == 1 else 2.0 * i / (n - 1) - 1.0
        cents = aside * told["detune"] * (0.4 if synth.name == "bass" else 0.5 if synth.name == "reese" else 1.0)
        numbers[v.HZ] = hertz(key + cents / 100.0) / rate
        numbers[[v.LEFT, v.RIGHT]] = panned(gain / math.sqrt(n), aside * told["spread"])
        v.wave(out, synth.table(key), onset, end, numbers, int(rng.integers(1 << 30)))


def _table(name: str, told: dict[str, float], hz: float, rng: np.random.Generator) -> np.ndarray:
    if name == "wind":
        return np.zeros(v.TABLE + 1, np.float32)
    n = max(1, min(int(16000.0 / hz), v.TABLE // 2 - 1))
    h = np.arange(1, n + 1)
    level = h ** -told["slope"]
    if told["odd"]:
        level[1::2] *= 0.05
    elif told["kind"] < 0.4:
        level *= np.abs(np.sin(math.pi * h * told["pulse"])) + 0.02
    if name == "organ":
        bars = rng.random(9) * (rng.random(9) < 0.6)
        level = np.zeros(n)
        for ratio, bar in zip((1, 2, 3, 4, 5, 6, 8, 10, 12), bars, strict=True):
            if ratio <= n:
                level[ratio - 1] = bar
        level[0] += 0.3
    elif name == "choir":
        f = h * hz
        centres = np.array(VOWELS[int(told["vowel"])]) * told["formant"]
        shape = sum(a / (1.0 + ((f - c) / (0.09 * c + 40.0)) ** 2) for a, c in zip((1.0, 0.6, 0.3), centres, strict=True))
        level = h**-0.6 * (shape + 0.02)
    spectrum = np.zeros(v.TABLE // 2 + 1, np.complex128)
    spectrum[1 : n + 1] = level * np.exp(2j * math.pi * rng.random(n) * (0.0 if name in ("lead", "bass", "reese") else 1.0)) * -1j
    y = np.fft.irfft(spectrum)
    y *= 0.35 / (np.sqrt(np.mean(y**2)) + 1e-12)
    return np.append(y, y[0]).astype(np.float32)
