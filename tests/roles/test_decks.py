"""What the decks can say without a server. (Everything else: tests/live/test_setlist.py.)"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from rtserver.config import Config, Log, Midi, Score
from rtserver.events import Exit
from rtserver.roles.decks import differences, tell_exit
from rtserver.shared.memory import Layout
from rtserver.shared.session import ROLES, Session, Setup


def test_only_what_a_song_cannot_set_needs_a_restart() -> None:
    other = msgspec.structs.replace(
        Config(), score=Score(file="other.mid"), name="other", log=Log(level="debug", keep=9), midi=Midi(program=3)
    )
    assert differences(Config(), other) == {"name": [], "midi": ["program"], "log": ["level", "keep"]}
    assert differences(Config(), msgspec.structs.replace(Config(), score=Score(file="other.mid"))) == {}


@pytest.mark.parametrize("role", ROLES)
def test_whoever_ends_how_far_a_worker_came_is_told(tmp_path: Path, role: str) -> None:
    layout = Layout()
    Session.declare(layout, 1, 1, 5)
    session = Session.create(layout, Setup(Config(), str(tmp_path)))
    worker = role.removesuffix(".b") in ("follower", "performer")
    if worker:
        Session(session.block, deck=int(role.endswith(".b"))).count_set(role.removesuffix(".b"), "last_hop", 960)
    tell_exit(session, role)
    assert session.receive("gateway") == ([Exit(960, 0, role)] if worker else [])
