"""Scores parsed once: the parser alone takes more than a second to load, which a start has no time for."""

from __future__ import annotations

import hashlib
import os
import tempfile
from importlib import metadata
from os import PathLike
from pathlib import Path

from rtserver.errors import ScoreError
from rtserver.following.score import Score, load_score

SOURCES = ("parse.py", "score.py")
KEEP = 64  # parsed scores; some tens of kilobytes each


def parsed_score(path: str | PathLike[str], folder: Path) -> Score:
    """`load_score`, or what it said when it last read the same file, kept in `folder`. Raises `ScoreError` as it does.

    What is kept goes by the file's name and content, the parser's sources and the version of its library.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError:
        return load_score(path)  # which says what is wrong
    key = hashlib.sha256(f"{path.name} {metadata.version('partitura')} ".encode() + content)
    for source in SOURCES:
        key.update((Path(__file__).parent / source).read_bytes())
    kept = folder / f"{key.hexdigest()[:32]}.npz"
    try:
        score = Score.from_npz(kept)
        kept.touch()
    except (ScoreError, OSError):
        score = load_score(path)
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
