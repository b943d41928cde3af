"""Pieces and their split.

A piece is a list of notes (onset, duration, pitch, part) in ticks of 1/24 quarter. They come from the CC0 scores that shipped weights are
trained on, or from a folder of somebody's own MIDI files (`midi_folder`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.generation import metre

FILES = ("openscore_lieder.npz", "openscore_quartets.npz")  # CC0 1.0; nothing else may go into weights that are shipped
ORIGIN = "OpenScore Lieder and OpenScore String Quartets, CC0 1.0"  # of FILES, as manifests say it
SPLIT_SEED = 20261120
HELD_OUT = 0.05  # of the pieces of each file: for the figures
VALIDATION = 0.03  # of the pieces of each file: for the choices
FEW = 12  # pieces; of fewer, each is cut in three instead of some being kept apart whole


@dataclass(frozen=True, slots=True)
class Piece:
    name: str
    onset: np.ndarray  # int64 (n,), sorted
    duration: np.ndarray
    pitch: np.ndarray
    part: np.ndarray
    bar: tuple[int, int] | None = None  # ticks of a bar and tick of a bar line, where the metre is known

    def cut(self, a: int, b: int) -> Piece:
        """Notes a..b."""
        return Piece(self.name, self.onset[a:b], self.duration[a:b], self.pitch[a:b], self.part[a:b], self.bar)


Split = tuple[list[Piece], list[Piece], list[Piece]]


def load(folder: Path, only: str | None = None, report_to: Path | None = None) -> Split:
    """(training, validation, held-out pieces): 3 % and 5 % of the pieces are kept apart, drawn by SPLIT_SEED.

    Parameters
    ----------
    folder : Path
        With both of FILES, each of which is split for itself, or with MIDI files.
    only : str or None
        Leave out pieces whose name does not contain this, whatever the case: a composer. No piece changes sides by it.
    report_to : Path or None
        Where `midi_folder.Report` goes as JSON, where MIDI files were read.
    """
    from models.generation import midi_folder  # late: it needs this module

    if _scored(folder):
        parts: Split = ([], [], [])
        for file in FILES:
            for piece, side in _scores(folder / file):
                parts[side].append(piece)
    elif midi_folder.files(folder):
        pieces, report = midi_folder.read(folder)
        print(report.lines())
        if report_to is not None:
            report_to.parent.mkdir(parents=True, exist_ok=True)
            report.write(report_to)
        parts = divide(pieces)
    else:
        raise SystemExit(f"{folder} holds no data to train on: expected {' and '.join(FILES)}, or MIDI files")
    if only is not None:
        train, validation, held_out = ([p for p in part if only.lower() in p.name.lower()] for part in parts)
        # Where nobody kept apart is of that name, some of those that are trained on must tell when to stop.
        parts = divide(train) if not (validation and held_out) else (train, validation, held_out)
    if not parts[0]:
        raise SystemExit(f"{folder} holds no piece to train on" + (f" with {only!r} in its name" if only else ""))
    return parts


def origin(folder: Path) -> str:
    """What pieces a folder has and under which licence, as far as that is known."""
    return ORIGIN if _scored(folder) else "MIDI files (licence not stated)"


def _scored(folder: Path) -> bool:
    return all((folder / file).exists() for file in FILES)


def _scores(path: Path) -> list[tuple[Piece, int]]:
    with np.load(path) as file:
        data = dict(file)
    ends = np.cumsum(data["length"])
    made: list[tuple[Piece, int]] = []
    for name, a, b, side in zip(data["name"], ends - data["length"], ends, sides(len(ends)).tolist(), strict=True):
        onset = np.cumsum(data["donset"][a:b].astype(np.int64))
        duration, pitch, part = (data[k][a:b].astype(np.int64) for k in ("dur", "pitch", "part"))
        made.append((Piece(str(name), onset, duration, pitch, part, metre.estimate(onset, duration)), side))
    return made


def sides(n: int) -> np.ndarray:
    """For each of `n` pieces of a file: 0 to train on, 1 to choose by, 2 held out."""
    out = np.zeros(n, np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(n)
    held_out = max(1, round(HELD_OUT * n))
    out[order[:held_out]] = 2
    out[order[held_out : held_out + max(1, round(VALIDATION * n))]] = 1
    return out


def divide(pieces: list[Piece]) -> Split:
    """The split of pieces that have none yet."""
    if len(pieces) >= FEW:
        side = sides(len(pieces))
        train, validation, held_out = ([p for p, s in zip(pieces, side, strict=True) if s == k] for k in range(3))
        return train, validation, held_out
    ends = [(0, round(0.85 * n), round(0.92 * n), n) for n in (len(p.onset) for p in pieces)]
    train, validation, held_out = ([p.cut(e[k], e[k + 1]) for p, e in zip(pieces, ends, strict=True)] for k in range(3))
    return train, validation, held_out
