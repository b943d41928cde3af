"""A song that is called again begins with its own values; a gateway that comes back within it still knows what was set."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtserver.audio import table as t
from rtserver.config import Config
from rtserver.shared.memory import Layout
from rtserver.shared.session import Session, Setup
from rtserver.wire.control import Control

GAIN = "outputs.harmonic.gain_db"


@pytest.fixture
def session(tmp_path: Path) -> Session:
    layout = Layout()
    t.declare(layout)
    Session.declare(layout, 1, 2, 5)
    return Session.create(layout, Setup(Config(), str(tmp_path), song="opening"))


def control(session: Session) -> Control:
    return Control(session, publish=lambda _: None, sequences={}, epoch=1, endpoints={}, bulk_topics=[])


def plays_from(session: Session, frame: int) -> None:
    session.block["audio.table"][t.DECKS + session.deck * t.DECK_WIDTH + t.START] = frame


def test_a_gateway_that_comes_back_knows_what_was_set(session: Session) -> None:
    plays_from(session, -t.FOREVER)
    first = control(session)
    first.parameters.store(GAIN, -6.0, 100, 0)
    first.parameters.save()
    assert control(session).parameters.values()[GAIN] == -6.0


def test_a_song_that_is_called_again_begins_as_its_file_says(session: Session) -> None:
    plays_from(session, 48000)
    first = control(session)
    first.parameters.store(GAIN, -6.0, 50000, 0)
    first.parameters.save()
    plays_from(session, 480000)
    first.take_song([])
    assert first.parameters.values()[GAIN] == 0.0
    assert first.parameters.set_for("engine", 500000) == [], "nothing is told to an engine that restarts now"
