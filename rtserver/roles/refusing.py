"""A worker that cannot do what it was told says so, in a message that fits into its ring."""

from __future__ import annotations

from rtserver.events import Command, Param, Refused
from rtserver.roles.agenda import EFFECT_S, what
from rtserver.shared.session import Session

MAX_TOLD_SIZE, MAX_DETAIL_SIZE = 40, 100  # bytes of what was refused and why: a longer event would not fit


def refuse(session: Session, role: str, frame: int, event: Param | Command, why: Exception) -> None:
    """`role` does not do what `event` asks for at `frame`; tell it to the gateway."""
    told = f"{what(event)} {event.value or ''}".rstrip()
    effect = round(EFFECT_S * session.config.audio.sample_rate)
    short, detail = _short(told, MAX_TOLD_SIZE), _short(str(why), MAX_DETAIL_SIZE)
    session.emit(role, Refused(frame, frame + effect, session.own(role), short, detail), "gateway")


def _short(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")
