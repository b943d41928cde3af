"""How long before they are due notes must be known, so that every sink has them in time. Pure."""

from __future__ import annotations

from rtserver.config.midi import outputs_of
from rtserver.config.tree import Config


def lookaheads_s(config: Config) -> dict[str, float]:
    """What each sink in use needs, in seconds, by ``wire`` (its clients) and ``midi`` or ``midi.PORT``.

    A network client has its message a way and a scheduler later than it was sent, hence ``wire.lookahead_s``. A local port needs nothing of
    its own, and -offset_s where it is to sound earlier than due.
    """
    needs = {"wire": config.wire.lookahead_s} if config.wire.enabled else {}
    for name, port in outputs_of(config).items():
        needs[f"midi.{name}" if name else "midi"] = max(-port.offset_s, 0.0)
    return needs


def lookahead_s(config: Config) -> float:
    """The most that any sink in use needs, in seconds: 0 to 1."""
    return max(lookaheads_s(config).values(), default=0.0)
