"""Off-line alignment of a whole performance with its score: dynamic time warping over the same features as the follower's.

The cheapest path through the matrix of distances, every cell of it, with steps (1, 1), (1, 0) and (0, 1) that each pay for the cell they
enter. Long pieces are aligned coarsely first and then within a band around the coarse path, level by level. What is found in sound is
made exact afterwards (`rtserver.following.refinement`).

References: H. Sakoe and S. Chiba, "Dynamic programming algorithm optimization for spoken word recognition", IEEE TASSP 26(1), 1978;
S. Salvador and P. Chan, "Toward accurate dynamic time warping in linear time and space", Intelligent Data Analysis 11(5), 2007.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rtserver.dsp.layout import SEMITONES
from rtserver.errors import AudioFileError
from rtserver.following.oltw import half_square
from rtserver.following.reference import HOP_S, N_MATCH, build_reference, to_match
from rtserver.following.refinement import refine
from rtserver.following.score import Score, load_score
from rtserver.kernels import jit

Floats32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

COARSER = 4  # frames of one level that make one of the next
SMALL = 1500  # frames: the whole matrix of this is a second's work at most
RADIUS = 3  # coarse frames around the coarse path that the next level looks at
COLUMNS = ("score_quarter", "score_beat", "time_s")
DIAGONAL, DOWN, RIGHT = 0, 1, 2


@jit("void(float32[:,::1], float32[:,::1], int64[::1], int64[::1], int64[::1], uint8[::1], float64[::1], float64[::1])")
def _fill(a: Floats32, b: Floats32, first: Ints, last: Ints, start: Ints, came: npt.NDArray[np.uint8], above: Floats, row: Floats) -> None:  # noqa: PLR0917
    """Path costs of all cells within the band, row by row; `came` remembers the step into each."""
    for i in range(len(a)):
        for j in range(first[i], last[i]):
            best, step = np.inf, DIAGONAL
            if i == 0 and j == 0:
                best = 0.0
            if i > 0 and first[i - 1] < j <= last[i - 1] and above[j - 1] < best:
                best, step = above[j - 1], DIAGONAL
            if i > 0 and first[i - 1] <= j < last[i - 1] and above[j] < best:
                best, step = above[j], DOWN
            if j > first[i] and row[j - 1] < best:
                best, step = row[j - 1], RIGHT
            row[j] = best + half_square(a[i], b[j])
            came[start[i] + j - first[i]] = step
        for j in range(first[i], last[i]):
            above[j] = row[j]


def warp(a: Floats32, b: Floats32, first: Ints | None = None, last: Ints | None = None) -> Ints:
    """The cheapest path between two sequences (n, d) and (m, d): int64 (n_steps, 2) of index pairs from (0, 0) to (n - 1, m - 1).

    `first`, `last` (n,): of each row, only columns first..last - 1 are looked at; neighbouring rows must overlap. Memory: a byte a cell.
    """
    n, m = len(a), len(b)
    first = np.zeros(n, np.int64) if first is None else first
    last = np.full(n, m, np.int64) if last is None else last
    start = np.concatenate(([0], np.cumsum(last - first)))
    came = np.zeros(int(start[-1]), np.uint8)
    _fill(a, b, first, last, start, came, np.full(m, np.inf), np.full(m, np.inf))
    i, j = n - 1, m - 1
    path = [(i, j)]
    while (i, j) != (0, 0):
        step = came[start[i] + j - first[i]]
        i, j = i - (step != RIGHT), j - (step != DOWN)
        path.append((i, j))
    return np.array(path[::-1], np.int64)


def align(a: Floats32, b: Floats32) -> Ints:
    """`warp` in time and memory that grow with the length, not with its square, for sequences of more than `SMALL` frames."""
    if min(len(a), len(b)) <= SMALL:
        return warp(a, b)
    coarse = align(_coarser(a), _coarser(b))
    n, m = len(a), len(b)
    first, last = np.full(n, m, np.int64), np.zeros(n, np.int64)
    for i, j in coarse.tolist():
        rows = slice(max(i - RADIUS, 0) * COARSER, (i + RADIUS + 1) * COARSER)
        first[rows] = np.minimum(first[rows], max(j - RADIUS, 0) * COARSER)
        last[rows] = np.maximum(last[rows], min((j + RADIUS + 1) * COARSER, m))
    return warp(a, b, first, last)


def _coarser(x: Floats32) -> Floats32:
    """Means of `COARSER` frames; the last one of what is left."""
    starts = np.arange(0, len(x), COARSER)
    counts = np.diff(np.append(starts, len(x)))[:, None]
    return np.ascontiguousarray(np.add.reduceat(x, starts, axis=0) / counts, np.float32)


def onset_times(score: Score, features: Floats32) -> tuple[Floats, Floats]:
    """When each onset of `score` is played in a performance of which all hops' features (n_hops, 208) are known.

    Returns quarters (n_onsets,) and seconds (n_onsets,), resolved to 10 ms.
    """
    reference = build_reference(score)
    performance = np.zeros((len(features), N_MATCH), np.float32)
    size = np.linalg.norm(features[:, 12:N_MATCH], axis=1)
    peak = float(np.percentile(size[size > 0.0], 98)) if np.any(size > 0.0) else 1.0
    for x, out in zip(features, performance, strict=True):
        to_match(x, peak, out)
    path = align(performance, reference.match)
    quarters = np.unique(score.notes.onset_quarter)
    frames = np.array([reference.frame_of(float(q)) for q in quarters])
    reached = np.searchsorted(path[:, 1], frames)
    reached[frames == 0] = np.searchsorted(path[:, 1], 0, side="right") - 1  # whatever precedes the music waits on the first frame
    return quarters, (path[np.minimum(reached, len(path) - 1), 0] + 1) * HOP_S


def heard_times(score: Score, features: Floats32) -> tuple[Floats, Floats]:
    """`onset_times` of sound, made exact. Raises `ModelError` where the onset network cannot be used."""
    quarters, seconds = onset_times(score, features)
    events = score.events()
    begun = refine(events, np.ascontiguousarray(features[:, SEMITONES:]), np.interp(events.quarter, quarters, seconds))
    return quarters, np.interp(quarters, events.quarter, begun)


def align_files(
    score: str | PathLike[str], performance: str | PathLike[str], output: str | PathLike[str], parts: Sequence[str | int] = ()
) -> None:
    """Align a recording or a MIDI performance with a score, and write a row for each onset to `output` as CSV.

    Raises `ScoreError`, `AudioFileError` or `ModelError` for files that cannot be used.
    """
    from rtserver.following.offline import MIDI_SUFFIXES, audio_features, midi_features

    loaded = load_score(score, parts)
    for warning in loaded.warnings:
        print(f"{score}: {warning}", file=sys.stderr)
    midi = Path(performance).suffix.lower() in MIDI_SUFFIXES
    features = midi_features(performance) if midi else audio_features(performance, loaded.tuning_hz)
    if not len(features):
        raise AudioFileError(f"{performance}: holds no sound, so there is nothing to align")
    quarters, seconds = (onset_times if midi else heard_times)(loaded, features)
    with Path(output).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        rows = zip(quarters, loaded.beat_at(quarters), seconds, strict=True)
        writer.writerows((f"{q:.5f}", f"{b:.5f}", f"{s:.3f}") for q, b, s in rows)
