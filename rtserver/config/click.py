"""The section `click`: what the players hear of the musical clock, in the ear and not in the hall."""

from __future__ import annotations

import msgspec

from rtserver.config.bounds import within

PART = "click"  # of its notes: whose they are
COUNT_IN = "count_in"  # the command that asks for one by hand, with how many bars or without a value
MOST_BARS = 8  # of a count-in


class Click(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A click at the beats of the musical clock, and how many bars are counted in before it starts.

    It is heard on outputs whose source is ``click``, and on MIDI ports whose `parts` name it: nowhere else. Compound metres beat dotted
    quarters.
    """

    enabled: bool = False  # while the music runs; a count-in is heard all the same
    subdivision: int = 1  # clicks a beat, 1 to 4
    count_in_bars: int = 0  # counted before a clock at a fixed tempo starts, 0 to 8; ``count_in`` asks for them by hand
    pitch: int = 77  # MIDI key of a beat: General MIDI's low wood block
    accent_pitch: int = 76  # of a bar line: the high one
    velocity: int = 90
    accent_velocity: int = 120
    channel: int = 10  # from 1; General MIDI's drums


def check_count_in(value: object) -> None:
    """Whether `value` is one for the command ``count_in``: nothing, or a number of bars. Raises `ValueError`."""
    whole = value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value in range(1, MOST_BARS + 1))
    if not whole:
        raise ValueError(f"{COUNT_IN} takes a number of bars from 1 to {MOST_BARS}, or no value, got {value!r}")


def check_click(click: Click) -> None:
    """Raises `ConfigError` with the path of the field."""
    within("click.subdivision", click.subdivision, 1, 4)
    within("click.count_in_bars", click.count_in_bars, 0, MOST_BARS)
    within("click.pitch", click.pitch, 0, 127)
    within("click.accent_pitch", click.accent_pitch, 0, 127)
    within("click.velocity", click.velocity, 1, 127)
    within("click.accent_velocity", click.accent_velocity, 1, 127)
    within("click.channel", click.channel, 1, 16)
