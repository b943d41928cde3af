"""From a score file to a `Score`, through partitura.

partitura reads the file and names the order in which repeats, endings and leaps are played; times are taken through its quarter map at the
written level, which is exact where ``<divisions>`` vary or the parts disagree about them, and are unfolded here as numbers.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rtserver.errors import ScoreError
from rtserver.following.score import DEFAULT_TEMPO_BPM, Floats, Notes, Score

XML_SUFFIXES = (".musicxml", ".xml", ".mxl")
MIDI_SUFFIXES = (".mid", ".midi")
Clock = Callable[[Any], Floats]
# The largest symphony movements have a few hundred thousand notes, well under this; a larger file is something else.
MAX_BYTES = 200_000_000
# Marks outside this range (quarters a minute) are typing errors or playback tricks.
TEMPO_RANGE = (8.0, 1000.0)


def parse(path: Path) -> Score:
    """The score in `path`. Raises `ScoreError`."""
    _check_file(path)
    import partitura

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loaded: Any = partitura.load_score(str(path), quiet=True)
            parts: list[Any] = [part for part in loaded.parts if part.first_point is not None and len(part.notes_tied)]
        except Exception as error:  # whatever a third-party parser throws at a broken file
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ScoreError(f"{path}: cannot be read as a score ({reason}): export it again from the notation program?") from error
        if not parts:
            raise ScoreError(f"{path}: holds no pitched notes, so there is nothing to follow")
        return _convert(loaded, parts, path)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ScoreError(f"{path}: no such file")
    if path.suffix.lower() not in XML_SUFFIXES + MIDI_SUFFIXES:
        known = " ".join(XML_SUFFIXES + MIDI_SUFFIXES)
        raise ScoreError(f"{path}: expected a score ({known}), got a file ending in {path.suffix!r}: export it as MusicXML or MIDI")
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    if size == 0:
        raise ScoreError(f"{path}: the file is empty")
    if size > MAX_BYTES:
        raise ScoreError(f"{path}: {size} bytes is more than any score has (limit {MAX_BYTES})")


def _convert(loaded: Any, parts: list[Any], path: Path) -> Score:
    problems: list[str] = []
    clocks = [_quarters_of(part) for part in parts]
    arrays = [_notes_of(part, clock, i) for i, (part, clock) in enumerate(zip(parts, clocks, strict=True))]
    raw = np.concatenate(arrays)
    raw = raw[np.lexsort((raw[:, 2], raw[:, 0]))]
    if len(raw) < 2:
        raise ScoreError(f"{path}: holds one note only; following needs at least two onsets")

    end = max(float(np.max(raw[:, 0] + raw[:, 1])), *(float(clock(part.last_point.t)) for part, clock in zip(parts, clocks, strict=True)))
    lead = max(range(len(parts)), key=lambda i: _n_signs(parts[i]))  # usually every part has the signs; some programs write them once
    segments, skips = _unfold(parts[lead], clocks[lead], end, problems)

    # Both axes start at their first sounding note.
    pieces = [_within(raw, s) for s in segments]
    unfolded = np.concatenate(pieces)
    unfolded = unfolded[np.lexsort((unfolded[:, 2], unfolded[:, 0]))]
    written_zero, zero = float(raw[0, 0]), float(unfolded[0, 0])
    if len(unfolded) < 2 or unfolded[-1, 0] == zero:
        raise ScoreError(f"{path}: all notes start together; following needs at least two onsets")

    tempo = _unfold_points(_tempi(parts, clocks), segments, zero)
    tempo = _as_steps(tempo if len(tempo) else np.array([[0.0, DEFAULT_TEMPO_BPM]]))
    bars = _unfold_points(_bars(parts[lead], clocks[lead]), segments, zero)
    beats = _beat_map(parts[lead], clocks[lead], segments, zero)
    titles = (loaded.title, loaded.work_title, loaded.movement_title)
    return Score(
        title=next((str(title).strip() for title in titles if title and str(title).strip()), path.stem),
        parts=tuple(str(part.part_name or part.id or f"part {i + 1}") for i, part in enumerate(parts)),
        notes=_as_notes(unfolded, zero),
        written=_as_notes(raw, written_zero),
        segments=segments - np.array([written_zero, written_zero, zero]),
        skips=skips - zero,
        tempo_quarter=tempo[:, 0],
        tempo_bpm=tempo[:, 1],
        beat_quarter=beats[:, 0],
        beat=beats[:, 1],
        bar_quarter=bars[:, 0],
        bar_number=bars[:, 1].astype(np.int32),
        warnings=tuple(problems),
    )


def _quarters_of(part: Any) -> Clock:
    """The part's clock: divisions -> quarters from the beginning of the written score (partitura puts 0 at the first downbeat)."""
    quarter_map = part.quarter_map
    start = float(quarter_map(0))

    def clock(t: Any) -> Floats:
        return np.asarray(quarter_map(t), np.float64) - start

    return clock


def _notes_of(part: Any, clock: Clock, index: int) -> Floats:
    """Rows of (onset, duration, pitch, part); ties merged, grace notes with duration 0, pitches as they sound."""
    import partitura.score as ps

    array = part.note_array(include_grace_notes=True)
    shifts = sorted((int(o.start.t), int(o.chromatic or 0)) for o in part.iter_all(ps.Transposition))
    onset = clock(array["onset_div"])
    offset = clock(array["onset_div"] + array["duration_div"])
    pitch = array["pitch"].astype(np.float64)
    for t, chromatic in shifts:
        later = [u for u, _ in shifts if u > t]
        inside = (array["onset_div"] >= t) & (array["onset_div"] < (later[0] if later else np.inf))
        pitch = pitch + np.where(inside, chromatic, 0)
    return np.stack([onset, offset - onset, pitch, np.full(len(array), float(index))], axis=1)


def _n_signs(part: Any) -> int:
    import partitura.score as ps

    return sum(1 for sign in (ps.Repeat, ps.Ending, ps.DaCapo, ps.DalSegno) for _ in part.iter_all(sign))


def _unfold(part: Any, clock: Clock, end: float, problems: list[str]) -> tuple[Floats, Floats]:
    """The maximal unfolding as stretches (written start, written end, unfolded start), and its skips (source, target)."""
    import partitura.score as ps

    whole = np.array([[0.0, end, 0.0]])
    if _n_signs(part) == 0:
        return whole, np.empty((0, 2))
    try:
        path = ps.get_paths(part, no_repeats=False, all_repeats=True, ignore_leap_info=True)[0]
        stretches = [(path.segments[name].start.t, path.segments[name].end.t) for name in path.path]
    except Exception as error:
        problems.append(f"its repeats could not be unfolded ({type(error).__name__}: {error}); it is followed as written")
        return whole, np.empty((0, 2))
    last = part.last_point.t
    spans = np.array([[float(clock(a)), end if b == last else float(clock(b))] for a, b in stretches])
    starts = np.concatenate(([0.0], np.cumsum(spans[:, 1] - spans[:, 0])))
    skips = [
        (starts[source], starts[target])
        for i in range(len(stretches) - 1)
        if stretches[i + 1][0] < stretches[i][1] and (loop := _loop(list(path.path), i)) is not None
        for source, target in (loop,)
        if target < len(stretches)  # leaving the last pass out means to stop: nothing is left to follow
    ]
    return np.column_stack((spans, starts[:-1])), np.array(sorted(set(skips))).reshape(-1, 2)


def _loop(path: list[str], i: int) -> tuple[int, int] | None:
    """Which segments to leave out, as (first, beyond the last), when the jump back after segment `i` is not made.

    The loop is ``path[first:i + 1]``; the next pass begins like it for `common` segments (all of it, or up to an ending). The player
    plays those once and goes on with what follows them in the next pass.
    """
    before = [k for k in range(i + 1) if path[k] == path[i + 1]]
    if not before:
        return None
    first = before[-1]
    common = 0
    while first + common <= i and i + 1 + common < len(path) and path[first + common] == path[i + 1 + common]:
        common += 1
    return first + common, i + 1 + common


def _within(raw: Floats, segment: Floats) -> Floats:
    """The notes that start within a stretch, moved to where it is played."""
    notes = raw[(raw[:, 0] >= segment[0] - 1e-9) & (raw[:, 0] < segment[1] - 1e-9)].copy()
    notes[:, 0] += segment[2] - segment[0]
    return notes


def _as_notes(rows: Floats, zero: float) -> Notes:
    return Notes(rows[:, 0] - zero, rows[:, 1].copy(), rows[:, 2].astype(np.int32), rows[:, 3].astype(np.int32))


def _tempi(parts: list[Any], clocks: list[Clock]) -> Floats:
    import partitura.score as ps
    from partitura.utils.music import to_quarter_tempo

    found: dict[float, float] = {}
    for part, clock in zip(parts, clocks, strict=True):
        for mark in part.iter_all(ps.Tempo):
            bpm = float(to_quarter_tempo(mark.unit or "q", mark.bpm))
            if TEMPO_RANGE[0] <= bpm <= TEMPO_RANGE[1]:
                found.setdefault(float(clock(mark.start.t)), bpm)
    return np.array(sorted(found.items())).reshape(-1, 2)


def _bars(part: Any, clock: Clock) -> Floats:
    import partitura.score as ps

    bars = [(float(clock(bar.start.t)), float(bar.number or 0)) for bar in part.iter_all(ps.Measure)]
    return np.array(sorted(bars) or [(0.0, 1.0)])


def _unfold_points(points: Floats, segments: Floats, zero: float) -> Floats:
    """A step function of the written quarter as one of the unfolded quarter: each stretch begins with the value in force there."""
    rows: list[tuple[float, float]] = []
    for start, stop, at in segments:
        before = points[points[:, 0] <= start + 1e-9]
        if len(before):
            rows.append((at, before[-1, 1]))
        inside = points[(points[:, 0] > start + 1e-9) & (points[:, 0] < stop - 1e-9)]
        rows += [(q - start + at, value) for q, value in inside]
    return np.array(rows, np.float64).reshape(-1, 2) - np.array([zero, 0.0])


def _as_steps(tempo: Floats) -> Floats:
    """Tempo steps that begin at or before quarter 0 and change at each step."""
    tempo = tempo.copy()
    first = max(int(np.searchsorted(tempo[:, 0], 1e-9, side="right")) - 1, 0)
    tempo = tempo[first:]
    tempo[0, 0] = 0.0
    keep = np.concatenate(([True], np.diff(tempo[:, 1]) != 0.0))
    return tempo[keep]


def _beat_map(part: Any, clock: Clock, segments: Floats, zero: float) -> Floats:
    """Knots (quarter, beat) of the unfolded beat map: the written one, laid end to end."""
    import partitura.score as ps

    divisions = {0, int(part.last_point.t), *(int(ts.start.t) for ts in part.iter_all(ps.TimeSignature))}
    divisions |= {int(t) for t, _ in part.quarter_durations()}
    knots = np.array(sorted(t for t in divisions if 0 <= t <= part.last_point.t))
    x, y = clock(knots), np.asarray(part.beat_map(knots), np.float64)
    x, unique = np.unique(x, return_index=True)
    y = y[unique]
    slope = (y[-1] - y[-2]) / (x[-1] - x[-2])
    rows: list[tuple[float, float]] = []
    first: Floats = np.interp(segments[:1, 0], x, y)
    beat = float(first[0])
    for start, stop, at in segments:
        q = np.concatenate(([start], x[(x > start) & (x < stop)], [stop]))
        b = np.where(q > x[-1], y[-1] + (q - x[-1]) * slope, np.interp(q, x, y))
        rows += [(float(at + u - start), float(beat + v - b[0])) for u, v in zip(q, b, strict=True)]
        beat += float(b[-1] - b[0])
    table = np.array(rows) - np.array([zero, 0.0])
    _, unique = np.unique(table[:, 0], return_index=True)
    return table[unique]
