"""What a hop of sound says of the moments of a score.

Of beginnings: the rise of the semitone spectrum over 30 ms is compared with the spectra of chords, and a network, if wanted, says what
began at every pitch (`rtserver.following.learned`); `rtserver.following.odds` weighs both. Of what sounds on: the spectrum is compared with
that of all that should sound.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.dsp.features import DIFFERENCE_LAG, FIRST_PITCH
from rtserver.dsp.layout import N_SEMITONES
from rtserver.following import odds
from rtserver.following.chords import Chords
from rtserver.following.learned import Learned
from rtserver.following.onsetnet import N_PITCHES
from rtserver.kernels import jit

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

N_ROWS = 16  # of the rings: more than ages
HELD_WEIGHT = 0.3
ONSET = 0.6  # a rise of this strength is an onset
PEAK_DECAY = 0.9985  # of the recent loudest rise, a hop: a factor of e in 7 s
FIRST_PEAK = 0.5  # a tenth of the rise of a medium piano note


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
        What the last hop added, in nats, for the chords of those events that `tell` was asked for.
    strength : float
        0 to 1, of the rise in the last hop, against the recent loudest.
    spectrum, rise : float32 (107,)
        The last one, and how it rose over 30 ms, of unit length.
    """

    def __init__(self, chords: Chords, learned: bool = True) -> None:
        self._chords = chords
        self._pitch = chords.pitch - np.int32(FIRST_PITCH)
        self._learned = Learned() if learned else None
        self._weights = odds.WEIGHTS if learned else odds.WEIGHTS_TEMPLATES
        n_chords = len(chords)
        self.evidence = np.zeros((n_chords, odds.N_AGES + 1))
        self._said, self._recent = np.zeros((n_chords, odds.N_AGES)), np.zeros(n_chords)
        self._cosines, self._told = np.zeros((n_chords, N_ROWS), np.float32), np.zeros(n_chords, np.int64)
        self._rises, self._strengths = np.zeros((N_ROWS, N_SEMITONES), np.float32), np.zeros(N_ROWS)
        self._nats = np.zeros((2, odds.N_AGES, N_PITCHES))
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
        for x in (self._past, self._rises, self._strengths, self._nats, self._cosines, self._stamp):
            x.fill(0)
        self._told.fill(odds.NEVER)
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
        self._rises[self._n % N_ROWS], self._strengths[self._n % N_ROWS] = self.rise, self.strength
        if self._learned is not None:
            self._learned.process(semitones, self._nats[self._n % 2])

    @property
    def nats(self) -> F64:
        """(n_ages, 88): what the network said of the last hop, for each pitch of a chord that began so long ago; 0 without one."""
        return self._nats[self._n % 2]

    def tell(self, events: I32) -> None:
        """Set `evidence` for the chords of `events`, of the last hop."""
        c = self._chords
        odds.of_events(
            self._n, events, c.chord, c.onset, c.start, self._pitch, c.restless, self._rises, self._strengths, self._nats, odds.TEMPLATE,
            self._weights, self._told, self._cosines, self._said, self.evidence,
        )  # fmt: skip

    def elsewhere(self) -> F64 | None:
        """If there was an onset: nats (n_chords,) that each chord began `odds.SINCE` hops ago, or -1 where they are not above 0."""
        if self.strength <= ONSET:
            return None
        c = self._chords
        odds.elsewhere(
            self._n, c.onset, c.start, self._pitch, self._rises, self._strengths, self._nats, odds.TEMPLATE, self._weights, self._recent
        )
        return self._recent

    def fit(self, events: I32, held: F64) -> float:
        """Fill `held` for `weigh`. Returns the best cosine above what a mean place of the piece would have."""
        return float(fits(events, self._chords.sustain, self.spectrum, held, self._stamp, self._n)) - float(self._mean @ self.spectrum)
