"""How much what the performer writes by itself is like music, and how much of it is copied: ``python -m models.generation.distances DATA``.

Half of the held-out pieces, drawn by the seed, are the *music*. Beside it are set: the other half, as the yardstick (two heaps of
music differ, too); what the model writes from silence, a piece as long as each of the other half; and *order 0*, notes drawn by their
frequency in the training pieces alone. Of each piece the first `--notes` notes count.

Two figures for each of FEATURES, of the histograms over all pieces: the *overlap* of the two, 1 where they are the same; and the
Kullback-Leibler divergence *kl* in nats of the other from the music, half a count being added to every bin.

*Copies*: of each piece the longest run of notes that stands so in a training piece, in whatever key (the same steps, intervals and
durations); `share` is the part of the notes that lie in such runs of at least LONG. Some runs are merely figuration, a trill or a scale:
what the held-out pieces share with the training pieces says how many.

As the held-out pieces are whole scores, the model is asked for one: chords, and all parts where it knows parts (`--texture`, `--part`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.generation.pieces import Piece, load
from rtserver import zoo
from rtserver.generation import vocabulary as v
from rtserver.generation.constraints import Constraints
from rtserver.generation.performer import Performer

FREE = Constraints(low=0, high=v.N_PITCH - 1, polyphony=v.N_PITCH)
LONG = 12  # notes
OCTAVE = 12

Notes = np.ndarray  # int64 (n, 3): onset, pitch, duration in ticks, sorted by onset and pitch


def _onsets(notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    """The onsets, and the highest key that is struck at each."""
    onset, index = np.unique(notes[:, 0], return_inverse=True)
    top = np.full(len(onset), -1)
    np.maximum.at(top, index, notes[:, 1])
    return onset, top


def _classes(notes: Notes) -> np.ndarray:
    classes = notes[:, 1] % OCTAVE
    return (classes - np.bincount(classes, minlength=OCTAVE).argmax()) % OCTAVE


def _down(notes: Notes) -> np.ndarray:
    onset, _ = _onsets(notes)
    begun = np.searchsorted(notes[:, 0], onset, side="right")
    ended = np.searchsorted(np.sort(notes[:, 0] + notes[:, 2]), onset, side="right")
    return begun - ended


def _per_quarter(notes: Notes) -> np.ndarray:
    return np.bincount((notes[:, 0] - notes[0, 0]) // v.TICKS_PER_QUARTER)[:-1]  # the last quarter is cut short


# Name -> (bins, what of each piece is counted, 0..bins - 1 once clipped).
FEATURES: dict[str, tuple[int, Callable[[Notes], np.ndarray]]] = {
    "pitch_class": (OCTAVE, _classes),  # counted from the commonest of the piece: keys differ
    "interval": (2 * OCTAVE + 1, lambda n: np.diff(_onsets(n)[1]) + OCTAVE),  # of the upper voice, an octave to each side
    "inter_onset": (v.MAX_DT + 1, lambda n: np.diff(_onsets(n)[0])),
    "duration": (v.MAX_DURATION + 1, lambda n: n[:, 2]),
    "polyphony": (13, _down),  # keys down once all of an onset are struck
    "notes_a_quarter": (25, _per_quarter),
}


def histogram(made: list[Notes], feature: str) -> np.ndarray:
    """Counts over all pieces; what lies outside counts at the ends."""
    bins, of = FEATURES[feature]
    return np.bincount(np.clip(np.concatenate([of(n) for n in made]), 0, bins - 1), minlength=bins)


def distance(music: list[Notes], other: list[Notes]) -> dict[str, dict[str, float]]:
    """Overlap and divergence of each feature."""
    out: dict[str, dict[str, float]] = {}
    for feature in FEATURES:
        p, q = (histogram(x, feature).astype(float) for x in (music, other))
        overlap = np.minimum(p / p.sum(), q / q.sum()).sum()
        p, q = ((x + 0.5) / (x + 0.5).sum() for x in (p, q))
        out[feature] = {"overlap": round(float(overlap), 4), "kl": round(float((p * np.log(p / q)).sum()), 4)}
    return out


def events(piece: Piece, n: int | None = None) -> Notes:
    """The notes of a piece as the vocabulary has them: unisons merged, long rests folded, durations cut."""
    _, dt, pitch, duration = v.encode(piece.onset, piece.pitch, piece.duration)
    return np.stack([np.cumsum(dt), pitch, duration], axis=1)[:n]


def written(performer: Performer, lengths: list[int], seed: int) -> list[Notes]:
    """Pieces of so many notes, each from silence."""
    made: list[Notes] = []
    for i, n in enumerate(lengths):
        performer.seed = seed + i
        performer.reset()
        rows: list[tuple[int, int, int]] = []
        for _ in range(n):
            note = performer.query(FREE)
            performer.feed(note)
            rows.append((performer.tick, note.pitch, note.duration))
        made.append(np.array(rows, np.int64))
    return made


def drawn(train: list[Piece], lengths: list[int], seed: int) -> list[Notes]:
    """Notes without memory: each column of each by its frequency in the training pieces."""
    dice = np.random.default_rng(seed)
    columns = [np.concatenate(c) for c in zip(*(v.encode(p.onset, p.pitch, p.duration)[1:] for p in train), strict=True)]
    made: list[Notes] = []
    for n in lengths:
        dt, pitch, duration = (c[dice.integers(0, len(c), n)] for c in columns)
        onset = np.cumsum(dt)
        order = np.lexsort((pitch, onset))
        made.append(np.stack([onset, pitch, duration], axis=1)[order])
    return made


class Copies:
    """Finds what of a piece stands in `train`, note by note, in any key.

    Runs are told apart by 64-bit polynomial hashes of what leads from each note to the next.
    """

    _BASE = np.uint64(0x9E3779B97F4A7C15)  # odd: it has an inverse modulo 2 ** 64
    _BACK = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))

    def __init__(self, train: list[Notes]) -> None:
        self._train = np.concatenate([np.r_[self._words(n), self._mixed(np.array([~i]))] for i, n in enumerate(train)])
        self._known: dict[int, np.ndarray] = {}

    @staticmethod
    def _mixed(x: np.ndarray) -> np.ndarray:
        """Neighbours far apart (the finaliser of splitmix64)."""
        z = x.astype(np.int64).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    def _words(self, notes: Notes) -> np.ndarray:
        step, interval = np.diff(notes[:, 0]), np.diff(notes[:, 1])
        return self._mixed(((step * 256 + interval + v.N_PITCH) * 256 + notes[1:, 2]) * 2 + 1)

    def _hashes(self, words: np.ndarray, n: int) -> np.ndarray:
        """Of every run of `n` words."""
        if len(words) < n:
            return np.zeros(0, np.uint64)
        powers, back = (np.r_[np.uint64(1), np.cumprod(np.full(len(words) - 1, b))] for b in (self._BASE, self._BACK))
        summed = np.r_[np.uint64(0), np.cumsum(words * powers)]
        return (summed[n:] - summed[:-n]) * back[: len(words) - n + 1]

    def found(self, notes: Notes, n: int) -> np.ndarray:
        """For each run of `n` notes whether it is a copy: bool (len(notes) - n + 1,)."""
        if n not in self._known:
            self._known[n] = np.unique(self._hashes(self._train, n - 1))
        known, mine = self._known[n], self._hashes(self._words(notes), n - 1)
        return known[np.searchsorted(known, mine).clip(max=len(known) - 1)] == mine

    def longest(self, notes: Notes) -> int:
        """Notes of the longest copy; each part of a copy is one, so the length is found by halving."""
        low, high = 1, len(notes) + 1
        while high - low > 1:
            middle = min((low + high) // 2, 2 * low + 6)
            low, high = (middle, high) if self.found(notes, middle).any() else (low, middle)
        return low

    def share(self, notes: Notes, n: int = LONG) -> float:
        """The part of the notes that lie in copies of at least `n` notes."""
        inside = np.convolve(self.found(notes, n), np.ones(n)) > 0
        return float(inside.mean())

    def figures(self, made: list[Notes]) -> dict[str, float]:
        longest = np.array([self.longest(n) for n in made])
        share = np.mean([self.share(n) for n in made])
        return {"median": float(np.median(longest)), "p90": float(np.percentile(longest, 90)), "longest": int(longest.max())} | {
            "share": round(float(share), 4)
        }


def compare(split: tuple[list[Piece], list[Piece], list[Piece]], performer: Performer, n_notes: int, seed: int) -> dict[str, Any]:
    """All of it, see the module."""
    train, _, held_out = split
    order = np.random.default_rng(seed).permutation(len(held_out))
    half = len(order) // 2
    if half == 0:
        raise SystemExit("one held-out piece cannot be halved: more pieces are needed")
    music, other = ([events(held_out[i], n_notes) for i in part] for part in (order[:half], order[half:]))
    lengths = [len(n) for n in other]
    made = {"music": other, "model": written(performer, lengths, seed), "order_0": drawn(train, lengths, seed)}
    copies = Copies([events(p) for p in train])
    return {
        "pieces": [len(music), len(other)],
        "notes": [sum(map(len, music)), sum(lengths)],
        "distance": {name: distance(music, x) for name, x in made.items()},
        "copies": {name: copies.figures(x) for name, x in made.items()},
    }


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("data", type=Path, help="the training data")
    p.add_argument("--only", help="as in training: pieces with this in their name")
    p.add_argument("--model", default="performer")
    p.add_argument("--zoo", type=Path, default=zoo.FOLDER)
    p.add_argument("--notes", type=int, default=400, help="of each piece, at most")
    p.add_argument("--temperature", type=float, default=1.0)
    p.add_argument("--top-p", type=float, default=1.0)
    p.add_argument("--texture", choices=v.TEXTURES, default="chords")
    p.add_argument("--part", choices=v.PARTS, help="default: all, of a model that knows parts")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("-o", "--out", type=Path, help="also as JSON")
    return p


def main(args: argparse.Namespace) -> None:
    _, entry = zoo.verified_file(args.model, args.zoo)
    part = args.part or ("all" if "part" in entry["inputs"] else "unknown")
    performer = Performer(args.model, temperature=args.temperature, top_p=args.top_p, texture=args.texture, part=part, folder=args.zoo)
    asked = {k: getattr(args, k) for k in ("model", "notes", "temperature", "top_p", "texture", "seed")} | {"part": part}
    found = asked | {"found": compare(load(args.data, args.only), performer, args.notes, args.seed)}
    text = json.dumps(found, indent=1)
    if args.out is not None:
        args.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(parser().parse_args())
