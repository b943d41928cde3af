"""From a score file to a `Score`: read as written, parts chosen, then unfolded as numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

import numpy as np

from rtserver.errors import ScoreError
from rtserver.following import foreign
from rtserver.following.container import MIDI_SUFFIXES, XML_SUFFIXES, read_file, unpack
from rtserver.following.midiscore import read_midi
from rtserver.following.musicxml import read_musicxml
from rtserver.following.repeats import skips, unfold
from rtserver.following.score import DEFAULT_TEMPO_BPM, Floats, Ints, Notes, Score
from rtserver.following.written import HINTS, MAX_NOTES, Written

SUFFIXES = XML_SUFFIXES + MIDI_SUFFIXES + foreign.SUFFIXES
NEAR = 1e-9
T = TypeVar("T")
# Beats a minute of the tempo words, for a score without a single mark; the middle of what metronomes have printed on them.
TEMPO_WORDS = {
    "grave": 42, "largo": 50, "larghetto": 62, "lento": 54, "adagio": 66, "adagietto": 70, "andantino": 88, "andante": 80,
    "allegretto": 112, "moderato": 104, "allegro": 132, "vivace": 150, "prestissimo": 190, "presto": 176,
}  # fmt: skip


def parse(path: Path, parts: tuple[str | int, ...] = ()) -> Score:
    """The score in `path`; of its parts those named, or numbered from 1; all where none is. Raises `ScoreError`."""
    content = read_file(path, SUFFIXES)
    try:
        written = _read(path, content)
        if len(written.notes) > MAX_NOTES:
            raise ScoreError(f"expected at most {MAX_NOTES} notes, found {len(written.notes)}: is it one score?")
        chosen = choose(written.parts, parts)
        if parts:
            written.notes = [note for note in written.notes if note.part in chosen]
        return _score(written, path.stem)
    except ScoreError as error:
        raise ScoreError(f"{path}: {error}") from error
    except Exception as error:  # whatever a parser throws at a broken file
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ScoreError(f"{path}: cannot be read as a score ({reason}): export it again from the notation program?") from error


def _read(path: Path, content: bytes) -> Written:
    suffix = path.suffix.lower()
    if suffix in MIDI_SUFFIXES:
        return read_midi(content)
    if suffix in XML_SUFFIXES:
        return read_musicxml(unpack(content))
    try:
        return foreign.read_foreign(path)
    except ScoreError as error:
        raise ScoreError(f"cannot be read as a score ({error})") from error


def choose(names: list[str], wanted: tuple[str | int, ...]) -> list[int]:
    """Indices of the parts that are wanted, by name (whatever its case) or by number from 1. Raises `ScoreError` that lists them all."""
    known = ", ".join(f"{i + 1} {name!r}" for i, name in enumerate(names))
    found: set[int] = set()
    for want in wanted:
        folded = [name.casefold() for name in names]
        text = str(want).strip()
        indices = [i for i, name in enumerate(folded) if name == text.casefold()] if isinstance(want, str) else []
        if not indices and text.isdigit() and 1 <= int(text) <= len(names):
            indices = [int(text) - 1]
        if not indices:
            near = get_close_matches(text.casefold(), folded, n=1)
            remedy = f"did you mean {names[folded.index(near[0])]!r}? " if near else ""
            raise ScoreError(f"no part {want!r}; {remedy}its parts are {known}")
        found |= set(indices)
    return sorted(found) if wanted else list(range(len(names)))


def _score(written: Written, stem: str) -> Score:
    problems = list(written.warnings)
    if not written.notes:
        raise ScoreError("holds no pitched notes, so there is nothing to follow: is it for drums alone, or another part than was meant?")
    if len(written.notes) < 2:
        raise ScoreError("holds one note only; following needs at least two onsets: is it the whole score?")
    raw = np.array(written.notes, np.float64)
    raw = raw[np.lexsort((raw[:, 2], raw[:, 0]))]
    end = max(written.end, float(np.max(raw[:, 0] + raw[:, 1])))

    way = unfold(written.signs, end)
    spans = np.array([way.nodes[k] for k in way.path], np.float64)
    for name in ("notes", "bars", "tempi", "hints", "ornaments", "fermatas", "marks", "metres", "keys"):
        rows = getattr(written, name)
        places = np.sort([row if isinstance(row, float) else row[0] for row in rows])
        if np.sum(_counts(places, spans)) > MAX_NOTES:
            raise ScoreError(f"expected at most {MAX_NOTES} {name} with all repeats, found more: is a repeat sign damaged?")
    problems += way.warnings
    starts = np.concatenate(([0.0], np.cumsum(spans[:, 1] - spans[:, 0])))
    segments = np.column_stack((spans, starts[:-1]))

    # Both axes start at their first sounding note.
    unfolded = _unfold(raw, segments)
    unfolded = unfolded[np.lexsort((unfolded[:, 2], unfolded[:, 0]))]
    if len(unfolded) < 2 or unfolded[-1, 0] == unfolded[0, 0]:
        raise ScoreError("all notes start together; following needs at least two onsets: is it the whole score?")
    written_zero, zero = float(raw[0, 0]), float(unfolded[0, 0])

    def points(rows: list[tuple[float, T]]) -> list[tuple[float, T]]:
        """Rows (written quarter, what happens there), wherever they are played."""
        found: list[tuple[float, T]] = []
        ordered = sorted(rows, key=lambda row: row[0])
        places = np.array([row[0] for row in ordered])
        for start, stop, at in segments:
            a, b = (int(k) for k in np.searchsorted(places, [start - NEAR, stop - NEAR]))
            found += [(float(q - start + at - zero), value) for q, value in ordered[a:b]]
        return found

    tempi = np.array(written.tempi or [(0.0, _spoken_tempo(written))], np.float64)
    tempi[0, 0] = 0.0  # the first holds from the start
    tempo = _as_steps(_steps(tempi, segments, zero)[0])
    metres = np.array(written.metres or [(0.0, 4, 4)], np.float64)
    metres[0, 0] = 0.0
    beats = _beat_map(written, metres, segments, zero)
    bar_start = np.array([bar.start for bar in written.bars] or [0.0])
    bars, into = _steps(_indexed(bar_start), segments, zero)
    which = bars[:, 1].astype(np.int64)
    metre, _ = _steps(_indexed(metres[:, 0]), segments, zero)
    keys = np.array(written.keys, np.float64).reshape(-1, 3)
    key, _ = _steps(_indexed(keys[:, 0]), segments, zero)
    numbers = [bar.number for bar in written.bars] or ["1"]
    ornaments = points([(q, (pitch, kind)) for q, pitch, kind in written.ornaments])
    hints = points([(q, (kind, text)) for q, kind, text in written.hints])
    marks = points(written.marks)
    return Score(
        title=written.title or stem,
        parts=tuple(written.parts),
        notes=_as_notes(unfolded, zero),
        written=_as_notes(raw, written_zero),
        segments=segments - np.array([written_zero, written_zero, zero]),
        skips=np.array(skips(way.nodes, way.path)).reshape(-1, 2) - zero,
        tempo_quarter=tempo[:, 0],
        tempo_bpm=tempo[:, 1],
        beat_quarter=beats[:, 0],
        beat=beats[:, 1],
        bar_quarter=bars[:, 0],
        bar_number=_numbers(numbers)[which],
        warnings=tuple(problems),
        nodes=np.array(way.nodes) - written_zero,
        edges=np.array(way.edges, np.int32).reshape(-1, 3),
        stretch_node=np.array(way.path, np.int32),
        bar_text=tuple(numbers[int(k)] for k in which),
        bar_into=into + _missing(written)[which],
        metre_quarter=metre[:, 0],
        metre=metres[metre[:, 1].astype(np.int64), 1:].astype(np.int32),
        key_quarter=key[:, 0],
        key=keys[key[:, 1].astype(np.int64), 1:].astype(np.int32),
        mark_quarter=np.array([q for q, _ in marks]),
        mark_text=tuple(text for _, text in marks),
        fermata_quarter=np.array([q for q, _ in points([(q, None) for q in written.fermatas])]),
        ornament_quarter=np.array([q for q, _ in ornaments]),
        ornament_pitch=np.array([pitch for _, (pitch, _) in ornaments], np.int32),
        ornament_kind=np.array([kind for _, (_, kind) in ornaments], np.int32),
        hint_quarter=np.array([q for q, _ in hints]),
        hint_kind=np.array([kind for _, (kind, _) in hints], np.int32),
        hint_text=tuple(text for _, (_, text) in hints),
    )


def tuned(score: Score, tuning_hz: float, transpose: int, cents: float) -> Score:
    """`score` as an instrument plays it that sounds `transpose` semitones and `cents` above the notation, at A4 = `tuning_hz`.

    Pitches move by the semitones; `Score.tuning_hz` takes the cents. Raises `ScoreError` for pitches beyond MIDI.
    """

    def moved(notes: Notes) -> Notes:
        pitch = (notes.pitch + transpose).astype(np.int32)
        if pitch.min() < 0 or pitch.max() > 127:
            raise ScoreError(
                f"score.transpose: expected MIDI pitches from 0 to 127, {transpose:+d} semitones lead from {pitch.min()} to {pitch.max()}"
            )
        return replace(notes, pitch=pitch)

    return replace(
        score,
        notes=moved(score.notes),
        written=moved(score.written),
        ornament_pitch=(score.ornament_pitch + transpose).astype(np.int32),
        tuning_hz=tuning_hz * 2.0 ** (cents / 1200.0),
    )


def _counts(onsets: Floats, spans: Floats) -> Ints:
    """How many of the sorted `onsets` each stretch holds."""
    return np.diff(np.searchsorted(onsets, spans - NEAR), axis=1).astype(np.int32)


def _within(raw: Floats, segment: Floats) -> Floats:
    """The notes that start within a stretch, moved to where it is played."""
    first, stop = np.searchsorted(raw[:, 0], segment[:2] - NEAR)
    notes = raw[first:stop].copy()
    notes[:, 0] += segment[2] - segment[0]
    return notes


def _unfold(raw: Floats, segments: Floats) -> Floats:
    """The notes as they are played. Where the music jumps, a note ends, unless it is carried on from what was played before the jump."""
    pieces: list[Floats] = []
    for i, segment in enumerate(segments):
        rows = _within(raw, segment)
        start = segment[2]
        if i and segments[i - 1, 1] != segment[0]:
            before = pieces[-1]
            before[:, 1] = np.minimum(before[:, 1], start - before[:, 0])
            kept = np.ones(len(rows), np.bool_)
            for k in np.nonzero((rows[:, 4] > 0) & (rows[:, 0] <= start + NEAR))[0]:
                same = (before[:, 2:4] == rows[k, 2:4]).all(axis=1) & (before[:, 0] + before[:, 1] >= start - NEAR) & (before[:, 1] > 0)
                if same.any():
                    before[same, 1] = rows[k, 0] + rows[k, 1] - before[same, 0]
                    kept[k] = False
            rows = rows[kept]
        pieces.append(rows)
    return np.concatenate(pieces)


def _as_notes(rows: Floats, zero: float) -> Notes:
    return Notes(rows[:, 0] - zero, rows[:, 1].copy(), rows[:, 2].astype(np.int32), rows[:, 3].astype(np.int32))


def _steps(points: Floats, segments: Floats, zero: float) -> tuple[Floats, Floats]:
    """A step function of the written quarter as one of the unfolded quarter, and how far each row lies into its step.

    Each stretch begins with the value in force there.
    """
    rows: list[Floats] = []
    into: list[Floats] = []
    for start, stop, at in segments.tolist():
        first = max(_before(points[:, 0], start + NEAR) - 1, 0)
        last = _before(points[:, 0], stop - NEAR)
        inside = points[first:last].copy() if len(points) else points
        if not len(inside):
            continue
        offset = np.zeros(len(inside))
        offset[0] = max(0.0, start - inside[0, 0])
        inside[0, 0] = max(start, inside[0, 0])
        inside[:, 0] += at - start - zero
        rows.append(inside)
        into.append(offset)
    return (np.concatenate(rows), np.concatenate(into)) if rows else (np.empty((0, 2)), np.empty(0))


def _before(places: Floats, place: float) -> int:
    """How many of the sorted `places` lie before `place`."""
    return int(np.searchsorted(places, np.float64(place)))


def _indexed(places: Floats) -> Floats:
    """Rows (place, index)."""
    return np.column_stack((places, np.arange(len(places), dtype=np.float64)))


def _as_steps(tempo: Floats) -> Floats:
    """Tempo steps that begin at or before quarter 0 and change at each step."""
    tempo = tempo.copy()
    first = max(int(np.searchsorted(tempo[:, 0], NEAR, side="right")) - 1, 0)
    tempo = tempo[first:]
    tempo[0, 0] = 0.0
    keep = np.concatenate(([True], np.diff(tempo[:, 1]) != 0.0))
    return tempo[keep]


def _beat_map(written: Written, metres: Floats, segments: Floats, zero: float) -> Floats:
    """Knots (quarter, beat) of the unfolded beat map: the written one, laid end to end; 0 at the first full bar."""
    rate = metres[:, 2] / 4.0
    knots = np.concatenate(([0.0], np.cumsum(np.diff(metres[:, 0]) * rate[:-1])))

    def beat_of(q: Floats) -> Floats:
        k = np.maximum(np.searchsorted(metres[:, 0], q, side="right") - 1, 0)
        return knots[k] + (q - metres[k, 0]) * rate[k]

    bars = written.bars
    pick_up = len(bars) > 1 and bars[1].start - bars[0].start < bars[0].nominal - NEAR
    origin = bars[1].start if pick_up else 0.0
    beat = float(beat_of(segments[:1, 0])[0] - beat_of(np.array([origin]))[0])
    rows: list[Floats] = []
    for start, stop, at in segments:
        inside = metres[(metres[:, 0] > start + NEAR) & (metres[:, 0] < stop - NEAR), 0]
        q = np.concatenate(([start], inside, [stop]))
        b = beat_of(q)
        rows.append(np.column_stack((at + q - start - zero, beat + b - b[0])))
        beat += float(b[-1] - b[0])
    table = np.concatenate(rows)
    _, unique = np.unique(table[:, 0], return_index=True)
    return table[unique]


def _missing(written: Written) -> Floats:
    """Quarters that a bar's beginning lies into its metre: a pick-up counts from the end, the second part of a divided bar goes on."""
    into = np.zeros(max(len(written.bars), 1))
    for i, bar in enumerate(written.bars):
        until = written.bars[i + 1].start if i + 1 < len(written.bars) else written.end
        short = bar.nominal - (until - bar.start)
        if i == 0 and len(written.bars) > 1:
            into[0] = max(0.0, short)
        elif i and bar.implicit and short > NEAR:
            before = into[i - 1] + bar.start - written.bars[i - 1].start
            into[i] = before if before + until - bar.start <= bar.nominal + NEAR else 0.0
    return into


def _numbers(texts: list[str]) -> Ints:
    """Printed bar numbers as numbers; a bar without one has that of the bar before."""
    found: list[int] = []
    for text in texts:
        digits = re.match(r"[0-9]{1,9}", text)
        found.append(int(digits.group()) if digits else found[-1] if found else 1)
    return np.array(found, np.int32)


def _spoken_tempo(written: Written) -> float:
    """Quarters a minute of a score that has no tempo mark: what its first words say, else the default."""
    for quarter, kind, text in sorted(written.hints):
        if HINTS[kind] != "tempo":
            continue
        said = [bpm for word, bpm in TEMPO_WORDS.items() if word in text.lower()]
        if not said:
            return DEFAULT_TEMPO_BPM
        _, beats, unit = next((m for m in reversed(written.metres) if m[0] <= quarter + NEAR), (0.0, 4, 4))
        beat = 4.0 / unit * (3.0 if unit >= 8 and beats % 3 == 0 and beats > 3 else 1.0)
        return float(sum(said)) / len(said) * beat
    return DEFAULT_TEMPO_BPM
