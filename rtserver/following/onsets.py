"""The score as a list of moments at which something begins: what a tracker counts on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from rtserver.following.score import Bools, Floats, Ints, Score

# Onsets this near to the first of a chord are one moment: less than any two notes that are meant apart.
MERGE_S = 0.004
MERGE_QUARTER = 1.0 / 192.0


@dataclass(frozen=True, slots=True, eq=False)
class Onsets:
    """Moments of the unfolded score, in order. Pitches are in CSR layout: those of moment i are ``pitch[start[i]:start[i + 1]]``.

    Attributes
    ----------
    quarter, seconds : float64 (n,)
        Where each moment is, and when at the nominal tempo.
    duration_s : float64 (n,)
        Nominal seconds to the next moment, of the last one to the last release; never 0.
    begin_start : int32 (n + 1,); begin_pitch : int32 (n_begin,)
        Pitches that begin, each once, ascending.
    begin_optional : bool (n_begin,)
        The pitch is that of a grace note alone: it may come earlier, or not at all.
    held_start : int32 (n + 1,); held_pitch : int32 (n_held,)
        Pitches that began before and sound on, ascending.
    optional : bool (n,)
        Nothing but grace notes begins.
    ornament : int32 (n,)
        Bits: 1 shifted by the index into `written.ORNAMENTS`, of each ornament that a note of the moment bears.
    """

    quarter: Floats
    seconds: Floats
    duration_s: Floats
    begin_start: Ints
    begin_pitch: Ints
    begin_optional: Bools
    held_start: Ints
    held_pitch: Ints
    optional: Bools
    ornament: Ints

    def __len__(self) -> int:
        return len(self.quarter)


def onsets_of(score: Score) -> Onsets:
    """All moments of `score`. O(n log n) in its notes; 100 000 of them take a quarter of a second."""
    notes = score.notes
    each = np.unique(notes.onset_quarter)
    quarter = each[_firsts(each, score.seconds_at(each))]
    n = len(quarter)
    event = np.searchsorted(quarter, notes.onset_quarter, side="right") - 1
    seconds = score.seconds_at(quarter)
    last = max(float(score.seconds_at(score.length_quarter)) - float(seconds[-1]), MERGE_S)

    # Pitches that begin, each once: a pitch is optional if all notes of it are.
    key = event.astype(np.int64) * 128 + notes.pitch
    begins = np.unique(key)
    needed = np.unique(key[~notes.is_grace])
    begin_optional = ~np.isin(begins, needed, assume_unique=True)
    begin_event = begins // 128

    # A note is held at the moments after its own that lie before its release.
    release = np.searchsorted(quarter, notes.onset_quarter + notes.duration_quarter - MERGE_QUARTER)
    used = np.unique(notes.pitch)
    column = np.searchsorted(used, notes.pitch)
    change = np.zeros((n + 1, len(used)), np.int32)
    sounds = release > event + 1
    np.add.at(change, (event[sounds] + 1, column[sounds]), 1)
    np.add.at(change, (release[sounds], column[sounds]), -1)
    held = np.cumsum(change, axis=0)[:n] > 0
    held[begin_event, np.searchsorted(used, begins % 128)] = False
    held_event, held_column = np.nonzero(held)

    optional = np.ones(n, np.bool_)
    optional[begin_event[~begin_optional]] = False
    ornament = np.zeros(n, np.int32)
    where = np.searchsorted(quarter, score.ornament_quarter + MERGE_QUARTER / 2, side="right") - 1
    known = where >= 0
    np.bitwise_or.at(ornament, where[known], (1 << score.ornament_kind[known]).astype(np.int32))
    return Onsets(
        quarter=quarter,
        seconds=seconds,
        duration_s=np.append(np.diff(seconds), last),
        begin_start=_starts(begin_event, n),
        begin_pitch=(begins % 128).astype(np.int32),
        begin_optional=begin_optional,
        held_start=_starts(held_event, n),
        held_pitch=used[held_column].astype(np.int32),
        optional=optional,
        ornament=ornament,
    )


def _firsts(quarter: Floats, seconds: Floats) -> list[int]:
    """Indices of the onsets that begin a moment: further than the merging distance from the one that began the last."""
    firsts = [0]
    q, s = quarter.tolist(), seconds.tolist()
    for i in range(1, len(q)):
        if q[i] - q[firsts[-1]] >= MERGE_QUARTER - 1e-9 and s[i] - s[firsts[-1]] > MERGE_S:
            firsts.append(i)
    return firsts


def _starts(event: npt.NDArray[np.int64], n: int) -> Ints:
    """CSR offsets of sorted rows."""
    return np.searchsorted(event, np.arange(n + 1)).astype(np.int32)
