"""What the decks can say without a server. (Everything else: tests/live/test_setlist.py.)"""

from __future__ import annotations

import msgspec

from rtserver.config import Config, Log, Midi, Score
from rtserver.roles.decks import differences


def test_only_what_a_song_cannot_set_needs_a_restart() -> None:
    other = msgspec.structs.replace(
        Config(), score=Score(file="other.mid"), name="other", log=Log(level="debug", keep=9), midi=Midi(program=3)
    )
    assert differences(Config(), other) == {"name": [], "midi": ["program"], "log": ["level", "keep"]}
    assert differences(Config(), msgspec.structs.replace(Config(), score=Score(file="other.mid"))) == {}
