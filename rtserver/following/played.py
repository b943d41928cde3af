"""What the keys of a MIDI instrument say of every chord: has it begun, and how many hops ago?

An event begins with the first of its notes; the others follow within a chord's spread. Of a note that is expected and struck the odds are
limited, for wrong and added notes are struck as well; so are those against one that is not struck, for players leave notes out. What is
struck and belongs nowhere says nothing against any place.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from rtserver.following.chords import Chords
from rtserver.kernels import jit

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]

# Share of a chord's later notes that come so many hops of 10 ms after its first; the rest comes later still.
SPREAD = np.array([0.62, 0.17, 0.08, 0.05, 0.03, 0.02, 0.012, 0.008, 0.005, 0.003])
N_AGES = len(SPREAD)
CERTAIN = np.exp(9.0)  # odds of a key that was struck
ADDED = 1e-3  # share of struck notes that are in no score
LEFT_OUT = 0.05  # share of a chord's notes that are not struck
SILENT = np.exp(-5.0)  # share of moments of which no note is struck
LIMIT = 12.0  # nats for or against an event
LONG_AGO = 10**6


@jit(
    "void(int32[::1], int32[::1], int32[::1], float64[::1], float64, float64, float64, float64, float64, float64[:,::1], float64[:,::1],"
    " float64[:,::1])"
)
def odds(  # noqa: PLR0917
    start: I32, pitch: I32, since: I32, spread: F64, certain: float, added: float, left_out: float, silent: float, limit: float,
    said: F64, out: F64, recent: F64,
) -> None:  # fmt: skip
    """`out` (n_chords, n_ages + 1): nats that this hop adds for a chord that began so many hops ago.

    `since` (128,): hops since each key was struck. `said` (n_chords, n_ages): what had been said in all by the hop before, and is replaced.
    `recent` as in `heard.odds`.
    """
    n_ages = len(spread)
    for u in range(len(start) - 1):
        for a in range(n_ages - 1, -1, -1):
            nats, first = 0.0, 0.0
            arrived = 0.0
            for i in range(a + 1):
                arrived += spread[i]
            for i in range(start[u], start[u + 1]):
                hops = since[pitch[i]]
                later = 1.0 - arrived + (spread[a - hops] * certain if hops <= a else 0.0)
                later = left_out + (1.0 - left_out) * later
                later /= 1.0 + added * later
                begins = silent + (certain if hops == a else 0.0)
                begins /= 1.0 + added * begins
                nats += np.log(later)
                first += begins / later
            total = min(max(nats + np.log(first / (start[u + 1] - start[u])), -limit), limit)
            out[u, a] = total - (said[u, a - 1] if a > 0 else 0.0)
            said[u, a] = total
        out[u, n_ages] = 0.0
        for i in range(3, 0, -1):
            recent[u, i] = recent[u, i - 1] + out[u, i]
        recent[u, 0] = out[u, 0]


class Played:
    """Evidence from struck keys, hop by hop.

    Attributes
    ----------
    evidence : float64 (n_chords, n_ages + 1)
    recent : float64 (n_chords, 4)
    onset : bool
        Whether a key was struck within the last four hops.
    """

    def __init__(self, chords: Chords) -> None:
        self._chords = chords
        self.evidence = np.zeros((len(chords), N_AGES + 1))
        self.recent = np.zeros((len(chords), 4))
        self._said = np.zeros((len(chords), N_AGES))
        self._since = np.zeros(128, np.int32)
        self.reset()

    def reset(self) -> None:
        """As if no key had been struck."""
        self._since.fill(LONG_AGO)
        self.recent.fill(0.0)
        self._said.fill(0.0)
        self.process(())

    @property
    def onset(self) -> bool:
        return bool(self._since.min() <= 3)

    def process(self, pitches: Iterable[int]) -> None:
        """Take the MIDI pitches of all keys that were struck within a hop."""
        self._since += self._since < LONG_AGO
        for pitch in pitches:
            self._since[pitch] = 0
        chords = self._chords
        odds(
            chords.start, chords.pitch, self._since, SPREAD, float(CERTAIN), ADDED, LEFT_OUT, float(SILENT), LIMIT, self._said,
            self.evidence, self.recent,
        )  # fmt: skip
