"""A folder of MIDI files as pieces to train on, and what was dropped on the way and why.

Only what is written in beats is of use: notes are moved to the nearest 1/24 quarter, tempo and velocity are not read. Parts are the
tracks, or the channels where one track has all. A metre counts as known where it never changes.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from models.generation.pieces import Piece
from rtserver.generation import vocabulary as v

SUFFIXES = (".mid", ".midi")
DRUMS = 9  # channel 10
N_LEAST = 64  # notes; shorter pieces are hardly half a window
ON_GRID = 0.7  # of the onsets, at least, lie within a tick of a sixteenth or a triplet eighth; of onsets at random half do


@dataclass
class Report:
    """What became of a folder: for each file its notes kept or the reason it was left out, and notes left out or changed by reason."""

    files: dict[str, str] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    n_pieces: int = 0

    def write(self, path: Path) -> None:
        """As JSON."""
        content = {"pieces": self.n_pieces, "notes": dict(self.notes), "files": self.files}
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def lines(self) -> str:
        """A summary for the terminal."""
        reasons = Counter(text.split(":")[0] for text in self.files.values() if not text.startswith("kept"))
        return "\n".join(
            [f"{self.n_pieces} of {len(self.files)} files kept, {self.notes['kept']} notes"]
            + [f"  {n} files left out: {reason}" for reason, n in reasons.most_common()]
            + [f"  {n} notes {reason}" for reason, n in self.notes.most_common() if reason != "kept"]
        )


def files(folder: Path) -> list[Path]:
    """The MIDI files in a folder and the folders in it, sorted."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)


def read(folder: Path) -> tuple[list[Piece], Report]:
    """Every usable file as a piece, and the report."""
    report, pieces, seen = Report(), [], dict[bytes, str]()
    for path in files(folder):
        name = str(path.relative_to(folder))
        notes: Counter[str] = Counter()
        try:
            piece = _piece(path, name, notes)
            key = np.r_[np.diff(piece.onset), np.diff(piece.pitch)].tobytes()  # the same however transposed
            if key in seen:
                raise _LeftOutError(f"a copy: of {seen[key]}")
            seen[key] = name
        except _LeftOutError as e:
            report.files[name] = str(e)
            continue
        pieces.append(piece)
        report.notes += notes
        report.files[name] = f"kept {len(piece.onset)} notes"
    report.n_pieces = len(pieces)
    return pieces, report


class _LeftOutError(Exception):
    pass


def _piece(path: Path, name: str, notes: Counter[str]) -> Piece:
    import mido  # late: only this needs it

    try:
        file = mido.MidiFile(str(path))
    except Exception as e:  # mido raises many kinds for files that are no MIDI
        raise _LeftOutError(f"not a MIDI file: {type(e).__name__} {e}") from e
    if file.ticks_per_beat <= 0 or file.ticks_per_beat >= 0x8000:
        raise _LeftOutError("timed in seconds, not in beats: SMPTE division")
    rows: list[tuple[float, float, int, int]] = []  # onset and release in quarters, pitch, part
    metres: set[tuple[int, int]] = set()
    several = sum(any(m.type == "note_on" for m in track) for track in file.tracks) > 1
    for number, track in enumerate(file.tracks):
        tick, down = 0, dict[tuple[int, int], int]()
        for message in track:
            tick += message.time
            if message.type == "time_signature":
                metres.add((message.numerator, message.denominator))
            if message.type not in ("note_on", "note_off"):
                continue
            key = (message.channel, message.note)
            if message.channel == DRUMS:
                notes["left out: drums"] += message.type == "note_on" and message.velocity > 0
                continue
            start = down.pop(key, None)
            if start is not None:  # a second note-on ends the first note
                part = number if several else message.channel
                rows.append((start / file.ticks_per_beat, tick / file.ticks_per_beat, message.note, part))
            if message.type == "note_on" and message.velocity > 0:
                down[key] = tick
        notes["left out: never released"] += len(down)
    if len(rows) < N_LEAST:
        raise _LeftOutError(f"too short: {len(rows)} notes with a pitch, at least {N_LEAST} are needed")
    on, off, pitch, part = (np.array(c) for c in zip(*sorted(rows), strict=True))
    beat = on * v.TICKS_PER_QUARTER % v.TICKS_PER_QUARTER
    near = np.min([np.abs(beat - g) for g in (0, 6, 8, 12, 16, 18, 24)], axis=0) <= 1.0
    if near.mean() < ON_GRID:
        raise _LeftOutError(f"not in time with its beats: {near.mean():.0%} of the onsets near a sixteenth or a triplet, a free recording?")
    onset = np.round(on * v.TICKS_PER_QUARTER).astype(np.int64)
    duration = np.round(off * v.TICKS_PER_QUARTER).astype(np.int64) - onset
    notes["lengthened to 1/24 quarter"] += int((duration < 1).sum())
    notes["cut to four quarters"] += int((duration > v.MAX_DURATION).sum())
    duration = np.clip(duration, 1, v.MAX_DURATION)
    order = np.lexsort((-duration, pitch, part, onset))
    onset, duration, pitch, part = onset[order], duration[order], pitch[order], part[order]
    first = np.ones(len(onset), bool)
    first[1:] = (np.diff(onset) != 0) | (np.diff(pitch) != 0) | (np.diff(part) != 0)
    notes["left out: doubled in the same part"] += int((~first).sum())
    notes["kept"] += int(first.sum())
    bar = None
    if len(metres) == 1:
        numerator, denominator = metres.pop()
        ticks = numerator * 4 * v.TICKS_PER_QUARTER // denominator
        bar = (ticks, 0) if v.bar_place(0, 0, ticks)[1] else None
    return Piece(name, onset[first], duration[first], pitch[first].astype(np.int64), part[first].astype(np.int64), bar)
