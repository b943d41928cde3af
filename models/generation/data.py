"""Streams of training windows, from pieces.

A window is what the network sees: some of the parts
as the performer's own notes, and conditions, each of them absent in part of the windows, so that one network serves with and without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from models.generation.pieces import Piece
from rtserver.generation import vocabulary as v

WARM_UP = 10 * v.TICKS_PER_QUARTER  # the others' notes before a window that still matter to its first chroma: exp(-10)
N_CHORD = (3, 4)  # pitch classes of a sketched chord


@dataclass(frozen=True, slots=True)
class Told:
    """Which of the conditions a sequence has; what is not told is the same as unknown.

    listen : the past chroma of the other parts; chart : the chroma of the coming four quarters of all parts; score : of the other parts
    """

    listen: bool = False
    chart: bool = False
    score: bool = False
    sketch: bool = False  # the coming chroma as chords of three or four pitch classes, as one would write them down
    phase: bool = True
    bar: bool = False
    texture: bool = False
    part: bool = False
    density: bool = False
    register: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """n events with what the network is told before each: the inputs are the event before, its place, and what is heard or known by then.

    All arrays have n + 1 rows, row 0 the start symbol. `sounding` are the own keys that are down after the event (n + 1, 128);
    `next_sounding` those at the onset of the event to come, before it; `bar` and `metre` as in `vocabulary.bar_place`.
    """

    dt: np.ndarray  # int64
    pitch: np.ndarray
    duration: np.ndarray
    phase: np.ndarray
    bar: np.ndarray
    metre: int
    chroma: np.ndarray  # float32 (n + 1, 13)
    ahead: np.ndarray  # float32 (n + 1, 25)
    controls: np.ndarray  # float32 (n + 1, 4)
    sounding: np.ndarray  # bool (n + 1, 128)
    next_sounding: np.ndarray
    texture: int
    part: int


def sequence(
    piece: Piece,
    own: np.ndarray,
    first: int,
    n: int,
    *,
    told: Told = Told(),
    lead: int = 0,
    lag: int = 0,
    shift: int | np.ndarray = 0,
    rng: np.random.Generator | None = None,
) -> Sequence:
    """Events `first`..`first + n` of the notes chosen by the mask `own`.

    Parameters
    ----------
    own : bool array (notes,)
        The performer's notes; the rest is what it may listen to.
    told : Told
        Which conditions are present; `listen` and `score` also need somebody else.
    lead : int
        Ticks from the start symbol to the first onset.
    lag : int
        Ticks by which the chroma ends before the onset of the event that it comes with: live, hearing takes time.
    shift : int or int array (n,)
        Transposition in semitones, for each event; chords move as one. What the others play moves a quarter earlier, so that a change of
        key is heard before it has to be followed.
    rng : Generator or None
        Blurs density and register, which nobody asks for to the digit.
    """
    onset, dt, pitch, duration = v.encode(piece.onset[own], piece.pitch[own], piece.duration[own])
    part = 0 if not told.part else role(piece, own)
    onset, dt, pitch, duration = (a[first : first + n] for a in (onset, dt, pitch, duration))
    dt[0] = lead
    chord = np.maximum.accumulate(np.where(dt > 0, np.arange(len(dt)), 0))
    shifts = np.broadcast_to(shift, n)[: len(dt)][chord]
    ticks = np.r_[onset[0] - lead, onset]
    moving = onset - v.TICKS_PER_QUARTER

    def moved(on: np.ndarray, keys: np.ndarray) -> np.ndarray:
        return keys + shifts[np.maximum(np.searchsorted(moving, on, side="right") - 1, 0)]

    chroma = np.zeros((len(ticks), v.N_CHROMA), np.float32)
    if told.listen and not own.all():
        others = ~own & (piece.onset >= ticks[0] - WARM_UP) & (piece.onset <= ticks[-1])
        on = piece.onset[others]
        heard = v.chroma_heard(on, on + piece.duration[others], moved(on, piece.pitch[others]), ticks - lag)
        chroma[:, :12] = loudest_one(heard)
        chroma[:, 12] = 1.0
    ahead = np.zeros((len(ticks), v.N_AHEAD), np.float32)
    if told.chart or (told.score and not own.all()):
        chosen = np.ones(len(own), bool) if told.chart else ~own
        chosen &= (piece.onset + piece.duration > ticks[0]) & (piece.onset < ticks[-1] + 2 * v.AHEAD)
        on = piece.onset[chosen]
        ahead[:, :24] = coming(on, piece.duration[chosen], moved(on, piece.pitch[chosen]), ticks, told.sketch)
        ahead[:, 24] = 1.0
    bar, length = np.zeros(len(ticks), np.int64), 0
    if told.bar and piece.bar is not None:
        length, line = piece.bar[0] // 12, piece.bar[1]
        bar = 1 + (ticks - line) % piece.bar[0]
    chords = 2 if np.mean(dt[1:] == 0) > 0.1 else 1  # one note in ten shares its onset: chords
    pitches = np.r_[v.START, pitch + shifts]
    sounding, next_sounding = down(onset, pitches[1:], duration, ticks)
    controls = asked(onset, pitches[1:], ticks, told, rng)
    return Sequence(
        dt=np.r_[0, dt],
        pitch=pitches,
        duration=np.r_[v.UNKNOWN_DURATION, duration],
        phase=ticks % v.N_PHASE if told.phase else np.full(len(ticks), v.UNKNOWN_PHASE),
        bar=bar,
        metre=length,
        chroma=chroma,
        ahead=ahead,
        controls=controls,
        sounding=sounding,
        next_sounding=next_sounding,
        texture=chords if told.texture else 0,
        part=part,
    )


def loudest_one(weights: np.ndarray) -> np.ndarray:
    """Rows of pitch classes so that the loudest of each is 1; silence stays silence."""
    peak = weights.max(axis=-1, keepdims=True)
    return np.where(peak > 1e-6, weights / np.maximum(peak, 1e-6), 0.0)


def coming(onset: np.ndarray, duration: np.ndarray, pitch: np.ndarray, ticks: np.ndarray, sketch: bool) -> np.ndarray:
    """What sounds in the coming two quarters and in the two after them, float (ticks, 24)."""
    looks, index = np.unique(np.r_[ticks, ticks + v.AHEAD, ticks + 2 * v.AHEAD], return_inverse=True)
    total = np.r_[np.zeros((1, 12)), np.cumsum(v.chroma_between(onset, onset + duration, pitch, looks), axis=0)][index].reshape(3, -1, 12)
    weights = np.diff(total, axis=0).transpose(1, 0, 2)
    weights[weights < 0.5] = 0.0  # rounding
    if sketch:
        kept = -np.sort(-weights, axis=-1)[..., N_CHORD[len(onset) % 2] - 1, None]
        weights = ((weights >= kept) & (weights > 0)).astype(float)
    return loudest_one(weights).reshape(len(ticks), 24)


def down(onset: np.ndarray, pitch: np.ndarray, duration: np.ndarray, ticks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The keys that are down, bool (n + 1, 128): after each event (row 0: before all), and at the onset of the next, before it."""
    n = len(onset)
    after, before = np.zeros((n + 1, v.N_PITCH), bool), np.zeros((n + 1, v.N_PITCH), bool)
    release = onset + duration
    # A note cut to four quarters spans few events: spread each over those that it outlives.
    last = np.searchsorted(onset, release, side="left")  # the first event at or after the release
    lengths = last - np.arange(n)
    rows = np.repeat(np.arange(n), lengths) + ramp(lengths)
    keys = np.clip(np.repeat(pitch, lengths), 0, v.N_PITCH - 1)
    after[rows + 1, keys] = True
    later = np.repeat(release, lengths) > onset[np.minimum(rows + 1, n - 1)]
    keep = (rows + 1 < n) & later
    before[rows[keep] + 1, keys[keep]] = True
    return after, before


def ramp(lengths: np.ndarray) -> np.ndarray:
    """0, 1, …, for each of `lengths`, in a row."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def asked(onset: np.ndarray, pitch: np.ndarray, ticks: np.ndarray, told: Told, rng: np.random.Generator | None) -> np.ndarray:
    """Density and register of every four quarters as controls (ticks, 4): what a player would have asked for to get these notes."""
    out = np.zeros((len(ticks), v.N_CONTROLS), np.float32)
    if not (told.density or told.register):
        return out
    block = onset // v.N_PHASE
    blocks, index = np.unique(block, return_inverse=True)
    count = np.bincount(index)
    mean = np.bincount(index, pitch) / count
    blur = rng.normal(size=(2, len(blocks))) if rng is not None else np.zeros((2, len(blocks)))
    at = np.searchsorted(blocks, ticks // v.N_PHASE).clip(0, len(blocks) - 1)
    if told.density:
        out[:, 0] = np.log2(1.0 + count * np.exp(0.2 * blur[0]) / 4.0)[at] / 3.0
        out[:, 1] = 1.0
    if told.register:
        out[:, 2] = ((mean + 2.0 * blur[1])[at] - 60.0) / 24.0
        out[:, 3] = 1.0
    return out


def role(piece: Piece, own: np.ndarray) -> int:
    """Which of `vocabulary.PARTS` the chosen notes are, by the mean pitch of the parts: 0 where they are several but not all."""
    parts = np.unique(piece.part)
    chosen = np.unique(piece.part[own])
    if len(chosen) == len(parts):
        return v.PARTS.index("all")
    if len(chosen) > 1:
        return 0
    means = [piece.pitch[piece.part == p].mean() for p in parts]
    rank = sorted(range(len(parts)), key=lambda i: -means[i]).index(int(np.searchsorted(parts, chosen[0])))
    return v.PARTS.index("upper" if rank == 0 else "lower" if rank == len(parts) - 1 else "inner")


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
        """A stretch of a random piece: all parts or some, transposed by -6..6, told this or that; half of what listens changes its key."""
        rng = self.rng
        piece = self.pieces[min(int(np.searchsorted(self.weight, rng.random())), len(self.pieces) - 1)]
        parts = np.unique(piece.part)
        own = np.ones(len(piece.onset), bool)
        if len(parts) > 1 and rng.random() < 2 / 3:
            chosen = rng.permutation(parts)[: rng.integers(1, len(parts))]
            some = np.isin(piece.part, chosen)
            if some.sum() >= 32:  # shorter parts are not worth a window
                own = some
        alone = bool(own.all())
        likely = {"listen": 0.75 * (not alone), "phase": 15 / 16, "bar": 1 / 2, "texture": 1 / 2, "part": 1 / 2}
        likely |= {"density": 1 / 4, "register": 1 / 4}
        told = Told(**{k: bool(rng.random() < p) for k, p in likely.items()}, sketch=bool(rng.random() < 1 / 2))
        known = rng.random()  # of all windows 40 % know what comes
        told = replace(told, chart=known < (0.4 if alone else 0.2), score=not alone and 0.2 <= known < 0.4)
        n = self.size * self.FOLLOW
        first = int(rng.integers(0, max(1, int(own.sum()) - n // 2)))
        first = min(first, max(0, len(np.unique(piece.onset[own] * 128 + piece.pitch[own])) - 32))
        lead, lag = int(rng.integers(0, v.TICKS_PER_QUARTER + 1)), int(rng.integers(0, 13))
        shift = key_changes(n, rng) if told.listen and rng.random() < 1 / 2 else int(rng.integers(-6, 7))
        made = sequence(piece, own, first, n, told=told, lead=lead, lag=lag, shift=shift, rng=rng)
        held = rng.random(len(made.duration)) < 0.1  # live, some keys are still down
        self.heard_duration = np.where(held, v.UNKNOWN_DURATION, made.duration)
        return made

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

    now, later = slice(a, b), slice(a + 1, b + 1)
    return {
        "dt": pad(s.dt[now]), "pitch": pad(s.pitch[now]), "duration": pad(durations[now]), "phase": pad(s.phase[now]),
        "bar": pad(s.bar[now]), "metre": np.full(size, s.metre), "texture": np.full(size, s.texture), "part": np.full(size, s.part),
        "chroma": pad(s.chroma[now]), "ahead": pad(s.ahead[now]), "controls": pad(s.controls[now]),
        "sounding": pad(s.sounding[now]),
        "next_dt": pad(s.dt[later]), "next_pitch": pad(s.pitch[later]), "next_duration": pad(s.duration[later]),
        "next_phase": pad(s.phase[later]), "next_bar": pad(s.bar[later]), "next_sounding": pad(s.next_sounding[now]),
        "weight": pad(np.ones(b - a, np.float32)),
    }  # fmt: skip


def stack(windows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Windows to a batch: arrays (n_windows, size, ...)."""
    return {k: np.stack([w[k] for w in windows]) for k in windows[0]}


def pack(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A batch in a quarter of the bytes, for the way from the process that drew it: int16, float16, bits. `network.tensors` undoes it."""
    small: dict[str, np.ndarray] = {}
    for k, x in batch.items():
        if k in ("sounding", "next_sounding"):
            small[k] = np.packbits(x, axis=-1)
        else:
            small[k] = x.astype({"i": np.int16, "f": np.float16, "b": np.bool_}[x.dtype.kind])
    return small


def rows(pieces: list[Piece], size: int, numbers: list[int], seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Without end: the next window of each of the streams with these numbers, stacked, packed, and ``fresh`` (rows,): which start anew."""
    streams = [Stream(pieces, size, np.random.default_rng([seed, k])) for k in numbers]
    while True:
        windows, fresh = zip(*(s.window() for s in streams), strict=True)
        yield pack(stack(list(windows)) | {"fresh": np.array(fresh)})
