"""Places as people write them: ``bar 12``, ``bar 12 beat 3``, ``mark B``, ``quarter 33.5``, each with ``time 2`` for the second pass."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from rtserver.errors import ScoreError

if TYPE_CHECKING:
    from rtserver.following.score import Score

MAX_LENGTH = 64  # characters of a place
_FORM = re.compile(
    r"(?:bar\s+(?P<bar>\S+)(?:\s+beat\s+(?P<beat>\d+(?:\.\d+)?))?|mark\s+(?P<mark>\S.*?)|quarter\s+(?P<quarter>-?\d{1,7}(?:\.\d+)?))"
    r"(?:\s+time\s+(?P<pass>\d{1,4}))?"
)
_STRETCH = re.compile(r"(?P<begin>.+?)\s+to\s+(?P<end>.+)")


class Named(NamedTuple):
    """A place by name: a quarter, or a bar and maybe its beat, or a rehearsal mark; `pass_` counts from 1."""

    quarter: float | None
    bar: str
    beat: float | None
    mark: str
    pass_: int


def named(text: str) -> Named:
    """Read a place. Raises `ScoreError` for anything that is none; whether a score has it is another question."""
    found = _FORM.fullmatch(text.strip()) if len(text) <= MAX_LENGTH else None
    if found is None:
        raise ScoreError(
            f"{text[:MAX_LENGTH]!r} is no place: expected for example 'bar 12', 'bar 12 beat 3 time 2', 'mark B' or 'quarter 33.5'"
        )
    quarter, beat = found["quarter"], found["beat"]
    return Named(
        None if quarter is None else float(quarter),
        found["bar"] or "",
        None if beat is None else float(beat),
        found["mark"] or "",
        int(found["pass"] or 1),
    )


def stretch_named(text: str) -> tuple[str, str]:
    """The two places of ``bar 5 to bar 8``. Raises `ScoreError`."""
    found = _STRETCH.fullmatch(text.strip()) if len(text) <= 2 * MAX_LENGTH + 4 else None
    if found is None:
        raise ScoreError(f"{text[:MAX_LENGTH]!r} is no stretch: expected for example 'bar 5 to bar 8', or 'off'")
    named(found["begin"])
    named(found["end"])
    return found["begin"], found["end"]


def quarter_of(score: Score, text: str) -> float:
    """The quarter of a place. Raises `ScoreError` if it is none, or none of this score."""
    place = named(text)
    if place.quarter is not None:
        return place.quarter
    if place.mark:
        return score.quarter_of_mark(place.mark, place.pass_)
    return score.quarter_of_bar(place.bar, 1.0 if place.beat is None else place.beat, place.pass_)


def end_of(score: Score, text: str) -> float:
    """The quarter where a place ends: of a bar without beat, its end; else the place itself. Raises `ScoreError`."""
    place, quarter = named(text), quarter_of(score, text)
    if not place.bar or place.beat is not None:
        return quarter
    later = score.bar_quarter[score.bar_quarter > quarter + 1e-6]
    last = score.segments[-1]
    return float(later[0]) if len(later) else max(score.length_quarter, float(last[2] + last[1] - last[0]))


def stretch_of(score: Score, text: str) -> tuple[float, float]:
    """The quarters at which a stretch begins and ends; the bar that is named last belongs to it. Raises `ScoreError`."""
    first, last = stretch_named(text)
    begin, end = quarter_of(score, first), end_of(score, last)
    if end - begin < 0.5:
        raise ScoreError(f"{text!r} ends at quarter {end:g} and begins at {begin:g}: expected half a quarter at least")
    return begin, end


# What a follower can be told, besides ``reset``.
COMMANDS = ("seek", "start_at", "tap", "untap", "loop", "cue")
CUE_ACTIONS = ("go", "back", "arm", "disarm")


def check_command(name: str, value: object) -> None:
    """Whether `value` is one for the follower's command `name`, whatever the score. Raises `ScoreError`."""
    if name in ("seek", "start_at"):
        if isinstance(value, str):
            named(value)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise ScoreError(f"{name} takes a quarter or a place, got {value!r}")
    elif name == "untap":
        if value is not None:
            raise ScoreError(f"untap takes no value, got {value!r}")
    elif name == "tap" and value in (None, "bar", "beat"):
        return
    elif not isinstance(value, str):
        raise ScoreError(f"{name} takes a text, got {value!r}")
    elif name == "tap":
        named(value)
    elif name == "loop":
        if value != "off":
            stretch_named(value)
    elif value.partition(" ")[0] not in CUE_ACTIONS or (value.partition(" ")[0] in ("go", "back") and " " in value):
        raise ScoreError(f"cue takes go, back, arm or disarm, the last two with the name of a cue or without, got {value!r}")


def check_places(score: Score, name: str, value: object) -> None:
    """Whether a score has the places that a checked command names. Raises `ScoreError`."""
    if not isinstance(value, str) or name == "cue" or value in ("bar", "beat", "off"):
        return
    if name == "loop":
        stretch_of(score, value)
    else:
        quarter_of(score, value)
