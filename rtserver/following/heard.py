"""What a hop of sound says of every chord: has it begun, and how many hops ago?

A rise of the semitone spectrum over 30 ms is compared with the chord's onset spectrum. The onset is invisible in the hop in which it
happens, weak one hop later and clearest after three to five, so the odds depend on the age: ``w0 + w1 s + w2 c + w3 s c`` in nats, s the
strength of the rise against the recent loudest, c its cosine with the chord. The table is fitted by ``models/following/fit.py``. What a
network has learned of onsets is added, if wanted (`rtserver.following.learned`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.dsp.features import DIFFERENCE_LAG, N_SEMITONES
from rtserver.following.chords import Chords
from rtserver.following.learned import Learned
from rtserver.kernels import jit

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

# Rows: hops since the onset. Columns: 1, strength, cosine, their product.
ODDS = np.array(
    [
        [0.46, -0.39, -0.82, -2.61],
        [-0.48, 0.36, 2.75, -2.35],
        [-1.90, 1.39, 4.69, 0.00],
        [-2.80, 1.54, 5.25, 2.11],
        [-3.24, 1.41, 5.80, 3.00],
        [-2.97, 1.10, 6.39, 2.39],
        [-2.38, 0.83, 6.46, 1.03],
    ]
)
N_AGES = 10
TEMPER = 0.5  # neighbouring hops say nearly the same
LEAST, MOST = -3.0, 5.0  # nats from one hop, before tempering
UNEXPLAINED = 0.4  # nats against a chord that sounds on, from the strongest rise
HELD_WEIGHT = 0.3
ONSET = 0.6  # a rise of this strength is an onset
PEAK_DECAY = 0.9985  # of the recent loudest rise, a hop: a factor of e in 7 s
FIRST_PEAK = 0.5  # a tenth of the rise of a medium piano note


@jit("void(float32[:,::1], float32[::1], float64, float64[:,::1], float64, float64, float64, float64, float64[:,::1])")
def odds(  # noqa: PLR0917
    onset: F32, rise: F32, strength: float, table: F64, temper: float, least: float, most: float, unexplained: float, out: F64
) -> None:
    """`out` (n_chords, n_ages + 1): nats that each chord began so many hops ago, and last, that it did not begin of late."""
    n_ages = len(table)
    for u in range(onset.shape[0]):
        cosine = 0.0
        for i in range(onset.shape[1]):
            cosine += onset[u, i] * rise[i]
        cosine = min(cosine, 1.0)
        for a in range(n_ages):
            nats = table[a, 0] + table[a, 1] * strength + table[a, 2] * cosine + table[a, 3] * strength * cosine
            out[u, a] = temper * min(max(nats, least), most)
        for a in range(n_ages, out.shape[1] - 1):
            out[u, a] = 0.0
        out[u, out.shape[1] - 1] = -unexplained * strength


@jit("void(float64[:,::1], float64[:,::1])")
def remember(evidence: F64, recent: F64) -> None:
    """`recent` (n_chords, 4): of an onset i hops ago, all that was said since."""
    for u in range(len(recent)):
        for i in range(3, 0, -1):
            recent[u, i] = recent[u, i - 1] + evidence[u, i]
        recent[u, 0] = evidence[u, 0]


@jit("float64(int32[::1], float32[:,::1], float32[::1], float64[::1], int32[::1], int32)")
def fits(events: I32, sustain: F32, spectrum: F32, held: F64, stamp: I32, n: int) -> float:  # noqa: PLR0917
    """How well the spectrum fits what sounds at each of `events`: sets `held` to cosine minus the best cosine, which is returned."""
    best = 0.0
    for k in events:
        if stamp[k] != n:
            stamp[k] = n
            cosine = 0.0
            for i in range(len(spectrum)):
                cosine += sustain[k, i] * spectrum[i]
            held[k] = cosine
            best = max(best, cosine)
    for k in events:
        if stamp[k] == n:
            stamp[k] = -n
            held[k] -= best
    return best


class Heard:
    """Evidence from semitone spectra, hop by hop. Raises `ModelError` where a model is wanted and cannot be used.

    Parameters
    ----------
    chords : Chords
    learned : bool
        Whether a network of the zoo has its say beside the templates.

    Attributes
    ----------
    evidence : float64 (n_chords, n_ages + 1)
    recent : float64 (n_chords, 4)
    strength : float
        0 to 1, of the rise in the last hop.
    spectrum, rise : float32 (107,)
        The last one, and how it rose over 30 ms, of unit length.
    """

    def __init__(self, chords: Chords, learned: bool = True) -> None:
        self._chords = chords
        self._learned = Learned(chords) if learned else None
        self.evidence = np.zeros((len(chords), N_AGES + 1))
        self.recent = np.zeros((len(chords), 4))
        self._past = np.zeros((DIFFERENCE_LAG, N_SEMITONES), np.float32)
        self._stamp = np.zeros(len(chords.chord), np.int32)
        self.spectrum = np.zeros(N_SEMITONES, np.float32)
        self.rise = np.zeros(N_SEMITONES, np.float32)
        self._mean = chords.sustain.mean(axis=0)
        self.reset()

    def reset(self) -> None:
        """As if nothing had been heard."""
        if self._learned is not None:
            self._learned.reset()
        self._past.fill(0.0)
        self.recent.fill(0.0)
        self._peak = FIRST_PEAK
        self._n = 0
        self.strength = 0.0

    def process(self, semitones: F32) -> None:
        """Take the log magnitudes (107,) of a hop."""
        rise = np.maximum(semitones - self._past[self._n % DIFFERENCE_LAG], np.float32(0.0))
        self._past[self._n % DIFFERENCE_LAG] = semitones
        self._n += 1
        size = float(np.linalg.norm(rise))
        self._peak = max(PEAK_DECAY * self._peak, size)
        self.strength = min(1.0, size / (0.6 * self._peak))
        self.rise[:] = rise / max(size, 1e-9)
        self.spectrum[:] = semitones / max(float(np.linalg.norm(semitones)), 1e-9)
        odds(self._chords.onset, self.rise, self.strength, ODDS, TEMPER, LEAST, MOST, UNEXPLAINED, self.evidence)
        if self._learned is not None:
            self._learned.process(semitones, self.evidence)
        remember(self.evidence, self.recent)

    def fit(self, events: I32, held: F64) -> float:
        """Fill `held` for `weigh`. Returns the best cosine above what a mean place of the piece would have."""
        return float(fits(events, self._chords.sustain, self.spectrum, held, self._stamp, self._n)) - float(self._mean @ self.spectrum)
