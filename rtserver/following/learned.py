"""From what a network says of every pitch to what a hop adds for every chord.

A chord begins with the first of its notes; of each note the odds are mixed over how late it may come, and limited either way: players leave
notes out and add others. What is said of an onset repeats itself from hop to hop, so only what is new counts: the odds of an onset `a` hops
ago, less those that the hop before gave to an onset ``a - 1`` hops ago.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.dsp.features import FIRST_PITCH
from rtserver.following.chords import Chords
from rtserver.following.onsetnet import N_AGES, N_PITCHES, OnsetNetwork
from rtserver.kernels import jit

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

SPREAD = np.array([0.7, 0.21, 0.09])  # share of a chord's notes that come so many hops after its first
LEFT_OUT = 0.05  # share of a chord's notes that are not heard
ADDED = 1e-3  # share of heard notes that are in no score
WEIGHT = 0.2  # the notes of a chord, and the pitches of a spectrum, are not independent
LIMIT = 3.0  # nats for or against an onset, in all


@jit("void(float32[:,::1], float64[::1], float64, float64, float64[:,::1])")
def of_pitches(nats: F32, spread: F64, left_out: float, added: float, out: F64) -> None:
    """`out` (n_ages, n_pitches): nats for a pitch of a chord that began so many hops ago."""
    n_ages = len(nats)
    for a in range(n_ages):
        for p in range(nats.shape[1]):
            odds = 0.0
            for late in range(min(a + 1, len(spread))):
                odds += spread[late] * np.exp(min(nats[a - late, p], np.float32(20.0)))
            odds = left_out + (1.0 - left_out) * odds
            out[a, p] = np.log(odds / (1.0 + added * odds))


@jit("void(int32[::1], int32[::1], float64[:,::1], int64, float64, float64, float64[:,::1], float64[:,::1])")
def add(start: I32, pitch: I32, nats: F64, first_pitch: int, weight: float, limit: float, said: F64, out: F64) -> None:  # noqa: PLR0917
    """Add to `out` (n_chords, n_ages or more) what is new since `said` (n_chords, n_ages), which is replaced."""
    n_ages, n_pitches = nats.shape
    for u in range(len(start) - 1):
        for a in range(n_ages - 1, -1, -1):
            total = 0.0
            for i in range(start[u], start[u + 1]):
                p = pitch[i] - first_pitch
                if 0 <= p < n_pitches:
                    total += nats[a, p]
            total = min(max(weight * total, -limit), limit)
            out[u, a] += total - (said[u, a - 1] if a > 0 else 0.0)
            said[u, a] = total


class Learned:
    """Evidence of a network, hop by hop. Raises `ModelError` where its model cannot be used.

    Parameters
    ----------
    chords : Chords
    """

    def __init__(self, chords: Chords) -> None:
        self._chords = chords
        self._network = OnsetNetwork()
        self._pitches = np.zeros((N_AGES, N_PITCHES))
        self._said = np.zeros((len(chords), N_AGES))

    def reset(self) -> None:
        """As if nothing had been heard."""
        self._network.reset()
        self._said.fill(0.0)

    def process(self, semitones: F32, evidence: F64) -> None:
        """Take the log magnitudes (107,) of a hop; add to `evidence` (n_chords, n_ages or more)."""
        self._network.process(semitones)
        of_pitches(self._network.nats, SPREAD, LEFT_OUT, ADDED, self._pitches)
        add(self._chords.start, self._chords.pitch, self._pitches, FIRST_PITCH, WEIGHT, LIMIT, self._said, evidence)
