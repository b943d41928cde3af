"""The method ``semimarkov``: a belief over the whole score, fed by what is heard or by what is played on keys."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from rtserver.dsp.layout import SEMITONES
from rtserver.following.chords import Chords, chords_of
from rtserver.following.heard import HELD_WEIGHT, ONSET, Heard
from rtserver.following.onsets import Onsets
from rtserver.following.played import Played
from rtserver.following.reference import HOP_S
from rtserver.following.score import Score
from rtserver.following.statespace import AGE, GAIN, LOCAL, REPORT, TEMPO, StateSpace

Floats32 = npt.NDArray[np.float32]

START_AGE = 3  # hops of sound before the gate opens: the first event began that long ago
FIT_GAIN = 0.005  # a hop: two seconds of memory
KEY_GAIN = 0.06  # a key: sixteen of memory
DOUBTFUL = 0.25  # below what a follower locks at
CHANCE, GOOD = -0.45, 0.45  # nats that a hop with an onset gives to the belief, with the wrong score and with the right one
FIT = 0.3  # cosine above a mean place of the piece, of a performance that is followed
HAND_HOPS = 4  # standard deviation of a tap: 40 ms
AT_BAR, AT_SIGN = 4.0, 20.0  # how much likelier a leap is to the beginning of a bar, of a repeat or at a rehearsal mark, than between
SAME = 1e-6  # quarters
EARLIEST = 0.005  # s before the next event, where a position waits for it


def goals(score: Score, quarter: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How likely people are to go on from each `quarter` (n,) after a leap: where bars begin, and above all where a sign says so."""
    likely = np.ones(len(quarter))
    whole = score.bar_quarter[score.bar_into < SAME] if len(score.bar_into) else score.bar_quarter
    for places, weight in ((whole, AT_BAR), (score.segments[:, 2], AT_SIGN), (score.mark_quarter, AT_SIGN), (quarter[:1], AT_SIGN)):
        first = np.searchsorted(quarter, places - SAME)
        likely[first[first < len(quarter)]] = weight
    return likely


class SemiMarkov:
    """Where the player is, by a hidden semi-Markov model with tempo (see `rtserver.following.statespace`).

    Parameters
    ----------
    learned : bool
        Whether a network of the zoo helps to hear onsets. Without, templates alone do; nothing needs a model then.

    Attributes
    ----------
    quarter, beat, tempo_bpm : float
        Where the player is, on the axis of the maximal unfolding.
    confidence : float
        0 to 1: the belief in the present neighbourhood, times how well what is heard fits it.

    Latency: 0 frames. What a hop says of an onset grows for 70 ms, and the belief with it.
    """

    def __init__(self, learned: bool = True) -> None:
        self._learned = learned

    def prepare(self, score: Score) -> None:
        """Build the chords, allocate and compile everything. Raises `ModelError` where the model cannot be used."""
        self._score = score
        self._events: Onsets = score.events()
        self._chords: Chords = chords_of(self._events)
        self._heard, self._played = Heard(self._chords, self._learned), Played(self._chords)
        self._space = StateSpace(self._events.duration_s, self._chords.chord, HOP_S, goals(score, self._events.quarter))
        step = np.maximum(np.searchsorted(score.tempo_quarter, self._events.quarter + 1e-9, side="right") - 1, 0)
        self._nominal_bpm = score.tempo_bpm[step]
        self._end = score.length_quarter
        self.seek(0.0)

    def seek(self, quarter: float) -> None:
        """Forget the past and go on from `quarter`, at the next sound."""
        k = int(np.searchsorted(self._events.quarter, quarter - 1e-6))
        self._first = min(max(k, 0), len(self._events) - 1)
        self._begun = False
        self._heard.reset()
        self._played.reset()
        self._fit = self._sounds = 0.5
        self._onsets, self._gained = 0.1, 0.05 * (CHANCE + GOOD)
        self._space.begin(self._first)
        self._say()
        # Until it is heard the event lies ahead: a position on it would say that it sounds.
        self.quarter -= EARLIEST * self.tempo_bpm / 60.0

    def anchor(self, quarter: float) -> None:
        """Be at `quarter` now, as exactly as a hand strikes; the tempo stays."""
        space, events = self._space, self._events
        tempo = float(space.state[TEMPO])
        here = max(int(np.searchsorted(events.quarter, quarter + 1e-9, side="right")) - 1, 0)
        offset = np.linspace(-2.0 * HAND_HOPS, 2.0 * HAND_HOPS, 4 * HAND_HOPS + 1)
        quarters: npt.NDArray[np.float64] = quarter + offset * HOP_S * float(self._nominal_bpm[here]) * np.exp(-tempo) / 60.0
        event: npt.NDArray[np.int64] = np.maximum(np.searchsorted(events.quarter, quarters + 1e-9, side="right") - 1, 0)
        after = np.append(events.quarter[1:], max(self._end, float(events.quarter[-1]) + 1e-3))
        into = (quarters - events.quarter[event]) / (after - events.quarter)[event]
        age = np.maximum(np.floor(into * events.duration_s[event] * np.exp(tempo) / HOP_S + 0.5), 0.0)
        share: npt.NDArray[np.float64] = np.exp(-0.5 * np.square(np.true_divide(offset, HAND_HOPS)))
        space.begin_among(event.astype(np.int32), age.astype(np.int32), share, tempo)
        self._begun = True
        self._say()

    def doubt(self) -> None:
        """Be as sure as of a match that is poor; a second of sound that fits makes up for it."""
        self._fit = min(self._fit, DOUBTFUL)
        self._sounds = min(self._sounds, DOUBTFUL)
        self._gained = min(self._gained, self._onsets * (CHANCE + DOUBTFUL * (GOOD - CHANCE)))

    @property
    def confidence(self) -> float:
        return float(self._space.state[LOCAL]) * self._fit

    def process(self, features: Floats32) -> None:
        """Take one hop of sound, float32 (208,), finite."""
        self._hear(features[SEMITONES:], sounding=True)

    def hold(self) -> None:
        """One hop of silence: nothing begins."""
        if self._begun:
            self._hear(np.zeros_like(self._heard.spectrum), sounding=False)

    def _hear(self, semitones: Floats32, sounding: bool) -> None:
        space, heard = self._space, self._heard
        heard.process(semitones)
        if not self._begun:
            self._begun = True
            space.begin(self._first, START_AGE)
            return
        space.advance()
        best = heard.fit(space.events, space.held) if sounding else 0.0
        heard.tell(space.events)
        space.update(heard.evidence, HELD_WEIGHT if sounding else 0.0, heard.elsewhere())
        if sounding:
            here = best + float(space.held[int(space.state[REPORT])])
            self._sounds += FIT_GAIN * (min(max(here / FIT, 0.0), 1.0) - self._sounds)
            self._gained += FIT_GAIN * (float(space.state[GAIN]) - self._gained)
            self._onsets += FIT_GAIN * ((heard.strength > ONSET) - self._onsets)
            begins = (self._gained / max(self._onsets, FIT_GAIN) - CHANCE) / (GOOD - CHANCE)
            self._fit = 0.5 * (self._sounds + min(max(begins, 0.0), 1.0))
        self._say()

    def process_keys(self, pitches: Iterable[int]) -> None:
        """Take the keys that were struck within one hop, MIDI pitches; none is the usual case."""
        struck = tuple(pitches)
        space, played = self._space, self._played
        played.process(struck)
        if not self._begun:
            if struck:
                self._begun = True
                space.begin(self._first)
            return
        space.advance()
        space.update(played.evidence, 0.0, played.recent[:, 3].copy() if played.onset else None)
        expected = self._expected()
        for pitch in struck:
            self._fit += KEY_GAIN * ((pitch in expected) - self._fit)
        self._say()

    def _expected(self) -> set[int]:
        """Pitches of the reported event and its neighbours."""
        k = int(self._space.state[REPORT])
        chords = self._chords.chord[max(k - 1, 0) : k + 2]
        start = self._chords.start
        return {int(p) for u in chords for p in self._chords.pitch[start[u] : start[u + 1]]}

    def _say(self) -> None:
        """Set what is reported: the event, and how far its age has led since, short of the next one."""
        state, events = self._space.state, self._events
        k = int(state[REPORT])
        ratio = float(np.exp(-state[TEMPO]))
        written = float(events.duration_s[k])
        since = min((float(state[AGE]) + 0.5 * HOP_S) * ratio if self._begun else 0.0, written - min(EARLIEST, 0.5 * written))
        after = float(events.quarter[k + 1]) if k + 1 < len(events) else self._end
        here = float(events.quarter[k])
        self.quarter = here + max(since, 0.0) / written * max(after - here, 0.0)
        self.beat = float(self._score.beat_at(self.quarter))
        self.tempo_bpm = float(self._nominal_bpm[k]) * ratio
