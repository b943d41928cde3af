"""What our own notes sound like where the player is heard: learnt from what rises after each of them.

Nobody tells how loud they come back, through what instrument, how late. After each note the spectrum is compared with what it was before.
Of the last few notes of an octave the median counts, for every distance from the pitch: what is always there belongs to the note, what is
there now and then to the player. (Order statistics estimate what is always there, as with noise: V. Stahl et al., ICASSP 2000.)

Whether anything of ours is heard at all is decided by two signs: that the strongest parts of that spectrum come with nearly every note, and
that it has a peak at the pitch or its octaves. Both fail where only the player is heard, even if he plays the same chords at the same time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.dsp.features import FIRST_PITCH
from rtserver.dsp.layout import N_SEMITONES

F64 = npt.NDArray[np.float64]

BEGINS_HOPS = 15  # a note rises within so many hops of when it may first be heard: latency, attack, and the longest window
LOWEST, HIGHEST = -2, 40  # semitones from a pitch that are looked at: what a long window smears, to the tenth partial
N_OFFSETS = HIGHEST - LOWEST + 1
N_OCTAVES = 11
OF_OCTAVE, OF_ALL = 12, 24  # notes remembered: of each octave, and of all together
FIRST = 8  # notes before anything is known; with fewer the median says that nearly all of them agree
LEAST = 4  # of an octave, before it is known by itself
N_STRONGEST = 8  # parts of the spectrum by which presence is judged
NEAR = 0.1  # a part is there if it has this share of its usual power
PRESENT = (0.82, 0.92)  # share of notes and parts that are there: below the one nothing of ours is heard, above the other it is
PEAK_DB = (4.0, 10.0)  # the same of the peak above the median of the spectrum
OCTAVES = [octave - LOWEST for octave in (0, 12, 24)]
SHADED = 0.5  # where other notes of ours may explain this share of a rise, it says nothing of this one
EARLY, LATE = 1, 2  # hops by which a rise may come sooner or later than it usually does
RISEN = 0.95  # share of a rise after which it is over
QUIETEST = 1e-9  # power below which there is nothing, of full scale at velocity 127


class _Ring:
    """The last so many rows; NaN is unknown."""

    def __init__(self, size: int, width: int) -> None:
        self._rows = np.full((size, width), np.nan)
        self._n = 0

    def __len__(self) -> int:
        return min(self._n, len(self._rows))

    def add(self, row: F64) -> None:
        self._rows[self._n % len(self._rows)] = row
        self._n += 1

    @property
    def rows(self) -> F64:
        return self._rows[: len(self)]

    def median(self) -> F64:
        """Of every column, the lower one, of what is known of it; 0 where nothing is."""
        if not len(self):
            return np.zeros(self._rows.shape[1])
        known = np.sum(~np.isnan(self.rows), axis=0)
        ordered = np.sort(self.rows, axis=0)  # NaN comes last
        return np.where(known > 0, ordered[np.maximum(known - 1, 0) // 2, np.arange(ordered.shape[1])], 0.0)


class OwnSound:
    """The sound of one channel's notes.

    Powers are of semitones, a sine of full scale is 1; divided by a note's strength (`rtserver.following.bleed.loudness`) they are as of
    velocity 127.

    Attributes
    ----------
    presence : float
        0: nothing of ours is heard; 1: it is.
    """

    def __init__(self) -> None:
        self._all, self._octave = _Ring(OF_ALL, N_OFFSETS), [_Ring(OF_OCTAVE, N_OFFSETS) for _ in range(N_OCTAVES)]
        self._rises, self._octave_rises = _Ring(OF_ALL, BEGINS_HOPS), [_Ring(OF_OCTAVE, BEGINS_HOPS) for _ in range(N_OCTAVES)]
        self.presence = 0.0

    def expected(self, pitch: int) -> F64:
        """Power that a note of `pitch` adds to each semitone, (107,), in the end."""
        out = np.zeros(N_SEMITONES)
        if self.presence > 0.0:
            bins, offsets = _where(pitch)
            ring = self._octave[pitch // 12]
            out[bins] = self.presence * (ring if len(ring) >= LEAST else self._all).median()[offsets]
        return out

    def allowed(self, pitch: int) -> F64:
        """Share of that which may have come, hop by hop from when the note may first be heard, (15,); 0 once its rise is over."""
        ring = self._octave_rises[pitch // 12]
        usual = (ring if len(ring) >= LEAST else self._rises).median()
        total = float(usual.sum())
        if total <= 0.0:
            return np.ones(BEGINS_HOPS)
        risen = np.cumsum(usual) / total
        allowed = np.append(risen[EARLY:], np.ones(EARLY))
        allowed[LATE:][risen[:-LATE] > RISEN] = 0.0
        return allowed

    def learn(self, pitch: int, strength: float, peak: F64, growth: F64, others: F64) -> None:
        """Take what followed a note.

        Parameters
        ----------
        pitch : int
        strength : float
            Its power against velocity 127.
        peak : float64 (107,)
            By how much the power had risen at most.
        growth : float64 (15, 107)
            By how much it rose in each hop.
        others : float64 (107,)
            What other notes of ours, begun meanwhile, were expected to add.
        """
        bins, offsets = _where(pitch)
        rose = np.full(N_OFFSETS, np.nan)
        rose[offsets] = np.where(others > SHADED * peak, np.nan, peak)[bins] / strength
        for ring in (self._all, self._octave[pitch // 12]):
            ring.add(rose)
        if len(self._all) < FIRST:
            return
        usual = self._all.median()
        self.presence = _present(self._all.rows, usual)
        # When it rose, by the strongest parts, each as much as it usually does at most twice over.
        strongest = np.argsort(usual)[-N_STRONGEST:]
        weight = np.zeros(N_OFFSETS)
        weight[strongest] = 1.0 / np.maximum(usual[strongest], QUIETEST)
        shape: F64 = np.minimum(growth[:, bins] * (weight[offsets] / strength), 2.0).sum(axis=1)
        if shape.sum() > 0.0:
            for ring in (self._rises, self._octave_rises[pitch // 12]):
                ring.add(shape / shape.sum())


def _where(pitch: int) -> tuple[slice, slice]:
    """The semitones of the features that are looked at for a pitch, and their places among the 43."""
    first = pitch + LOWEST - FIRST_PITCH
    low, high = max(first, 0), min(first + N_OFFSETS, N_SEMITONES)
    return slice(low, max(high, low)), slice(low - first, max(high, low) - first)


def _present(rows: F64, usual: F64) -> float:
    """Whether what usually rises (43,) rose with the notes of `rows` (n, 43), and looks like a note: 0 to 1."""
    strongest = np.argsort(usual)[-N_STRONGEST:]
    seen = rows[:, strongest]
    known = ~np.isnan(seen)
    if not known.any() or usual.max() <= 0.0:
        return 0.0
    there = float(np.mean((seen > NEAR * usual[strongest])[known]))
    db = 10.0 * np.log10(usual + QUIETEST)
    peak = float(db[OCTAVES].max() - np.median(db))
    return _ramp(there, *PRESENT) * _ramp(peak, *PEAK_DB)


def _ramp(x: float, low: float, high: float) -> float:
    return min(max((x - low) / (high - low), 0.0), 1.0)
