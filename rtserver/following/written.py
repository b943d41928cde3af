"""What a reader finds in a score file, before anything is unfolded: the meeting point of all formats.

Every place is in quarters from the beginning of the written score (of its first bar, whether anything sounds there or not).
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import msgspec

# What a sign can be. `forward`, `backward`: repeat signs; the rest as printed.
SIGNS = ("forward", "backward", "ending", "segno", "coda", "tocoda", "dacapo", "dalsegno", "fine")
ORNAMENTS = ("trill", "turn", "mordent", "tremolo", "arpeggio", "slide", "other")
HINTS = ("tempo", "ritardando", "accelerando", "a tempo", "free")

# Bounds of what is music; beyond them a file is damaged or hostile, and only time and memory would be lost.
MAX_QUARTERS = 1_000_000.0
MAX_BARS = 200_000
MAX_NOTES = 1_000_000
MAX_PARTS = 1000
MAX_SIGNS = 2000
MAX_TEXT = 200  # characters of a name, a number or a mark
MAX_DENOMINATOR = 10**24
# Marks outside this range (quarters a minute) are typing errors or playback tricks.
TEMPO_RANGE = (8.0, 1000.0)


class Sign(msgspec.Struct, frozen=True):
    """A sign that says where to go on.

    Attributes
    ----------
    kind : str
        One of `SIGNS`.
    at : float
        Where it acts; an ending begins here.
    name : str
        Of a segno or coda, where there are several.
    end : float
        Where an ending ends.
    numbers : tuple of int
        The times at which an ending is played.
    times : int
        How often a ``backward`` has its stretch played in all.
    aim : str
        What a leap leads to in the end: ``"fine"``, ``"coda"`` or ``""`` for whatever comes first.
    """

    kind: str
    at: float
    name: str = ""
    end: float = 0.0
    numbers: tuple[int, ...] = ()
    times: int = 2
    aim: str = ""


class Note(NamedTuple):
    """A note as it sounds: tied notes are one, a grace note has duration 0, pitch is MIDI and concert pitch.

    `carried`: tied to something that is not written before it, as at the beginning of a second ending.
    """

    onset: float
    duration: float
    pitch: int
    part: int
    carried: bool = False


class Bar(NamedTuple):
    """A bar: where it starts, its number as printed, the quarters that the metre gives it, and whether it only completes another."""

    start: float
    number: str
    nominal: float
    implicit: bool = False


class Written(msgspec.Struct):
    """A whole score as printed. Lists are in no particular order unless said.

    Attributes
    ----------
    parts : list of str
        All parts of the file, those without notes included, in its order.
    bars : list of Bar
        In order.
    end : float
        Where the last bar ends.
    metres : list of (quarter, beats, beat type); keys : list of (quarter, fifths, mode: 0 major, 1 minor, -1 unknown)
    tempi : list of (quarter, quarters a minute)
    hints : list of (quarter, index into `HINTS`, text)
    ornaments : list of (quarter, pitch, index into `ORNAMENTS`)
    """

    title: str = ""
    parts: list[str] = []
    notes: list[Note] = []
    bars: list[Bar] = []
    end: float = 0.0
    signs: list[Sign] = []
    metres: list[tuple[float, int, int]] = []
    keys: list[tuple[float, int, int]] = []
    tempi: list[tuple[float, float]] = []
    hints: list[tuple[float, int, str]] = []
    ornaments: list[tuple[float, int, int]] = []
    fermatas: list[float] = []
    marks: list[tuple[float, str]] = []
    warnings: list[str] = []


def plain(ratio: Fraction) -> Fraction:
    """`ratio` with a denominator that stays computable; of divisions that music has it is the ratio itself."""
    return ratio if ratio.denominator <= MAX_DENOMINATOR else Fraction(round(ratio * MAX_DENOMINATOR), MAX_DENOMINATOR)


def text_of(text: str | None) -> str:
    """A name or a mark as it is shown: on one line, and no longer than anybody reads."""
    return " ".join((text or "")[: 4 * MAX_TEXT].split())[:MAX_TEXT]


def number_of(text: str | None) -> Fraction | int | None:
    """A number as a score file writes it, exactly; None for anything else, or for more digits than any score needs."""
    if text is None or len(text) > 24:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return Fraction(text.strip()) if "/" not in text and "e" not in text.lower() else None
    except ValueError:
        return None
