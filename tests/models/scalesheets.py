"""Scores of the performer's training data, made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.generation import pieces


def write(path: Path, n_pieces: int, n_notes: int, seed: int) -> None:
    """Pieces of two parts: a scale in quarters over a bass in halves, in a random key."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list[np.ndarray]] = {"donset": [], "dur": [], "pitch": [], "part": []}
    for _ in range(n_pieces):
        key = int(rng.integers(0, 12))
        rows = [(24 * i, 24, 60 + key + (i % 8), 0) for i in range(n_notes)] + [(48 * i, 48, 40 + key, 1) for i in range(n_notes // 2)]
        onset, duration, pitch, part = (np.array(c) for c in zip(*sorted(rows), strict=True))
        columns["donset"].append(np.diff(onset, prepend=onset[:1]).astype(np.int16))
        for name, column in (("dur", duration), ("pitch", pitch), ("part", part)):
            columns[name].append(column.astype(np.int16))
    lengths = np.array([len(c) for c in columns["pitch"]], np.int32)
    names = np.array([f"piece {i}" for i in range(n_pieces)])
    np.savez_compressed(path, length=lengths, name=names, **{k: np.concatenate(c) for k, c in columns.items()})


def folder_of_scales(folder: Path) -> Path:
    """DATA as `models.generation` takes it, in `folder`."""
    write(folder / pieces.FILES[0], 20, 80, seed=1)
    write(folder / pieces.FILES[1], 10, 100, seed=2)
    return folder
