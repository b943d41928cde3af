"""The follower role with the keys of a MIDI instrument instead of sound."""

from pathlib import Path

import numpy as np
import pytest

from rtserver.config import Config, Following, parse
from rtserver.demo import SCORE
from rtserver.dsp.layout import N_FEATURES
from rtserver.errors import ConfigError
from rtserver.events import MidiIn, Position
from rtserver.following.score import load_score
from rtserver.preflight import check
from rtserver.roles.follower import FollowerRole
from rtserver.shared.memory import Layout
from rtserver.shared.session import Session, Setup

HOP, RATE = 480, 48000
STRETCH = 1.25  # slower than written


@pytest.fixture
def session(tmp_path: Path) -> Session:
    layout = Layout()
    Session.declare(layout, 1, 1, N_FEATURES)
    load_score(SCORE).to_npz(tmp_path / "score.npz")
    config = Config(following=Following(keys="midi_in"))
    return Session.create(layout, Setup(config, str(tmp_path), str(tmp_path / "score.npz")))


def play(session: Session, port: str = "midi_in", velocity: int = 70, until: float = 16.0) -> list[Position]:
    """What the role says of somebody who plays the score's notes on `port` up to a quarter, in silence."""
    role = FollowerRole(session)
    role.prepare()
    score = load_score(SCORE)
    notes = score.notes
    at = 0.5 + STRETCH * score.seconds_at(notes.onset_quarter)
    keys = [(int(s * RATE), int(p)) for s, p, q in zip(at, notes.pitch, notes.onset_quarter, strict=True) if q < until]
    positions: list[Position] = []
    silence = np.zeros(N_FEATURES, np.float32)
    for k in range(int(keys[-1][0] / HOP) + 10):
        while keys and keys[0][0] < k * HOP:
            frame, pitch = keys.pop(0)
            data = bytes([0x90, pitch, velocity])
            session.emit("midi", MidiIn(frame, frame + HOP, port, data), "follower")
            session.emit("midi", MidiIn(frame, frame + HOP, port, bytes([0xF8])), "follower")
        session.features.write(silence, (k + 1) * HOP)
        role.step()
        positions += [e for e in session.receive("gateway") if isinstance(e, Position)]
    return positions


def test_it_follows_the_keys(session: Session) -> None:
    positions = play(session)
    score = load_score(SCORE)
    last = float(score.notes.onset_quarter[score.notes.onset_quarter < 16.0].max())
    assert positions[0].state == "WAITING"
    assert {p.state for p in positions[-50:]} == {"LOCKED"}
    assert last <= positions[-1].quarter < last + 1.0
    tempo = float(score.tempo_bpm[0]) / STRETCH
    assert positions[-1].tempo_bpm == pytest.approx(tempo, rel=0.1)


@pytest.mark.parametrize(("port", "velocity"), [("pads", 70), ("midi_in", 0)])
def test_another_port_and_released_keys_are_not_heard(session: Session, port: str, velocity: int) -> None:
    assert {p.state for p in play(session, port, velocity, until=4.0)} == {"WAITING"}


def test_the_port_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"following\.keys: no MIDI input port 'piano'; known are midi_in"):
        parse({"following": {"keys": "piano"}})


def test_a_method_that_hears_no_keys_is_refused(tmp_path: Path) -> None:
    config = parse({"following": {"keys": "midi_in", "method": "dixon"}, "score": {"file": str(SCORE)}})
    with pytest.raises(ConfigError, match=r"following\.keys: the method 'dixon' hears no keys"):
        check(config, tmp_path)
