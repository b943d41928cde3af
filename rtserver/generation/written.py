"""What the score says: the notes of parts that are to be played as written, and the harmony that is to come. Pure."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from rtserver.generation import vocabulary as v
from rtserver.generation.draft import FAR
from rtserver.generation.vocabulary import Float

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtserver.following.score import Score

GRID = 6  # ticks of the harmony's table: a sixteenth
SHORTEST = 2  # ticks of a grace note, which is written without a duration
LONG_REST = 24  # ticks: a shorter rest belongs to the phrase


class WrittenNote(NamedTuple):
    """One note of the score, in ticks; part : its place among the parts that are played."""

    tick: int
    pitch: int
    duration: int
    part: int


class WrittenPart:
    """The notes to be played as they are written, by onset and pitch.

    Parameters
    ----------
    notes : iterable of WrittenNote
    end : int
        Tick at which the music ends.
    """

    def __init__(self, notes: Sequence[WrittenNote] = (), end: int = FAR) -> None:
        unique = {(n.tick, n.pitch): n for n in sorted(notes, key=lambda n: (n.tick, n.pitch, n.duration))}  # unisons: the longest
        self.notes = sorted(unique.values())
        self.end = end
        released, self._free = -FAR, list[int]()
        for note in self.notes:
            self._free.append(released)
            released = max(released, note.tick + note.duration)
        self._last = released
        self._ticks = [note.tick for note in self.notes]

    def __len__(self) -> int:
        return len(self.notes)

    def place(self, tick: int) -> int:
        """How many notes begin before `tick`."""
        return bisect_left(self._ticks, tick)

    def rest(self, place: int) -> tuple[int, int]:
        """From which tick to which nothing of the part sounds before note number `place` begins, or the music ends."""
        if place < len(self.notes):
            return self._free[place], self.notes[place].tick
        return self._last, self.end

    @classmethod
    def of_score(cls, score: Score, names: Sequence[str | int], shift: float = 0.0) -> WrittenPart:
        """The parts of `score` that are called so, or have these numbers, from 1. `shift` : quarters by which its axis lies behind.

        Raises `ScoreError` with all names.
        """
        from rtserver.following.parse import choose  # brings in the parsers

        chosen = choose(list(score.parts), tuple(names)) if names else []
        notes = score.notes
        rows: list[WrittenNote] = []
        for k in np.flatnonzero(np.isin(notes.part, chosen)).tolist():
            on, off = (_ticks(float(q) + shift) for q in (notes.onset_quarter[k], notes.onset_quarter[k] + notes.duration_quarter[k]))
            rows.append(WrittenNote(on, int(notes.pitch[k]), max(off - on, SHORTEST), chosen.index(int(notes.part[k]))))
        return cls(rows, _ticks(score.length_quarter + shift))


class Harmony:
    """Which pitch classes sound when in a score: what is known of the music to come.

    Parameters
    ----------
    onset, release, pitch : int arrays (n,)
        Notes, in ticks and MIDI keys.
    """

    def __init__(self, onset: npt.ArrayLike, release: npt.ArrayLike, pitch: npt.ArrayLike) -> None:
        on, off, keys = (np.asarray(x, np.int64) for x in (onset, release, pitch))
        self._first = int(on.min() if len(on) else 0) // GRID * GRID
        last = int(off.max() if len(off) else 0) + GRID
        edges = np.arange(self._first, last + GRID, GRID)
        self._summed = np.zeros((len(edges), 12))
        np.cumsum(v.chroma_between(on, off, keys, edges), axis=0, out=self._summed[1:])

    @classmethod
    def of_score(cls, score: Score, shift: float = 0.0) -> Harmony:
        """All parts of `score`."""
        notes = score.notes
        onset = np.round((notes.onset_quarter + shift) * v.TICKS_PER_QUARTER).astype(np.int64)
        length = np.maximum(np.round(notes.duration_quarter * v.TICKS_PER_QUARTER), SHORTEST).astype(np.int64)
        return cls(onset, onset + length, notes.pitch)

    def ahead(self, tick: int) -> Float:
        """The model's condition (25,) for a note that follows `tick`: see `vocabulary.ahead`. To a sixteenth."""
        edges = (tick + np.array([0, v.AHEAD, 2 * v.AHEAD]) - self._first) // GRID
        return v.ahead(np.diff(self._summed[np.clip(edges, 0, len(self._summed) - 1)], axis=0))


def _ticks(quarter: float) -> int:
    return round(quarter * v.TICKS_PER_QUARTER)
