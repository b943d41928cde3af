"""A reference that somebody played: a recording of the piece in which it is known when the beats are.

S. Dixon and G. Widmer, "MATCH: a music alignment tool chest", ISMIR 2005, aligns a performance with another one in this way.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rtserver.errors import ScoreError
from rtserver.following.offline import signal_features
from rtserver.following.reference import REST_TAIL_S, Reference, levelled, reference_of, sounding
from rtserver.following.score import Score

Floats = npt.NDArray[np.float64]

QUARTERS = ("quarter", "score_quarter")  # the second is what ``rtserver align`` writes
MAX_ROWS = 1_000_000  # as many as a score may have quarters
BEYOND = 8.0  # quarters by which the first and the last row may miss the ends of the score: two bars, as some mark bars alone
TEMPO_S = 3.0  # over which the tempo of a recording is taken: rows a hop apart have none by themselves
EARLY_S = 0.05  # a first note that lies so little before the recording's begin is in it: a cut on the attack


@dataclass(frozen=True, slots=True, eq=False)
class Beats:
    """When what is played in a recording.

    Attributes
    ----------
    time_s : float64 (n_rows,)
        Seconds from the beginning of the recording; never falling.
    quarter : float64 (n_rows,)
        Places on the axis of the maximal unfolding; always rising.
    """

    time_s: Floats
    quarter: Floats


def read_beats(path: str | PathLike[str]) -> Beats:
    """The beats in a CSV file with a line of names and the columns `time_s` and `quarter`, or as ``rtserver align`` writes it.

    Raises `ScoreError` that names the row; the row below the names is row 2, as in a text editor or a spreadsheet.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            return _beats(csv.reader(file))
    except ScoreError as error:
        raise ScoreError(f"{path}{error}") from None
    except FileNotFoundError:
        raise ScoreError(f"{path}: no such file of beats; rtserver align SCORE RECORDING -o {path} makes one") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScoreError(f"{path}: cannot be read as CSV ({error}); expected lines of text, time_s,quarter") from None


def _beats(lines: Iterable[list[str]]) -> Beats:
    """Raises `ScoreError` without the file's name."""
    rows = iter(lines)
    names = [name.strip() for name in next(rows, list[str]())]
    quarters = [name for name in QUARTERS if name in names]
    if "time_s" not in names or not quarters:
        raise ScoreError(f" row 1: expected the names time_s,quarter, found {','.join(names)[:80] or 'nothing'!r}")
    columns = (names.index("time_s"), names.index(quarters[0]))
    found: list[tuple[float, float]] = []
    for number, row in enumerate(rows, 2):
        if not any(cell.strip() for cell in row):
            continue
        if number > MAX_ROWS:
            raise ScoreError(f": expected at most {MAX_ROWS} rows, found more: is it a file of beats?")
        time_s, quarter = (_number(row, column, names[column], number) for column in columns)
        if time_s < 0.0:
            raise ScoreError(f" row {number}: expected time_s from 0 on, found {time_s:g}")
        if found and time_s < found[-1][0]:
            raise ScoreError(f" row {number}: time_s goes back from {found[-1][0]:g} to {time_s:g}; are the rows in the order of playing?")
        if found and quarter <= found[-1][1]:
            raise ScoreError(
                f" row {number}: {quarters[0]} must rise, found {quarter:g} after {found[-1][1]:g}; "
                "a repeat goes on counting, as everywhere on the unfolded axis"
            )
        found.append((time_s, quarter))
    if len(found) < 2 or found[-1][0] <= found[0][0]:
        raise ScoreError(f": expected at least two beats at different times, found {len(found)} row(s)")
    table = np.array(found)
    return Beats(table[:, 0].copy(), table[:, 1].copy())


def _number(row: list[str], column: int, name: str, number: int) -> float:
    text = row[column].strip() if column < len(row) else ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ScoreError(f" row {number}: expected a number for {name}, found {text[:40]!r}")
    return value


def recorded_reference(score: Score, signal: npt.NDArray[np.float32], sample_rate: int, beats: Beats) -> Reference:
    """The reference that a recording of `score` makes, (n_channels, frames) float32, tuned as the score is.

    Before the first and after the last of the beats it is taken to go on at the tempo of the four quarters there. Raises `ScoreError`
    where the beats do not fit the recording or the score.
    """
    duration = signal.shape[1] / sample_rate
    last_onset = float(np.max(score.notes.onset_quarter))
    first, last = float(beats.quarter[0]), float(beats.quarter[-1])
    if beats.time_s[-1] > duration:
        raise ScoreError(f"the last beat lies at {beats.time_s[-1]:.2f} s, the recording ends at {duration:.2f} s: is it another take?")
    if last > score.length_quarter + BEYOND:
        raise ScoreError(f"the beats go up to quarter {last:g}, the score as unfolded to {score.length_quarter:g}: is it the same score?")
    if first > BEYOND or last < last_onset - BEYOND:
        raise ScoreError(
            f"the beats cover quarters {first:g} to {last:g}, the score as unfolded has notes from 0 to {last_onset:g}: "
            "is it a recording of the whole piece, with all repeats?"
        )
    axis_s, axis_quarter = _extended(beats, score.length_quarter + BEYOND)

    def seconds_at(quarter: Floats) -> Floats:
        return np.interp(quarter, axis_quarter, axis_s)

    begin, end = (float(s) for s in seconds_at(np.array([0.0, last_onset])))
    if begin < -EARLY_S or end > duration:
        raise ScoreError(
            f"by its beats the piece lasts from {begin:.2f} to {end:.2f} s of the recording, which lasts from 0 to {duration:.2f} s: "
            "is it cut off?"
        )
    features, hop_s = signal_features(levelled(signal), sample_rate, score.tuning_hz)
    start = max(int(np.ceil(begin / hop_s - 1e-9)), 0)
    onset, release = sounding(score, seconds_at)
    stop = min(len(features), int((float(np.max(release)) + REST_TAIL_S) / hop_s) + 2)
    at = np.arange(start, stop, dtype=np.float64) * hop_s
    # Rows at the same time are notes closer than a hop: the last of them is where the recording is from then on.
    rising = np.append(np.diff(axis_s) > 0.0, True)

    def quarter_at(time_s: Floats) -> Floats:
        return np.interp(time_s, axis_s[rising], axis_quarter[rising])

    tempo_bpm = 60.0 / TEMPO_S * (quarter_at(at + TEMPO_S / 2) - quarter_at(at - TEMPO_S / 2))
    offset = start * hop_s
    quarter = np.maximum(quarter_at(at), 0.0)
    return reference_of(score, features[start:stop], quarter, onset - offset, release - offset, tempo_bpm, hop_s)


def _extended(beats: Beats, end: float) -> tuple[Floats, Floats]:
    """Seconds and quarters of the beats, with a row at quarter -`BEYOND` and one at `end`, each at the tempo of the four quarters there."""
    t, q = beats.time_s, beats.quarter
    # seconds a quarter; between equal times there is no tempo, then it is that of all
    mean = float(t[-1] - t[0]) / float(q[-1] - q[0])
    a = min(int(np.searchsorted(q, float(q[0]) + 4.0)), len(q) - 1)
    z = max(int(np.searchsorted(q, float(q[-1]) - 4.0, side="right")) - 1, 0)
    head = float(t[a] - t[0]) / float(q[a] - q[0]) or mean
    tail = float(t[-1] - t[z]) / float(q[-1] - q[z]) or mean
    before, after = -BEYOND, max(end, float(q[-1]) + 1.0)
    seconds = np.concatenate(([t[0] - head * (q[0] - before)], t, [t[-1] + tail * (after - q[-1])]))
    return seconds, np.concatenate(([before], q, [after]))
