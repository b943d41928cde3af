"""What partitura reads besides MusicXML and MIDI: MEI, Humdrum kern, match files.

It runs in a process of its own, for a time and a memory that are bounded: a damaged file may make the library compute for ever, or take
all there is. ``python -m rtserver.following.foreign FILE`` writes a `Written` as JSON.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from rtserver.errors import ScoreError
from rtserver.following.musicxmlbar import KIND, MODES
from rtserver.following.written import MAX_QUARTERS, TEMPO_RANGE, Bar, Note, Sign, Written, text_of

SUFFIXES = (".mei", ".krn", ".kern", ".match")
MAX_BYTES = 20_000_000
TIME_LIMIT_S = 120.0  # partitura needs half a minute for the longest symphony movements
MEMORY_LIMIT = 4 << 30  # bytes
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # every thread of theirs reserves memory; none is of use here


def read_foreign(path: Path) -> Written:
    """The score at `path`. Raises `ScoreError`."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ScoreError(f"expected a file of at most {MAX_BYTES} bytes, found {size}: export it as MusicXML")
    command = [sys.executable, "-m", __name__, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIME_LIMIT_S, check=False, env=os.environ | ONE_THREAD)
    except subprocess.TimeoutExpired:
        raise ScoreError(f"expected to be read within {TIME_LIMIT_S:g} s, was not: export it as MusicXML") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise ScoreError(lines[-1][:300] if lines else f"the parser ended with {done.returncode}")
    return msgspec.json.decode(done.stdout, type=Written)


def convert(loaded: Any) -> Written:
    """A partitura score as `Written`."""
    score = Written()
    titles = (loaded.title, loaded.work_title, loaded.movement_title)
    score.title = next((text_of(str(title)) for title in titles if title and str(title).strip()), "")
    lead = -1
    for part in loaded.parts:
        score.parts.append(text_of(str(part.part_name or part.id or f"part {len(score.parts) + 1}")))
        if part.first_point is None or part.first_point is part.last_point:
            continue
        clock = _clock(part)
        _notes(part, clock, len(score.parts) - 1, score)
        signs = list(_signs(part, clock))
        if len(signs) > lead:  # usually every part has the signs; some programs write them once
            lead = len(signs)
            score.signs = signs
        _structure(part, clock, score)
    if not 0.0 <= score.end <= MAX_QUARTERS:
        raise ScoreError(f"expected at most {MAX_QUARTERS:g} quarters in all, found {score.end:g}")
    score.tempi.sort()
    return score


def _clock(part: Any) -> Callable[[Any], Any]:
    """Divisions to quarters from the beginning (partitura puts 0 at the first downbeat)."""
    start = float(part.quarter_map(part.first_point.t))
    return lambda t: np.asarray(part.quarter_map(t), np.float64) - start


def _notes(part: Any, clock: Callable[[Any], Any], index: int, score: Written) -> None:
    import partitura.score as ps

    if not part.notes_tied:
        return
    array = part.note_array(include_grace_notes=True)
    shifts = sorted((int(o.start.t), int(o.chromatic or 0)) for o in part.iter_all(ps.Transposition))
    onsets, offsets = clock(array["onset_div"]), clock(array["onset_div"] + array["duration_div"])
    for at, onset, offset, written in zip(array["onset_div"], onsets, offsets, array["pitch"], strict=True):
        pitch = int(written) + next((s for t, s in reversed(shifts) if t <= at), 0)
        if 0 <= pitch <= 127:
            score.notes.append(Note(float(onset), max(0.0, float(offset - onset)), pitch, index))
    for note in part.notes_tied:
        kinds = {KIND[name] for name in note.ornaments or () if name in KIND}
        score.ornaments += [(float(clock(note.start.t)), int(note.midi_pitch), kind) for kind in sorted(kinds)]


def _structure(part: Any, clock: Callable[[Any], Any], score: Written) -> None:
    import partitura.score as ps
    from partitura.utils.music import to_quarter_tempo

    score.end = max(score.end, float(clock(part.last_point.t)))
    metres = [(float(clock(s.start.t)), int(s.beats), int(s.beat_type)) for s in part.iter_all(ps.TimeSignature)]
    score.metres = score.metres or metres
    score.keys = score.keys or [
        (float(clock(k.start.t)), int(k.fifths or 0), MODES.get(str(k.mode).lower(), -1)) for k in part.iter_all(ps.KeySignature)
    ]
    if not score.bars:
        for bar in sorted(part.iter_all(ps.Measure), key=lambda m: m.start.t):
            start = float(clock(bar.start.t))
            beats, kind = next(((b, k) for at, b, k in reversed(metres) if at <= start + 1e-9), (4, 4))
            score.bars.append(Bar(start, text_of(str(bar.name or bar.number or len(score.bars) + 1)), beats * 4.0 / kind))
    for mark in part.iter_all(ps.Tempo):
        bpm = float(to_quarter_tempo(mark.unit or "q", mark.bpm))
        if TEMPO_RANGE[0] <= bpm <= TEMPO_RANGE[1]:
            score.tempi.append((float(clock(mark.start.t)), bpm))
    score.fermatas = sorted({*score.fermatas, *(float(clock(f.start.t)) for f in part.iter_all(ps.Fermata))})


def _signs(part: Any, clock: Callable[[Any], Any]) -> list[Sign]:
    import partitura.score as ps

    def at(point: Any) -> float:
        return float(clock(point.t))

    signs: list[Sign] = []
    for repeat in part.iter_all(ps.Repeat):
        if repeat.start is not None and repeat.end is not None:
            signs += [Sign("forward", at(repeat.start)), Sign("backward", at(repeat.end))]
    for ending in part.iter_all(ps.Ending):
        if ending.start is not None and ending.end is not None:
            numbers = tuple(int(n) for n in str(ending.number).replace(",", " ").split() if n.isdigit())
            signs.append(Sign("ending", at(ending.start), end=at(ending.end), numbers=numbers or (1,)))
    for kind in (ps.Segno, ps.Coda, ps.ToCoda, ps.DaCapo, ps.DalSegno, ps.Fine):
        signs += [Sign(kind.__name__.lower(), at(o.start)) for o in part.iter_all(kind)]
    return signs


def main() -> int:
    """Read the file named on the command line; what is wrong is one line on stderr."""
    import contextlib
    import io
    import resource

    with contextlib.suppress(ValueError, OSError):  # macOS knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    warnings.simplefilter("ignore")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            import partitura

            score = convert(partitura.load_score(sys.argv[1], quiet=True))
    except BaseException as error:  # whatever a third-party parser throws at a broken file, its own exits included
        print(" ".join(f"{type(error).__name__}: {error}".split()), file=sys.stderr)
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(score))
    return 0


if __name__ == "__main__":
    sys.exit(main())
