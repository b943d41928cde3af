"""Taking our own notes out of the sound that is followed.

The notes that the server sends are heard by the microphone, too. When they begin is known, and what they sound like there is learnt
(`rtserver.following.ownsound`). Of the power that rises while a note of ours begins, as much is its own as it usually adds, at the hops at
which it usually does; what rises beyond, or at another time, is the player's, also at the same pitch. The note's share of the power then
fades with the sound. Where our notes are not heard, nothing is touched.

This is spectral subtraction (S. Boll, IEEE TASSP 27(2), 1979) of what is expected, limited to what really came.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rtserver.dsp.features import CHROMA_PITCHES, COMPRESSION, DIFFERENCE_LAG, FIRST_PITCH, SILENCE_DB
from rtserver.dsp.layout import LEVEL, N_CHROMA, N_DIFFERENCE, N_FEATURES, N_SEMITONES, SEMITONES
from rtserver.following.ownsound import BEGINS_HOPS, OwnSound

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

ROOM = 2.0  # a note may be so much stronger than usual, in power: 3 dB, as notes of one sound differ
FAINT = 1e-12  # power of a full scale sine 120 dB down: nothing
MOST_COMING = 1024  # notes that wait to be heard; more is a fault upstream, and is left out


class OwnNote(NamedTuple):
    """A note of our own: MIDI pitch and velocity, the channel as which its sound is known, and after how many hops it may first be heard.

    hops : 0 means within the hop that comes next; below 0: it may have begun before.
    """

    pitch: int
    velocity: int
    channel: int = 0
    hops: int = 0


class _Beginning:
    """A note of ours that may begin to be heard."""

    def __init__(self, note: OwnNote, sound: OwnSound, power: F64) -> None:
        self.note, self.strength = note, loudness(note.velocity)
        self.expected = self.strength * sound.expected(note.pitch)
        self.allowed = sound.allowed(note.pitch)
        self.taken = np.zeros(N_SEMITONES)
        self.others = np.zeros(N_SEMITONES)
        self.before = power
        self.peak = np.zeros(N_SEMITONES)
        self.growth = np.zeros((BEGINS_HOPS, N_SEMITONES))
        self.hops = 0

    def take(self, rise: F64) -> F64:
        """Of a rise (107,) what this note explains."""
        left = np.maximum(ROOM * self.allowed[self.hops] * self.expected - self.taken, 0.0)
        taken = np.minimum(rise, left)
        self.taken += taken
        return taken


def loudness(velocity: int) -> float:
    """Power of a note against one of velocity 127: ``40 log10(v / 127)`` dB, as General MIDI Level 2 and SoundFonts have it."""
    return float((max(velocity, 1) / 127.0) ** 4)


class Bleed:
    """Features in, features without our own notes out.

    Input    features (208,) float32 of `rtserver.dsp.features`, one vector every 10 ms; `note` before, for what is going to begin
    Output   the same, where nothing of our own is heard, bit for bit; else with our share taken from the semitones, and differences,
             chroma and level as they follow from that
    Latency  0 frames

    Attributes
    ----------
    left : float32 (12,)
        How much of each pitch class of the last hop is not our own, 0 to 1.

    Notes
    -----
    Chroma comes from windows of its own: it is scaled by what is left of the semitones of each pitch class. The level is lowered by the
    share of power that was taken.
    """

    def __init__(self) -> None:
        self._classes = np.zeros((N_CHROMA, N_SEMITONES), np.float32)
        for pitch in CHROMA_PITCHES:
            self._classes[pitch % N_CHROMA, pitch - FIRST_PITCH] = 1.0
        self._out = np.zeros(N_FEATURES, np.float32)
        self.left = np.ones(N_CHROMA, np.float32)
        self._past = np.zeros((DIFFERENCE_LAG, N_SEMITONES), np.float32)  # what was let through
        self.reset()

    def reset(self) -> None:
        """As new: nothing known, nothing heard."""
        self._sounds: dict[int, OwnSound] = {}
        self._coming: list[OwnNote] = []
        self._beginning: list[_Beginning] = []
        self._power = np.zeros(N_SEMITONES)
        self._ours = np.zeros(N_SEMITONES)  # our share of the power
        self._past.fill(0.0)
        self._n = 0
        self._masked = 0  # hops for which what was let through still differs from what came
        self._active = False

    def note(self, note: OwnNote) -> None:
        """One of our own is going to begin; hops count from the next one."""
        self._active = True
        if len(self._coming) < MOST_COMING:
            self._coming.append(note)

    def presence(self, channel: int = 0) -> float:
        """0 to 1: whether notes of this channel are heard."""
        return self._sounds[channel].presence if channel in self._sounds else 0.0

    def process(self, x: F32) -> F32:
        """Take a hop (208,), finite. Returns `x` itself where nothing was taken away, else an array that the next call writes to."""
        self.left.fill(1.0)
        if not self._active:
            return x
        power: F64 = np.square(np.expm1(x[SEMITONES:].astype(np.float64)) / COMPRESSION)
        self._begin()
        self._attribute(power)
        self._power = power
        out = self._without(x, power)
        self._past[self._n % DIFFERENCE_LAG] = out[SEMITONES:]
        self._n += 1
        return out

    def _begin(self) -> None:
        """What may be heard from this hop on."""
        coming: list[OwnNote] = []
        for note in self._coming:
            if note.hops > 0:
                coming.append(note._replace(hops=note.hops - 1))
                continue
            sound = self._sounds.setdefault(note.channel, OwnSound())
            begins = _Beginning(note, sound, self._power)
            for other in self._beginning:
                other.others += begins.expected
                begins.others += other.expected
            self._beginning.append(begins)
        self._coming = coming

    def _attribute(self, power: F64) -> None:
        """Give what has risen to the notes that begin, as far as they explain it; what falls is everybody's."""
        falls = power < self._power
        self._ours[falls] *= power[falls] / self._power[falls]
        rise = np.maximum(power - self._power, 0.0)
        unexplained = rise.copy()
        for begins in self._beginning:
            taken = begins.take(unexplained)
            unexplained -= taken
            self._ours += taken
            begins.growth[begins.hops] = rise
            np.maximum(begins.peak, power - begins.before, out=begins.peak)
            begins.hops += 1
        np.minimum(self._ours, power, out=self._ours)
        self._ours[self._ours < FAINT] = 0.0
        begun = [begins for begins in self._beginning if begins.hops == BEGINS_HOPS]
        for begins in begun:
            sound = self._sounds[begins.note.channel]
            sound.learn(begins.note.pitch, begins.strength, begins.peak, begins.growth, begins.others)
        if begun:
            self._beginning = [begins for begins in self._beginning if begins.hops < BEGINS_HOPS]

    def _without(self, x: F32, power: F64) -> F32:
        """`x` without our share."""
        ours = self._ours
        if ours.any():
            self._masked = DIFFERENCE_LAG + 1
        if self._masked == 0:
            return x
        self._masked -= 1
        out, semitones = self._out, x[SEMITONES:]
        out[:] = x
        left = np.log1p(COMPRESSION * np.sqrt(np.maximum(power - ours, 0.0))).astype(np.float32)
        np.copyto(out[SEMITONES:], left, where=ours > 0.0)
        rise = out[SEMITONES:] - self._past[self._n % DIFFERENCE_LAG]
        np.maximum(rise[:N_DIFFERENCE], np.float32(0.0), out=out[N_CHROMA : N_CHROMA + N_DIFFERENCE])
        was, stays = self._classes @ semitones, self._classes @ out[SEMITONES:]
        np.divide(stays, np.maximum(was, np.float32(1e-9)), out=self.left)
        out[:N_CHROMA] *= self.left
        out[:N_CHROMA] /= max(float(np.linalg.norm(out[:N_CHROMA])), 1e-9)
        share = 1.0 - float(ours.sum()) / max(float(power.sum()), FAINT)
        out[LEVEL] = max(float(x[LEVEL]) + 10.0 * np.log10(max(share, FAINT)), SILENCE_DB)
        return out
