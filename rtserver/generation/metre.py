"""Where bars and beats lie on the quarter axis: of a metre that is fixed, or of a score with its pick-ups and changes of metre. Pure.

A *beat* here is what a conductor beats: dotted quarters in 6/8, 9/8 and 12/8, else the metre's lower figure (3/8 and 7/8 go in quavers).
`Score.beat` counts the lower figure throughout, as bar and beat are told to people; what clicks, counts in or accents goes by these.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rtserver.errors import ConfigError
from rtserver.generation.vocabulary import TICKS_PER_QUARTER

if TYPE_CHECKING:
    from rtserver.following.score import Score

NEAR = 1e-6  # quarters: so near to a line or beat is at it
MOST_BEATS = 32
UNITS = (1, 2, 4, 8, 16, 32)


class BarLine(NamedTuple):
    """One bar.

    Attributes
    ----------
    start : float
        Quarter at which it begins. Where music enters within a bar (a pick-up, a repeat from its middle), that lies before the entry.
    length : float
        Quarters from there to the next bar line: of a bar that is shorter or longer than its metre, what it is.
    beat : float
        Quarters a beat.
    number : int
        As printed in the score; of a fixed metre 1 for the first bar, 0 and less before it.
    """

    start: float
    length: float
    beat: float
    number: int

    @property
    def ticks(self) -> tuple[int, int]:
        """Bar line and length of the bar in ticks of 1/24 quarter, as `Performer.set_bar` takes them."""
        return round(self.start * TICKS_PER_QUARTER), round(self.length * TICKS_PER_QUARTER)


class _Piece(NamedTuple):
    """From quarter `entry` on, music of a bar that begins at `start`, in a metre of `nominal` quarters."""

    entry: float
    start: float
    nominal: float
    beat: float
    number: int


class Metre:
    """Bars along the quarter axis, from minus to plus infinity: before the first and after the last bar known, their metre goes on."""

    def __init__(self, pieces: Sequence[_Piece]) -> None:
        self._pieces = pieces
        self._entries = [piece.entry for piece in pieces]
        first, last = pieces[0], pieces[-1]
        self._lines = [piece.entry for piece in pieces if piece.entry - piece.start < NEAR]
        if first.entry - first.start >= NEAR:
            self._lines.insert(0, first.start)
        if last.entry - last.start >= NEAR:
            self._lines.append(last.start + _periods(last.entry - last.start, last.nominal) * last.nominal)

    @classmethod
    def fixed(cls, signature: str = "4/4", start: float = 0.0) -> Metre:
        """One metre throughout, bar 1 beginning at quarter `start`. Raises `ConfigError` with the field ``metre`` for what is none."""
        nominal, beat = _read(signature)
        return cls([_Piece(start, start, nominal, beat, 1)])

    @classmethod
    def of_score(cls, score: Score) -> Metre:
        """The bars of `score` as it is unfolded, repeats and jumps included."""
        entries = [float(q) for q in score.bar_quarter]
        into = [float(q) for q in score.bar_into] or [0.0] * len(entries)
        metres = [_lengths(int(beats), int(unit)) for beats, unit in score.metre]
        changes = [float(q) for q in score.metre_quarter]
        pieces: list[_Piece] = []
        for entry, past, number in zip(entries, into, score.bar_number, strict=True):
            nominal, beat = metres[max(bisect_right(changes, entry + NEAR) - 1, 0)]
            past = past if past >= NEAR else 0.0
            if pieces and entry - pieces[-1].entry < NEAR:
                pieces.pop()  # nothing of it is played
            pieces.append(_Piece(entry, entry - past, nominal, beat, int(number)))
        return cls(pieces)

    def bar_at(self, quarter: float) -> BarLine:
        """The bar that holds `quarter`, which may lie anywhere; the one that begins there where it is at a bar line."""
        piece, start = self._place(quarter)
        k = round((start - piece.start) / piece.nominal)
        return BarLine(start, self.next_line(max(quarter, start) + 2 * NEAR) - start, piece.beat, piece.number + k)

    def next_line(self, quarter: float) -> float:
        """The first bar line at `quarter` or after it."""
        k = bisect_right(self._lines, quarter - NEAR)
        if k == len(self._lines):
            last = self._pieces[-1]
            return self._lines[-1] + _periods(quarter - self._lines[-1], last.nominal) * last.nominal
        if k:
            return self._lines[k]
        first = self._pieces[0]
        return self._lines[0] - math.floor((self._lines[0] - quarter + NEAR) / first.nominal) * first.nominal

    def next_beat(self, quarter: float, parts: int = 1) -> float:
        """The first beat at `quarter` or after it, or the first of `parts` equal parts of beats. Every bar line is a beat."""
        while True:
            piece, start = self._place(quarter)
            step = piece.beat / parts
            beat = start + math.ceil((quarter - start - NEAR) / step) * step
            k = bisect_right(self._entries, quarter + NEAR)
            line, entry = self.next_line(quarter), self._entries[k] if k < len(self._entries) else math.inf
            if beat < min(line, entry) - NEAR:
                return beat
            if line < entry + NEAR:
                return line
            quarter = entry  # from there on music of another bar, which may be entered between beats

    def regular_at(self, quarter: float) -> Metre:
        """The metre at `quarter`, its bars whole and going on both ways: what is counted before somebody comes in there."""
        piece, start = self._place(quarter)
        return Metre([piece._replace(entry=start, start=start)])

    def is_line(self, quarter: float) -> bool:
        """Whether a bar begins at `quarter`."""
        return abs(self.next_line(quarter) - quarter) <= NEAR

    def _place(self, quarter: float) -> tuple[_Piece, float]:
        """What is played at `quarter`, and where its bar begins."""
        at = quarter + NEAR
        k = bisect_right(self._entries, at) - 1
        if 0 <= k < len(self._pieces) - 1:
            return self._pieces[k], self._pieces[k].start
        piece = self._pieces[max(k, 0)]
        return piece, piece.start + math.floor((at - piece.start) / piece.nominal) * piece.nominal


def _periods(distance: float, period: float) -> int:
    """The least n with n periods at or beyond `distance`."""
    return math.ceil((distance - NEAR) / period)


def _read(signature: str) -> tuple[float, float]:
    found = re.fullmatch(r"\s*(\d{1,2})\s*/\s*(\d{1,2})\s*", signature)
    beats, unit = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= beats <= MOST_BEATS or unit not in UNITS:
        raise ConfigError(
            "metre", f"expected a metre such as 4/4, 3/4 or 6/8: 1 to {MOST_BEATS} over {', '.join(map(str, UNITS))}, got {signature!r}"
        )
    return _lengths(beats, unit)


def _lengths(beats: int, unit: int) -> tuple[float, float]:
    """Quarters a bar and a beat."""
    compound = unit >= 8 and beats > 3 and beats % 3 == 0
    return beats * 4.0 / unit, (3.0 if compound else 1.0) * 4.0 / unit
