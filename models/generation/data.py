"""Pieces, their split, and streams of training windows.

A piece is a list of notes (onset, duration, pitch, part) in ticks of 1/24 quarter. A window is what the network sees: some of the parts
as the performer's own notes, and, half of the time, the past chroma of the others as its condition.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rtserver.generation import vocabulary as v

FILES = ("openscore_lieder.npz", "openscore_quartets.npz")  # CC0 1.0; nothing else may go into weights that are shipped
SPLIT_SEED = 20261120
HELD_OUT = 0.05  # of the pieces of each file
WARM_UP = 10 * v.TICKS_PER_QUARTER  # the others' notes before a window that still matter to its first chroma: exp(-10)


@dataclass(frozen=True, slots=True)
class Piece:
    name: str
    onset: np.ndarray  # int64 (n,), sorted
    duration: np.ndarray
    pitch: np.ndarray
    part: np.ndarray


def load(folder: Path) -> tuple[list[Piece], list[Piece]]:
    """(training pieces, held-out pieces): 5 % of the pieces of each file, drawn by SPLIT_SEED, are held out."""
    train: list[Piece] = []
    held_out: list[Piece] = []
    for file in FILES:
        path = folder / file
        if not path.exists():
            raise SystemExit(f"{path} is missing: the training data are {' and '.join(FILES)}, in one folder")
        data = dict(np.load(path))
        ends = np.cumsum(data["length"])
        chosen = np.random.default_rng(SPLIT_SEED).permutation(len(ends))[: max(1, round(HELD_OUT * len(ends)))]
        for i, (name, a, b) in enumerate(zip(data["name"], ends - data["length"], ends, strict=True)):
            onset = np.cumsum(data["donset"][a:b].astype(np.int64))
            columns = (data[k][a:b].astype(np.int64) for k in ("dur", "pitch", "part"))
            (held_out if i in chosen else train).append(Piece(str(name), onset, *columns))
    return train, held_out


@dataclass(frozen=True, slots=True)
class Sequence:
    """n events with what the network is told before each: the inputs are the event before, its phase, and the chroma heard by then."""

    dt: np.ndarray  # int64 (n + 1,); index 0 is the start symbol
    pitch: np.ndarray
    duration: np.ndarray
    phase: np.ndarray
    chroma: np.ndarray  # float32 (n + 1, 13)
    texture: int


def sequence(
    piece: Piece, own: np.ndarray, first: int, n: int, *, lead: int = 0, lag: int = 0, listen: bool = True, shift: int | np.ndarray = 0
) -> Sequence:
    """Events `first`..`first + n` of the notes chosen by the mask `own`.

    Parameters
    ----------
    own : bool array (notes,)
        The performer's notes; the rest is what it may listen to.
    lead : int
        Ticks from the start symbol to the first onset.
    lag : int
        Ticks by which the chroma ends before the onset of the event that it comes with: live, hearing takes time.
    listen : bool
        Whether the condition is present (it also needs somebody to listen to).
    shift : int or int array (n,)
        Transposition in semitones, for each event; chords move as one. What the others play moves a quarter earlier, so that a change of
        key is heard before it has to be followed.
    """
    onset, dt, pitch, duration = v.encode(piece.onset[own], piece.pitch[own], piece.duration[own])
    onset, dt, pitch, duration = (a[first : first + n] for a in (onset, dt, pitch, duration))
    dt[0] = lead
    chord = np.maximum.accumulate(np.where(dt > 0, np.arange(len(dt)), 0))
    shifts = np.broadcast_to(shift, n)[: len(dt)][chord]
    ticks = np.r_[onset[0] - lead, onset]
    chroma = np.zeros((len(ticks), v.N_CHROMA), np.float32)
    others = ~own & (piece.onset >= ticks[0] - WARM_UP) & (piece.onset <= ticks[-1])
    if listen and not own.all():
        on = piece.onset[others]
        moved = shifts[np.maximum(np.searchsorted(onset - v.TICKS_PER_QUARTER, on, side="right") - 1, 0)]
        heard = v.chroma_heard(on, on + piece.duration[others], piece.pitch[others] + moved, ticks - lag)
        peak = heard.max(axis=1, keepdims=True)
        chroma[:, :12] = np.where(peak > 1e-6, heard / np.maximum(peak, 1e-6), 0.0)
        chroma[:, 12] = 1.0
    texture = 2 if np.mean(dt[1:] == 0) > 0.1 else 1  # one note in ten shares its onset: chords
    return Sequence(np.r_[0, dt], np.r_[v.START, pitch + shifts], np.r_[v.UNKNOWN_DURATION, duration], ticks % v.N_PHASE, chroma, texture)


def key_changes(n: int, rng: np.random.Generator, mean: int = 96) -> np.ndarray:
    """A transposition by -6..6 for each of `n` events that changes about every `mean` events.

    In the pieces as written the past of one's own part tells the harmony nearly as well as the others do; live it does not, for the player
    goes where he likes. With changes that only the condition announces the network learns to follow what it hears.
    """
    changes = rng.random(n) < 1 / mean
    return rng.integers(-6, 7, n)[np.cumsum(changes)]


class Stream:
    """One row of a batch: windows of `size` events that follow each other for a while, then another piece."""

    FOLLOW = 6  # windows of one piece in a row, so that the state learns to live beyond one window

    def __init__(self, pieces: list[Piece], size: int, rng: np.random.Generator) -> None:
        self.pieces, self.size, self.rng = pieces, size, rng
        lengths = np.array([len(p.onset) for p in pieces], float)
        self.weight = np.cumsum(lengths / lengths.sum())
        self.sequence: Sequence | None = None
        self.at = 0

    def draw(self) -> Sequence:
        """A stretch of a random piece: all parts or some, transposed by -6..6, listening or not; half of what listens changes its key."""
        rng = self.rng
        piece = self.pieces[min(int(np.searchsorted(self.weight, rng.random())), len(self.pieces) - 1)]
        parts = np.unique(piece.part)
        own = np.ones(len(piece.onset), bool)
        listen = False
        if len(parts) > 1 and rng.random() < 2 / 3:
            chosen = rng.permutation(parts)[: rng.integers(1, len(parts))]
            some = np.isin(piece.part, chosen)
            if some.sum() >= 32:  # shorter parts are not worth a window
                own, listen = some, bool(rng.random() < 3 / 4)  # of all windows: half listen
        n = self.size * self.FOLLOW
        first = int(rng.integers(0, max(1, int(own.sum()) - n // 2)))
        first = min(first, max(0, len(np.unique(piece.onset[own] * 128 + piece.pitch[own])) - 32))
        lead, lag = int(rng.integers(0, v.TICKS_PER_QUARTER + 1)), int(rng.integers(0, 13))
        shift = key_changes(n, rng) if listen and rng.random() < 1 / 2 else int(rng.integers(-6, 7))
        made = sequence(piece, own, first, n, lead=lead, lag=lag, listen=listen, shift=shift)
        held = rng.random(len(made.duration)) < 0.1  # live, some keys are still down
        texture = made.texture if rng.random() < 0.5 else 0
        self.heard_duration = np.where(held, v.UNKNOWN_DURATION, made.duration)
        return replace(made, texture=texture)

    def window(self) -> tuple[dict[str, np.ndarray], bool]:
        """The next window (see `cut` for its arrays), and whether it starts a new sequence."""
        fresh = self.sequence is None
        s = self.sequence = self.sequence or self.draw()
        a, b = self.at, min(self.at + self.size, len(s.dt) - 1)
        window = cut(s, a, b, self.size, self.heard_duration)
        self.at = b
        if b == len(s.dt) - 1:
            self.sequence, self.at = None, 0
        return window, fresh


def cut(s: Sequence, a: int, b: int, size: int, heard_duration: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Steps a..b of a sequence as arrays (size,), padded with weight 0: inputs ``*`` and targets ``next_*``."""
    durations = s.duration if heard_duration is None else heard_duration

    def pad(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, np.zeros((size - len(x), *x.shape[1:]), x.dtype)])

    return {
        "dt": pad(s.dt[a:b]), "pitch": pad(s.pitch[a:b]), "duration": pad(durations[a:b]), "phase": pad(s.phase[a:b]),
        "chroma": pad(s.chroma[a:b]), "texture": np.full(size, s.texture),
        "next_dt": pad(s.dt[a + 1 : b + 1]), "next_pitch": pad(s.pitch[a + 1 : b + 1]),
        "next_duration": pad(s.duration[a + 1 : b + 1]), "next_phase": pad(s.phase[a + 1 : b + 1]),
        "weight": pad(np.ones(b - a, np.float32)),
    }  # fmt: skip


def stack(windows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Windows to a batch: arrays (n_windows, size, ...)."""
    return {k: np.stack([w[k] for w in windows]) for k in windows[0]}
