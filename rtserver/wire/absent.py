"""What a session has not, and why: so that a client that asks for it is told what to set."""

from __future__ import annotations

from rtserver.shared.session import Session
from rtserver.wire.protocol import Refusal


def absent_from(session: Session) -> dict[str, str]:
    """Roles that the song has not, and ``generation`` where nobody generates, with the reason."""
    config, absent = session.config, dict[str, str]()
    if not session.setup.score_file:
        absent["follower"] = "the session follows no score; set score.file in the configuration"
    if not config.generation.enabled:
        absent["generation"] = "the session has no performer; set generation.enabled in the configuration"
    if not config.keeps_time:
        absent["performer"] = "the session has neither performer nor click; set generation.enabled or click.enabled in the configuration"
    if not config.recording.folder:
        absent["recorder"] = "the session has no recorder; set recording.folder in the configuration"
    return absent


def need(absent: dict[str, str], *names: str, of: str = "", field: str = "") -> None:
    """Raises `Refusal` if one of `names` is absent. of : the parameter that needs them; field : where its name was given."""
    for name in names:
        if name in absent:
            raise Refusal("unavailable", f"{of}: {absent[name]}" if of else absent[name], field)
