"""What each moment of a score should sound like, as semitone spectra: when it begins, and while it sounds on.

A note is its partials, as far as semitones tell them apart, with fixed amplitudes; no instrument is assumed. Moments at which the same
pitches begin, with an ornament or without, share one *chord*, so that what a hop says is worked out once for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rtserver.dsp.features import FIRST_PITCH
from rtserver.dsp.layout import N_SEMITONES
from rtserver.following.onsets import Onsets
from rtserver.following.written import ORNAMENTS

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

PARTIALS = ((0, 1.0), (12, 0.6), (19, 0.45), (24, 0.35), (28, 0.25), (31, 0.2))  # semitones above the fundamental, amplitude
RESTLESS = sum(1 << ORNAMENTS.index(kind) for kind in ("trill", "turn", "mordent", "tremolo"))
HELD, RINGING = 0.75, 0.3  # amplitude of a note that began before, and of one that has just ended, against one that begins


@dataclass(frozen=True, slots=True, eq=False)
class Chords:
    """The moments of a score as sounds.

    Attributes
    ----------
    chord : int32 (n_events,)
        Which chord begins at each moment.
    start : int32 (n_chords + 1,); pitch : int32 (n_pitches,)
        Its pitches, in CSR layout. Grace notes are left out where anything else begins.
    onset : float32 (n_chords, 107)
        Spectrum of what begins, of unit length.
    sustain : float32 (n_events, 107)
        Spectrum of all that sounds, of unit length.
    restless : bool (n_chords,)
        It bears a trill, a turn, a mordent or a tremolo: as long as it lasts, further strikes are expected.
    """

    chord: I32
    start: I32
    pitch: I32
    onset: F32
    sustain: F32
    restless: Bools

    def __len__(self) -> int:
        return len(self.start) - 1


def chords_of(events: Onsets) -> Chords:
    """The chords of a score's moments: some 30 ms and 1 MB a thousand notes at most."""
    index: dict[tuple[bool, tuple[int, ...]], int] = {}
    chord = np.zeros(len(events), np.int32)
    sounding = np.zeros((len(events), 128), np.float32)
    for k in range(len(events)):
        begins = slice(events.begin_start[k], events.begin_start[k + 1])
        pitches, optional = events.begin_pitch[begins], events.begin_optional[begins]
        needed = tuple(int(p) for p in (pitches if optional.all() else pitches[~optional]))
        restless = bool(events.ornament[k] & RESTLESS)
        chord[k] = index.setdefault((restless, needed), len(index))
        held = events.held_pitch[events.held_start[k] : events.held_start[k + 1]]
        if k > 0:
            sounding[k] = np.where(sounding[k - 1] > RINGING, RINGING, 0.0)
        sounding[k, held] = HELD
        sounding[k, pitches] = 1.0
    beginning = np.zeros((len(index), 128), np.float32)
    for (_, pitches), u in index.items():
        beginning[u, list(pitches)] = 1.0
    start = np.cumsum([0, *(len(pitches) for _, pitches in index)]).astype(np.int32)
    flat = np.array([p for _, pitches in index for p in pitches], np.int32)
    restless = np.array([restless for restless, _ in index], np.bool_)
    return Chords(chord, start, flat, _spectra(beginning), _spectra(sounding), restless)


def _spectra(notes: F32) -> F32:
    """Amplitudes of 128 pitches (n, 128) as spectra (n, 107) of unit length; where partials meet, the stronger one counts."""
    spectra = np.zeros((len(notes), N_SEMITONES), np.float32)
    for semitones, amplitude in PARTIALS:
        first = FIRST_PITCH - semitones  # the note whose partial falls on the lowest semitone
        shifted = np.zeros_like(spectra)
        low = max(first, 0)
        part = notes[:, low : min(first + N_SEMITONES, 128)]
        shifted[:, low - first : low - first + part.shape[1]] = amplitude * part
        np.maximum(spectra, shifted, out=spectra)
    return spectra / np.maximum(np.linalg.norm(spectra, axis=1, keepdims=True), 1e-9).astype(np.float32)
