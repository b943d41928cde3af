"""From what a network says of every pitch to what it says of a chord's pitches.

A chord begins with the first of its notes; of each note the odds are mixed over how late it may come, and limited either way: players leave
notes out and add others.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.following.onsetnet import OnsetNetwork
from rtserver.kernels import jit

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]

SPREAD = np.array([0.7, 0.21, 0.09])  # share of a chord's notes that come so many hops after its first
LEFT_OUT = 0.05  # share of a chord's notes that are not heard
ADDED = 1e-3  # share of heard notes that are in no score


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


class Learned:
    """What the network hears, hop by hop. Raises `ModelError` where its model cannot be used."""

    def __init__(self) -> None:
        self._network = OnsetNetwork()

    def reset(self) -> None:
        """As if nothing had been heard."""
        self._network.reset()

    def process(self, semitones: F32, out: F64) -> None:
        """Take the log magnitudes (107,) of a hop; set `out` (n_ages, n_pitches), nats for each pitch of a chord that began so long ago."""
        self._network.process(semitones)
        of_pitches(self._network.nats, SPREAD, LEFT_OUT, ADDED, out)
