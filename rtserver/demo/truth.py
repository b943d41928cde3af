"""How well the follower did: its positions against the known performance."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LOST_S = 2.0


@dataclass(frozen=True)
class Truth:
    """Onsets as played: position (quarters, score as unfolded), time (seconds of the recording), and the segment between two jumps."""

    quarter: Floats
    time_s: Floats
    segment: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Accuracy:
    """Error of every onset, in seconds; NaN where the position was never reached within its segment.

    onset : when the follower reached the onset's position, minus when it was played. within : share of onsets within a tolerance.
    lost : share of onsets at which the position was more than `LOST_S` of playing time off. relock_s : from each jump until the
    position is within 1 s, and stays so for a second.
    """

    onset: Floats
    lost: float
    relock_s: list[float]

    def within(self, tolerance_s: float) -> float:
        """Share of all onsets reached within `tolerance_s`."""
        return float(np.mean(np.nan_to_num(np.abs(self.onset), nan=np.inf) <= tolerance_s))

    def percentile(self, q: float) -> float:
        """Percentile of the absolute error, seconds; onsets never reached count as infinitely late."""
        return float(np.percentile(np.nan_to_num(np.abs(self.onset), nan=np.inf), q, method="higher"))


def read_truth(path: Path) -> Truth:
    """The table beside the recording."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    column = {name: np.array([float(row[name]) for row in rows]) for name in ("score_quarter", "perf_time_s", "segment")}
    return Truth(column["score_quarter"], column["perf_time_s"], column["segment"].astype(np.int64))


def judge(truth: Truth, time_s: Floats, quarter: Floats) -> Accuracy:
    """Compare positions, each with the time at which it was available, with the truth."""
    onset = np.full(len(truth.quarter), np.nan)
    lost = np.zeros(len(truth.quarter), bool)
    relock: list[float] = []
    for segment in np.unique(truth.segment):
        mine = np.flatnonzero(truth.segment == segment)
        q, t = truth.quarter[mine], truth.time_s[mine]
        begin = t[0] if segment else -np.inf
        later = truth.time_s[truth.segment > segment]
        inside = (time_s >= begin) & (time_s < (later.min() if len(later) else np.inf))
        at, position = time_s[inside], quarter[inside]
        # Playing time of each position, extended by the segment's own mean tempo at both ends.
        slope = (t[-1] - t[0]) / max(q[-1] - q[0], 1e-9)
        played = np.interp(position, q, t) + slope * (np.minimum(position - q[0], 0) + np.maximum(position - q[-1], 0))
        near = np.flatnonzero((position >= q[0] - 2.0) & (position <= q[-1] + 2.0)) if segment else np.arange(len(position))
        if len(near):
            reached = np.maximum.accumulate(position[near[0] :])
            first = np.searchsorted(reached, q - 1e-3)
            ok = first < len(reached)
            onset[mine[ok]] = at[near[0] :][first[ok]] - t[ok]
        last = np.searchsorted(at, t, side="right") - 1
        lost[mine] = (last < 0) | (np.abs(played[np.maximum(last, 0)] - t) > LOST_S) if len(at) else True
        if segment:
            good = np.abs(played - at) < 1.0
            steady = [k for k in np.flatnonzero(good) if good[(at >= at[k]) & (at <= at[k] + 1.0)].all()]
            relock.append(float(at[steady[0]] - t[0]) if steady else float("inf"))
    return Accuracy(onset, float(lost.mean()), relock)
