"""What a score expects of one moment, as a separation network is told it: keys that should sound, and keys that should begin.

Training and run time call the same kernel, so a network is told live what it was told in training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rtserver.following.score import Score
from rtserver.kernels import jit

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

N_KEYS, LOWEST = 88, 21
FADE = 4410  # frames by which an onset is seen coming, and remembered: 0.1 s at 44.1 kHz, a little less at 48
NETWORK_RATE = 44100  # Hz at which keys are what they are called: networks know pitches by their bins
CONCERT_HZ = 440.0


@jit("int64(float64[::1], float64)")
def _first_above(rising: F64, value: float) -> int:
    """Index of the first element above `value`; their number where none is."""
    low, high = 0, len(rising)
    while low < high:
        middle = (low + high) // 2
        if rising[middle] > value:
            high = middle
        else:
            low = middle + 1
    return low


@jit("void(float64[::1], float64[::1], float64[::1], float64[::1], float64, float64, float32[::1])")
def expect(key: F64, onset: F64, end: F64, reach: F64, at: float, frames: float, out: F32) -> None:  # noqa: PLR0917
    """What is expected at one moment. Notes are those of `Expected`; it looks at those that sound or are near, and allocates nothing.

    Parameters
    ----------
    at : float
        The moment, on the axis of `onset` and `end`.
    frames : float
        Frames that a unit of that axis takes: of quarters their length at the present tempo, of frames 1.
    out : ``(177,)``, written
        Keys 21 to 108 that should sound (0..1; a key between two is shared by them), the same of onsets (1 at the onset, fading linearly
        over `FADE` frames before and after), and 1: there is a score.
    """
    zero = np.float32(0.0)
    for k in range(2 * N_KEYS):
        out[k] = zero
    out[2 * N_KEYS] = np.float32(1.0)
    near = FADE / frames
    for i in range(min(_first_above(reach, at), _first_above(onset, at - near)), len(onset)):
        if onset[i] >= at + near:
            break
        sounds = onset[i] <= at < end[i]
        begins = max(1.0 - abs((at - onset[i]) * frames) / FADE, 0.0)
        low = math.floor(key[i])
        for part in range(2):
            lane = low + part - LOWEST
            share = key[i] - low if part else 1.0 - (key[i] - low)
            if share > 0.0 and 0 <= lane < N_KEYS:
                if sounds:
                    out[lane] = max(out[lane], np.float32(share))
                out[N_KEYS + lane] = max(out[N_KEYS + lane], np.float32(share * begins))


@dataclass(frozen=True, eq=False)
class Expected:
    """Notes in the order of their onsets; arrays are float64 ``(n_notes,)``. Build it with `of` or `in_score`.

    key : MIDI pitch as the network hears it, may lie between two. onset, end : on any axis of score time. reach : the latest end of a note
    and all before it.
    """

    key: F64
    onset: F64
    end: F64
    reach: F64

    @staticmethod
    def of(key: npt.ArrayLike, onset: npt.ArrayLike, end: npt.ArrayLike) -> Expected:
        """Notes in any order, of pitch alone: drums are to be left out."""
        rows = np.array([key, onset, end], np.float64)
        rows = np.ascontiguousarray(rows[:, np.argsort(rows[1], kind="stable")])
        return Expected(rows[0], rows[1], rows[2], np.maximum.accumulate(rows[2]))

    @staticmethod
    def in_score(score: Score, sample_rate: int) -> Expected:
        """All notes of a score, in quarters, as a network hears them at `sample_rate`. A score holds no drums, whatever its file does."""
        notes = score.notes
        shift = 12.0 * math.log2(score.tuning_hz / CONCERT_HZ * NETWORK_RATE / sample_rate)
        return Expected.of(notes.pitch + shift, notes.onset_quarter, notes.onset_quarter + notes.duration_quarter)

    def tell(self, at: float, frames: float, out: F32) -> None:
        """Write what is expected at `at` into `out`, ``(177,)``: see `expect`."""
        expect(self.key, self.onset, self.end, self.reach, at, frames, out)
