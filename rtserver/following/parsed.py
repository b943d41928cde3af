"""Scores parsed once: a long one takes a second, which a start has no time for."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from importlib import metadata
from os import PathLike
from pathlib import Path

from rtserver.errors import ScoreError
from rtserver.following.score import Score, load_score

SOURCES = (
    "container.py",
    "foreign.py",
    "midiscore.py",
    "musicxml.py",
    "musicxmlbar.py",
    "musicxmlsigns.py",
    "parse.py",
    "repeats.py",
    "score.py",
    "written.py",
)
LIBRARIES = ("mido", "partitura")
KEEP = 64  # parsed scores; some tens of kilobytes each


def parsed_score(
    path: str | PathLike[str],
    folder: Path,
    parts: Sequence[str | int] = (),
    *,
    tuning_hz: float = 440.0,
    transpose: int = 0,
    cents: float = 0.0,
) -> Score:
    """`load_score`, or what it said when it last read the same parts of the same file, kept in `folder`. Raises `ScoreError` as it does.

    What is kept goes by the file's name and content, the parts, the parser's sources and the versions of its libraries; how the instrument
    is tuned is not part of it.
    """
    from rtserver.following.parse import tuned

    return tuned(_parsed(path, folder, tuple(parts)), tuning_hz, transpose, cents)


def _parsed(path: str | PathLike[str], folder: Path, parts: tuple[str | int, ...]) -> Score:
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError:
        return load_score(path, parts)  # which says what is wrong
    versions = " ".join(metadata.version(name) for name in LIBRARIES)
    key = hashlib.sha256(f"{path.name} {versions} {parts!r} ".encode() + content)
    for source in SOURCES:
        key.update((Path(__file__).parent / source).read_bytes())
    kept = folder / f"{key.hexdigest()[:32]}.npz"
    try:
        score = Score.from_npz(kept)
        kept.touch()
    except (ScoreError, OSError):
        score = load_score(path, parts)
        _keep(score, kept)
    return score


def _keep(score: Score, kept: Path) -> None:
    """Store `score`, whole or not at all; drop those that were not used for longest. A full disk only costs the next start its second."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            score.to_npz(Path(scratch) / kept.name)
            os.replace(Path(scratch) / kept.name, kept)
        for old in sorted(kept.parent.glob("*.npz"), key=lambda p: p.stat().st_mtime, reverse=True)[KEEP:]:
            old.unlink(missing_ok=True)
    except OSError:
        pass
