"""Note lists made here, and a few seconds of sound from them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from models.following import corpus

FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
SECONDS = 6.0


def need_fluidsynth() -> None:
    if shutil.which("fluidsynth") is None or not FONT.exists():
        pytest.skip("fluidsynth or its sound font is not installed (make setup): nothing can be rendered")


def write_notes(folder: Path) -> Path:
    """Twenty pieces a file: a random tune in eighths over a bass in halves."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    for file in corpus.FILES:
        columns: dict[str, list[np.ndarray]] = {"donset": [], "dur": [], "pitch": []}
        for _ in range(20):
            rows = [(12 * i, 12, int(rng.integers(60, 80))) for i in range(96)] + [
                (48 * i, 48, int(rng.integers(40, 52))) for i in range(24)
            ]
            onset, duration, pitch = (np.array(c) for c in zip(*sorted(rows), strict=True))
            for name, column in (("donset", np.diff(onset, prepend=onset[:1])), ("dur", duration), ("pitch", pitch)):
                columns[name].append(column.astype(np.int16))
        np.savez_compressed(folder / file, length=np.full(20, 120, np.int32), **{k: np.concatenate(c) for k, c in columns.items()})
    return folder


def render(notes: Path, out: Path, *more: str) -> Path:
    need_fluidsynth()
    corpus.main([str(notes), str(out), "--fonts", str(FONT), "--count", "2", "--seconds", str(SECONDS), *more])
    return out
