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
    "void(int32[::1], int32[::1], int32[::1], int32[::1], int32[::1], float64[:,::1], float64[:,::1], float64, int32[::1], int32,"
    " float64[:,::1], float64[:,::1], float64[:,::1])"
)
def odds(  # noqa: PLR0917
    start: I32, pitch: I32, home: I32, chord: I32, since: I32, later: F64, begins: F64, limit: float, stamp: I32, n: int,
    said: F64, out: F64, recent: F64,
) -> None:  # fmt: skip
    """`out` (n_chords, n_ages + 1): nats that this hop adds for a chord that began so many hops ago, of chords with a key struck of late.

    All others say what they always say in silence. `home` (129,), `chord`: the chords of each pitch, in CSR layout. `since` (128,): hops
    since each key was struck. `later`, `begins` (n_ages, n_ages + 1): see `_tables`. `said` (n_chords, n_ages): what had been said in all
    by the hop before, and is replaced. `recent` as in `heard.remember`.
    """
    n_ages = later.shape[0]
    for key in range(128):
        if since[key] > n_ages + 3:  # `recent` looks three hops back
            continue
        for j in range(home[key], home[key + 1]):
            u = chord[j]
            if stamp[u] == n:
                continue
            stamp[u] = n
            for a in range(n_ages - 1, -1, -1):
                nats, first = 0.0, 0.0
                for i in range(start[u], start[u + 1]):
                    hops = since[pitch[i]]
                    column = hops if hops <= a else n_ages
                    nats += later[a, column]
                    first += begins[a, column]
                total = min(max(nats + np.log(first / (start[u + 1] - start[u])), -limit), limit)
                out[u, a] = total - (said[u, a - 1] if a > 0 else 0.0)
                said[u, a] = total
            for i in range(3, 0, -1):
                recent[u, i] = recent[u, i - 1] + out[u, i]
            recent[u, 0] = out[u, 0]


def _tables() -> tuple[F64, F64]:
    """What a note says of an event of age a (row) if its key was struck so many hops ago (column; the last: not since the event began).

    First the nats of being one of the chord's notes, then the odds of being its first, as a share of those.
    """
    hops, age = np.arange(N_AGES + 1), np.arange(N_AGES)[:, None]
    arrived = np.cumsum(SPREAD)[:, None]
    struck = np.where(hops <= age, SPREAD[np.maximum(age - hops, 0)], 0.0)
    later = LEFT_OUT + (1.0 - LEFT_OUT) * (1.0 - arrived + CERTAIN * struck)
    later /= 1.0 + ADDED * later
    begins = SILENT + np.where(hops == age, CERTAIN, 0.0)
    begins /= 1.0 + ADDED * begins
    return np.log(later), begins / later


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
        self._later, self._begins = _tables()
        size = np.diff(chords.start)
        order = np.argsort(chords.pitch, kind="stable")
        self._chord = np.repeat(np.arange(len(chords), dtype=np.int32), size)[order]
        self._home = np.searchsorted(chords.pitch[order], np.arange(129)).astype(np.int32)
        unstruck = size[:, None] * self._later[:, N_AGES] + np.log(self._begins[:, N_AGES])
        self._silence = np.clip(unstruck, -LIMIT, LIMIT)
        self.evidence = np.zeros((len(chords), N_AGES + 1))
        self.recent = np.zeros((len(chords), 4))
        self._said = np.zeros((len(chords), N_AGES))
        self._since = np.zeros(128, np.int32)
        self._stamp = np.zeros(len(chords), np.int32)
        self.reset()

    def reset(self) -> None:
        """As if no key had been struck."""
        self._since.fill(LONG_AGO)
        self._stamp.fill(0)
        self._n = 0
        self._said[:] = self._silence
        self.evidence[:, :N_AGES] = np.diff(self._silence, axis=1, prepend=0.0)
        self.recent[:] = self._silence[:, :4]

    @property
    def onset(self) -> bool:
        return bool(self._since.min() <= 3)

    def process(self, pitches: Iterable[int]) -> None:
        """Take the MIDI pitches of all keys that were struck within a hop."""
        self._since += self._since < LONG_AGO
        for pitch in pitches:
            self._since[pitch] = 0
        self._n += 1
        odds(
            self._chords.start, self._chords.pitch, self._home, self._chord, self._since, self._later, self._begins, LIMIT, self._stamp,
            self._n, self._said, self.evidence, self.recent,
        )  # fmt: skip
