"""What a client tells the follower, as commands: checked against the score before anybody obeys."""

from __future__ import annotations

from collections.abc import Callable

from rtserver.errors import ScoreError
from rtserver.following.naming import check_command, check_places
from rtserver.following.score import Score
from rtserver.wire import requests as r
from rtserver.wire.protocol import Refusal, nearest

Order = tuple[str, float | str | None]
FollowerRequest = r.SeekRequest | r.StartAtRequest | r.TapRequest | r.UntapRequest | r.LoopRequest | r.CueRequest


def order_of(request: FollowerRequest, score: Callable[[], Score], cues: list[str]) -> Order:
    """The name and the value of the command that `request` stands for.

    Parameters
    ----------
    score : callable
        Loads the score that is followed; called where a place has to be looked up. Raises `ScoreError`.
    cues : list of str
        Names of the song's cues.

    Raises
    ------
    Refusal
        Says what is wrong: a place that is none, or that the score has not, or no cue of that name.
    """
    name = str(type(request).__struct_config__.tag)
    value, field = _value(request)
    if isinstance(request, r.CueRequest) and request.name and request.name not in cues:
        raise Refusal("unknown_name", f"no cue {request.name!r}; {nearest(request.name, dict.fromkeys(cues))}", "name")
    try:
        check_command(name, value)
        if isinstance(value, str) and value not in ("off", "bar", "beat") and name != "cue":
            check_places(score(), name, value)
    except ScoreError as error:
        raise Refusal("bad_argument", f"{name}: {error}", field) from None
    return name, value


def _value(request: FollowerRequest) -> tuple[float | str | None, str]:
    """The command's value, and the field that it comes from."""
    match request:
        case r.SeekRequest() | r.StartAtRequest():
            if (request.quarter is None) == (not request.at):
                raise Refusal("bad_argument", "expected either a quarter or a place: at", "at" if request.at else "quarter")
            return (request.at, "at") if request.at else (request.quarter, "quarter")
        case r.TapRequest():
            return request.at or request.nearest, "at"
        case r.LoopRequest():
            return request.bars, "bars"
        case r.CueRequest():
            if request.name and request.action in ("go", "back"):
                raise Refusal("bad_argument", f"{request.action} takes no name: it is the next one, or the last", "name")
            return f"{request.action} {request.name}".strip(), "action"
        case r.UntapRequest():
            return None, ""
