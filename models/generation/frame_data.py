"""Piano-roll benchmarks: frames of 88 keys, their splits, what the frame model sees of the past, and training batches.

The format is that of Boulanger-Lewandowski et al. (ICML 2012) as bit-packed arrays: ``train``, ``valid``, ``test`` (frames, 11) uint8 and
``train_len`` … (pieces,), key 0 = MIDI 21. The collections carry no licence: what is trained on them is for figures, never for shipping.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

N_KEYS = 88
END = N_KEYS  # the token that closes a frame
SPLITS = ("train", "valid", "test")
LAGS = (1, 2, 16, 64)  # frames back that are shown, unless told otherwise: the last two, and where bars and phrases come again
MODULI = (3, 4, 12, 16, 64)  # the frame's number, counted from the start of the piece, modulo these: beat, bar and phrase in 3 and 4


def load(path: Path) -> dict[str, list[np.ndarray]]:
    """The three splits, each a list of pieces (frames, 88) uint8. Exits with a line that says what is wrong with the file."""
    try:
        with np.load(path) as file:
            frames = {s: np.unpackbits(file[s], axis=1)[:, :N_KEYS] for s in SPLITS}
            return {s: np.split(frames[s], np.cumsum(file[f"{s}_len"])[:-1]) for s in SPLITS}
    except (OSError, KeyError, ValueError) as e:
        expected = "expected an .npz with train, valid, test (frames, 11) uint8 and train_len, valid_len, test_len"
        raise SystemExit(f"{path}: {e}: {expected}") from e


def transpose(piece: np.ndarray, shift: int) -> np.ndarray:
    """`piece` (…, 88) moved by `shift` semitones; keys that fall off the keyboard are lost (`fits` asks whether any would)."""
    moved = np.zeros_like(piece)
    a, b = max(0, shift), min(N_KEYS, N_KEYS + shift)
    moved[..., a:b] = piece[..., a - shift : b - shift]
    return moved


def fits(piece: np.ndarray, shift: int) -> bool:
    """Whether no key is lost by the shift."""
    keys = np.flatnonzero(piece.any(axis=0))
    return keys.size == 0 or (keys[0] + shift >= 0 and keys[-1] + shift < N_KEYS)


def ages(piece: np.ndarray) -> np.ndarray:
    """How many frames each key has been down, that frame included, at most 255: uint8 (frames, 88)."""
    out = np.zeros_like(piece)
    age = np.zeros(N_KEYS, np.int64)
    for t, frame in enumerate(piece):
        age = (age + 1) * frame
        out[t] = np.minimum(age, 255)
    return out


def past(piece: np.ndarray, age: np.ndarray, lags: Sequence[int] = LAGS, a: int = 0, b: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """What is known before each of the frames a..b.

    Returns
    -------
    seen : uint8 (frames, 1 + len(lags), 88)
        How long each key has been down (`ages` of the frame before), and the frames `lags` back; zero before the start.
    place : int64 (frames, len(MODULI))
        The frame's number modulo each of MODULI.
    """
    t = np.arange(a, len(piece) if b is None else b)
    seen = np.zeros((len(t), 1 + len(lags), N_KEYS), np.uint8)
    for i, (source, lag) in enumerate([(age, 1), *((piece, lag) for lag in lags)]):
        there = t >= lag
        seen[there, i] = source[t[there] - lag]
    return seen, t[:, None] % np.array(MODULI)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of frames, padded; `tokens` are the notes of the real frames from the highest down, each frame closed by END.

    Numpy arrays, to be drawn in another process; `to` makes them tensors.

    seen : uint8 (B, T, 1 + len(lags), 88); place : int64 (B, T, len(MODULI)); frames : uint8 (B, T, 88); real : bool (B, T)
    tokens : int64 (n,); frame_of : int64 (n,), row-major index into B * T; last : int64 (n,), the token before, END at the start of a frame
    row : int64 (n,), the row of each token; at : int64 (n,), its number in the row
    """

    seen: Any
    place: Any
    frames: Any
    real: Any
    tokens: Any
    frame_of: Any
    last: Any
    row: Any
    at: Any

    def to(self, device: torch.device | str) -> Batch:
        return Batch(*(torch.from_numpy(getattr(self, k)).to(device) for k in self.__slots__))


def collate(rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Batch:
    """(frames, seen, place) of each row to a batch."""
    size = max(len(r[0]) for r in rows)

    def pad(i: int, dtype: type) -> np.ndarray:
        out = np.zeros((len(rows), size, *rows[0][i].shape[1:]), dtype)
        for k, row in enumerate(rows):
            out[k, : len(row[i])] = row[i]
        return out

    frames = pad(0, np.uint8)
    real = np.arange(size) < np.array([len(r[0]) for r in rows])[:, None]
    flat = frames.reshape(-1, N_KEYS)
    where = np.flatnonzero(real.ravel())
    frame, reverse = np.nonzero(flat[where, ::-1])  # sorted by frame, then from the highest key down
    frame_of = np.concatenate([where[frame], where])
    tokens = np.concatenate([N_KEYS - 1 - reverse, np.full(len(where), END)])
    order = np.lexsort((-(tokens % END), tokens == END, frame_of))
    frame_of, tokens = frame_of[order], tokens[order]
    opens = np.r_[True, frame_of[1:] != frame_of[:-1]]
    last = np.where(opens, END, np.r_[END, tokens[:-1]])
    row = frame_of // size
    at = np.arange(len(row)) - np.searchsorted(row, row)
    arrays = (pad(1, np.uint8), pad(2, np.int64), frames, real, tokens, frame_of, last, row, at)
    return Batch(*arrays)


def batches(  # noqa: PLR0917
    pieces: list[np.ndarray], size: int, window: int, shifts: int, rng: np.random.Generator, lags: Sequence[int] = LAGS
) -> Iterator[Batch]:
    """Without end: `size` rows of at most `window` frames, pieces drawn by length, transposed by -shifts..shifts where it fits.

    What lies before a window is seen through `past`, but not by the state, which starts anew.
    """
    weight = np.cumsum([len(p) for p in pieces]) / sum(len(p) for p in pieces)
    age = [ages(p) for p in pieces]
    allowed = [[s for s in range(-shifts, shifts + 1) if fits(p, s)] for p in pieces]
    while True:
        rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for u in rng.random(size):
            i = min(int(np.searchsorted(weight, u)), len(pieces) - 1)
            shift = int(rng.choice(allowed[i]))
            # Half of the windows begin with the piece, as all that are scored do.
            n = len(pieces[i])
            a = int(rng.integers(0, n - window + 1)) if n > window and rng.random() < 0.5 else 0
            b = min(a + window, n)
            seen, place = past(pieces[i], age[i], lags, a, b)
            rows.append((transpose(pieces[i][a:b], shift), transpose(seen, shift), place))
        yield collate(rows)
