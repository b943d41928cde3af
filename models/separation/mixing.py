"""Training mixtures, drawn without end from a pool (`pool`): random remixes, part of them with stems that belong together."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.separation import effects, sampler
from models.separation.pool import read_index
from models.separation.stems import POOLED, SAMPLE_RATE

ALIGNED = 0.3  # share of mixtures whose stems are of one song at one time
ABSENT = 0.06  # share of stems left out
SPEED_SHARE, SPEED = 0.3, 0.09
RATES = (1.0, 44100.0 / 48000.0)  # the network counts bins: at 48 kHz all sounds lower by this
GROUPS = {"recorded": "recorded", "loops": "loop", "electronic": "electronic"}  # by source; others are midi
EQ_SHARE, EQ_DB = 0.6, 9.0
ROOM_SHARE = 0.25
GAIN_DB = (-9.0, 6.0)
OVERALL_DB = (-14.0, 6.0)
CEILING = 0.98
FULL_SCALE = 1.0 / 32767.0
# Weights of the sources of a stem; those that a pool lacks are left out.
SHARES = {
    "drums": {"samples": 0.44, "electronic": 0.24, "soundfont": 0.18, "loops": 0.14, "recorded": 1.0},
    "bass": {"samples": 0.5, "synthesis": 0.32, "soundfont": 0.18, "recorded": 1.0},
    "other": {"samples": 0.38, "synthesis": 0.28, "soundfont": 0.18, "loops": 0.16, "recorded": 1.0},
    "vocals": {"recorded": 1.0},
}


@dataclass(frozen=True)
class Example:
    """A mixture's parts. The mixture is ``stems.sum(0)``.

    stems : float32 (3, 2, n_frames): drums, bass, other; (4, 2, n_frames) where the pool has vocals, which come last
    notes : float32 (n_notes, 4): key as the network hears it (fractional), onset frame, end frame, stem index; an onset may lie before 0
    has_score : whether `notes` has all notes of bass and other
    group : what it is made of: recorded, loop, electronic (drums) or midi (played notes); the first that is true of a stem
    """

    stems: np.ndarray
    notes: np.ndarray
    has_score: bool
    group: str


class Pool:
    """The excerpts of one split of a pool, by stem and source; without those that are too short for `seconds` at any speed.

    Exits with a line that says what is wrong where the pool is missing, or none is left.
    """

    def __init__(self, folder: Path, split: str, seconds: float = 0.0) -> None:
        self.folder = folder
        self.excerpts = [e for e in read_index(folder) if e["split"] == split]
        if not self.excerpts:
            raise SystemExit(
                f"{folder} has no excerpt of the split {split!r}: is it complete? It takes two tracks of your own: one is for validation"
            )
        self.names = POOLED[: _n_stems(self.excerpts)]
        self.needed_s = (_needed(round(seconds * SAMPLE_RATE), 1.0 + SPEED)) / SAMPLE_RATE if seconds else 0.0
        lengths = [_seconds(folder, e["name"], tuple(e["stems"])) if seconds else 0.0 for e in self.excerpts]
        self.excerpts = [e for e, length in zip(self.excerpts, lengths, strict=True) if length >= self.needed_s]
        self.n_short = len(lengths) - len(self.excerpts)
        if not self.excerpts:
            fewer = ", or choose smaller --hops or --chunks" if split == "train" else ""
            raise SystemExit(
                f"{folder}: mixtures need excerpts of at least {self.needed_s:.2f} s, the longest of the split {split!r} has "
                f"{max(lengths):.2f} s: import longer tracks{fewer}"
            )
        self.by_source: list[dict[str, list[dict[str, Any]]]] = []
        self.sources: list[list[str]] = []
        self.weights: list[np.ndarray] = []
        for stem in self.names:
            found: dict[str, list[dict[str, Any]]] = {}
            for e in self.excerpts:
                if stem in e["stems"]:
                    found.setdefault(e["stems"][stem]["source"], []).append(e)
            weights = np.array([SHARES[stem].get(source, 0.1) for source in found], np.float64)
            self.by_source.append(found)
            self.sources.append(list(found))
            self.weights.append(weights / weights.sum() if found else weights)

    def draw(self, stem: int, rng: np.random.Generator) -> dict[str, Any] | None:
        """An excerpt that has this stem, by the weights of the sources; None where none has."""
        sources = self.sources[stem]
        if not sources:
            return None
        found = self.by_source[stem][sources[rng.choice(len(sources), p=self.weights[stem])]]
        return found[rng.integers(len(found))]

    def audio(self, excerpt: dict[str, Any], stem: int) -> np.ndarray:
        """(2, n_frames) int16, mapped from the file."""
        return np.asarray(
            np.load(self.folder / f"{excerpt['name']}_{self.names[stem]}.npy", mmap_mode="c")
        )  # kernels take no read-only arrays

    def notes(self, excerpt: dict[str, Any], stem: int) -> np.ndarray | None:
        """(n, 4) float32; None where they are not known."""
        if not excerpt["stems"][self.names[stem]]["notes"]:
            return None
        notes = np.load(self.folder / f"{excerpt['name']}_notes.npy")
        return notes[notes[:, 3] == stem]


@functools.cache
def _seconds(folder: Path, name: str, stems: tuple[str, ...]) -> float:
    """The length of the shortest stem. Each stream has a `Pool` of its own, so that all would look."""
    try:
        return min(np.load(folder / f"{name}_{stem}.npy", mmap_mode="r").shape[1] for stem in stems) / SAMPLE_RATE
    except (OSError, ValueError, EOFError) as e:
        raise SystemExit(f"{folder}: excerpt {name} cannot be read: {e}: make or import it again") from e


def _needed(n_frames: int, speed: float) -> int:
    return math.ceil(n_frames * speed) + 4


def _n_stems(excerpts: list[dict[str, Any]]) -> int:
    return len(POOLED) if any(POOLED[-1] in e["stems"] for e in excerpts) else len(POOLED) - 1


def n_stems(pool: Path) -> int:
    """How many stems the training examples of a pool have: 4 with vocals, else 3."""
    return len(Pool(pool, "train").names)


def examples(pool: Path, split: str, seconds: float, rng: np.random.Generator) -> Iterator[Example]:
    """Mixtures of `seconds` at 44.1 kHz, without end; the same for the same pool and state of `rng`.

    Exits as `Pool` does.
    """
    source = Pool(pool, split, seconds)
    n_frames = round(seconds * SAMPLE_RATE)
    while True:
        example = mixture(source, n_frames, rng)
        if example is not None:
            yield example


def mixture(pool: Pool, n_frames: int, rng: np.random.Generator) -> Example | None:
    """One mixture of `n_frames`, of a pool that was opened for so many; None where the stems that were drawn are all absent."""
    names = pool.names
    stems = np.zeros((len(names), 2, n_frames), np.float32)
    rate = RATES[rng.integers(len(RATES))]
    present = rng.random(len(names)) >= ABSENT
    if not present.any():
        present[rng.integers(len(names))] = True
    together = pool.draw(0, rng) or pool.draw(2, rng) if rng.random() < ALIGNED else None
    aligned = together is not None
    place, common = rng.random(), _speed(rng)
    notes, known = [np.zeros((0, 4), np.float32)], True
    sources: set[str] = set()
    for stem in range(len(names)):
        excerpt = together if aligned else pool.draw(stem, rng)
        if not present[stem] or excerpt is None or names[stem] not in excerpt["stems"]:
            continue
        speed, at = (common, place) if aligned else (_speed(rng), rng.random())
        speed *= rate
        audio = pool.audio(excerpt, stem)
        spare = audio.shape[1] - _needed(n_frames, speed)
        start = int(at * spare)
        told = excerpt["stems"][names[stem]]
        _place(audio, start, speed, told.get("balance", told["gain"]) if aligned else told["gain"], stems[stem], rng)
        sources.add(told["source"])
        if names[stem] == "vocals":  # no score has them
            continue
        known &= told["source"] != "recorded"
        if stem > 0:
            played = pool.notes(excerpt, stem)
            known &= played is not None
            if played is not None:
                notes.append(_moved(played, start, speed, n_frames))
    if not sources:
        return None
    stems *= np.float32(10.0 ** (rng.uniform(*OVERALL_DB) / 20.0))
    effects.limit(stems, np.float32(CEILING), 64, np.float32(1.0 / (0.1 * SAMPLE_RATE)))
    group = next((group for source, group in GROUPS.items() if source in sources), "midi")
    return Example(stems, np.concatenate(notes) if known else notes[0], known, group)


def _speed(rng: np.random.Generator) -> float:
    return 1.0 + rng.uniform(-SPEED, SPEED) if rng.random() < SPEED_SHARE else 1.0


def _place(audio: np.ndarray, start: int, speed: float, gain: float, out: np.ndarray, rng: np.random.Generator) -> None:  # noqa: PLR0917
    """Cut out a stem, with gain, polarity, width, pan, channels swapped or not; then equaliser and room."""
    gain *= 10.0 ** (rng.uniform(*GAIN_DB) / 20.0) * FULL_SCALE * (1 if rng.random() < 0.5 else -1)
    width = rng.uniform(0.0, 1.3) if rng.random() < 0.4 else 1.0
    matrix = 0.5 * np.array([[1.0 + width, 1.0 - width], [1.0 - width, 1.0 + width]])
    if rng.random() < 0.5:
        matrix = matrix[::-1]
    pan = rng.uniform(-1.0, 1.0) * (0.25 if rng.random() < 0.7 else 0.8)
    matrix = matrix * gain * np.array([[min(1.0, 1.0 - pan)], [min(1.0, 1.0 + pan)]])
    (ll, lr), (rl, rr) = matrix.astype(np.float32)
    sampler.cut_out(audio, start, speed, ll, lr, rl, rr, out)
    if rng.random() < EQ_SHARE:
        centre = 60.0 * 2.0 ** rng.uniform(0.0, 7.5)
        gain_db, q = rng.uniform(-EQ_DB, EQ_DB), rng.uniform(0.4, 2.0)
        effects.peaking(out, np.float32(centre / SAMPLE_RATE), np.float32(gain_db), np.float32(q))
    if rng.random() < ROOM_SHARE:
        effects.room(out, rng)


def _moved(notes: np.ndarray, start: int, speed: float, n_frames: int) -> np.ndarray:
    """Notes as they sound in a stretch from frame `start` at `speed`."""
    moved = notes.copy()
    moved[:, 1:3] = (moved[:, 1:3] - np.float32(start)) / np.float32(speed)
    moved[:, 0] += np.float32(12.0 * math.log2(speed))
    return moved[(moved[:, 2] > 0) & (moved[:, 1] < n_frames)]
