"""Scores made in the test, as plain notes, and performances of them on keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from rtserver.dsp.layout import N_FEATURES
from rtserver.events import Event, Position
from rtserver.following.follower import Follower
from rtserver.following.score import Notes, Score
from rtserver.node import Spec

HOP = 480
SPEC = Spec(48000, HOP, (N_FEATURES,))
Written = tuple[float, float, int]  # onset and duration in quarters, pitch
Struck = tuple[float, int]  # second, pitch


def score_of(written: Sequence[Written], bpm: float = 120.0) -> Score:
    onset, duration, pitch = (np.array(column) for column in zip(*written, strict=True))
    order = np.lexsort((pitch, onset))
    notes = Notes(
        onset[order].astype(np.float64), duration[order].astype(np.float64), pitch[order].astype(np.int32), np.zeros(len(order), np.int32)
    )
    line = np.array([0.0, max(float(onset.max()), 1.0)])
    return Score(
        title="made here",
        parts=("piano",),
        notes=notes,
        written=notes,
        segments=np.array([[0.0, float(line[1]), 0.0]]),
        skips=np.empty((0, 2)),
        tempo_quarter=np.zeros(1),
        tempo_bpm=np.array([bpm]),
        beat_quarter=line,
        beat=line,
        bar_quarter=np.zeros(1),
        bar_number=np.ones(1, np.int32),
    )


def study(n_quarters: int = 64, seed: int = 0) -> Score:
    """Quavers over crotchets, of random white keys: 1.5 notes for each of two moments a quarter."""
    random = np.random.default_rng(seed)
    upper = random.choice([60, 62, 64, 65, 67, 69, 71, 72, 74, 76, 77, 79], 2 * n_quarters)
    lower = random.choice([36, 38, 40, 41, 43, 45, 47, 48, 50, 52], n_quarters)
    written = [(i / 2, 0.5, int(p)) for i, p in enumerate(upper)] + [(float(i), 1.0, int(p)) for i, p in enumerate(lower)]
    return score_of(written)


def on_keys(score: Score, stretch: float = 1.0, start: float = 0.0, stop: float = np.inf, begin_s: float = 0.0) -> list[Struck]:
    """The keys of quarters `start` to `stop`, the first at second `begin_s`, everything `stretch` times as long as written."""
    notes = score.notes
    chosen = (notes.onset_quarter >= start) & (notes.onset_quarter < stop)
    at = score.seconds_at(notes.onset_quarter[chosen])
    return [(begin_s + stretch * float(s - at[0]), int(p)) for s, p in zip(at, notes.pitch[chosen], strict=True)]


def prepared(score: Score, method: str = "semimarkov") -> Follower:
    follower = Follower(score, method)
    follower.prepare(SPEC)
    return follower


def play(follower: Follower, struck: Iterable[Struck], until_s: float | None = None) -> list[Position]:
    """The position after each hop of 10 ms, from the hop of the first second on; `until_s`: go on listening."""
    hops: dict[int, list[int]] = {}
    for at, pitch in struck:
        hops.setdefault(int(at * 100 + 1e-6), []).append(pitch)
    events: list[Event] = []
    after: list[Position] = []
    for n in range(max(max(hops, default=0) + 1, round(100 * (until_s or 0.0)))):
        follower.process_keys(hops.get(n, ()), (n + 1) * HOP, events.append)
        assert isinstance(events[-1], Position)
        after.append(events[-1])
    return after


def reached_s(positions: Sequence[Position], quarter: float, from_s: float = 0.0) -> float:
    """When, in seconds, `quarter` was first reached after `from_s`; infinite if never."""
    first = round(100 * from_s)
    return next(((first + n + 1) / 100 for n, p in enumerate(positions[first:]) if p.quarter >= quarter - 1e-3), np.inf)
