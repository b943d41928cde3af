"""When a role is taken for stuck, what is said of its end, and how long it waits to be begun again. (With whole servers: tests/faults.)"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rtserver.audio import table as t
from rtserver.config import parse
from rtserver.plan import open_session, plan
from rtserver.roles.child import BACKOFF_S, HANG_LIMITS_S, HANG_S, START_S, STEADY_S, Child
from rtserver.shared.session import BEAT_NS, STARTING, STATE, UP, Session, Setup

NOW = 1000.0
LONG_AGO = 0.0


@pytest.fixture
def session(tmp_path: Path) -> Session:
    config = parse({"outputs": {"monitor": {"source": "dry", "channels": [1]}}, "generation": {"enabled": False}})
    return open_session(Setup(config, str(tmp_path)), plan(config, [], 1))


def risen(session: Session, name: str, beat_s: float = NOW) -> Child:
    """A role that has been up for long and beat last at `beat_s`."""
    row = session.role(name)
    row[STATE], row[BEAT_NS] = UP, round(beat_s * 1e9)
    return Child(name, session)


def test_a_role_that_beats_is_well(session: Session) -> None:
    assert risen(session, "engine").diagnose(NOW, LONG_AGO) == ""


@pytest.mark.parametrize("name", ["engine", *HANG_LIMITS_S])
def test_a_role_that_does_not_beat_is_stuck_after_its_own_limit(session: Session, name: str) -> None:
    limit_s = HANG_LIMITS_S.get(name, HANG_S)
    child = risen(session, name)
    assert child.diagnose(NOW + limit_s - 0.01, LONG_AGO) == ""
    assert "no heartbeat" in child.diagnose(NOW + limit_s + 0.01, LONG_AGO)


def test_who_stood_still_with_the_supervisor_is_not_blamed(session: Session) -> None:
    child = risen(session, "engine", beat_s=NOW - 5.0)
    assert child.diagnose(NOW, stalled_s=NOW - 0.5) == ""


def test_a_role_that_starts_may_take_its_time(session: Session) -> None:
    session.role("engine")[STATE] = STARTING
    child = Child("engine", session)
    assert child.diagnose(START_S - 1.0, LONG_AGO) == ""
    assert child.diagnose(START_S + 1.0, LONG_AGO) == "did not start in time"


def test_an_audio_role_whose_callbacks_stop_has_lost_its_device(session: Session) -> None:
    table = session.block["audio.table"]
    child = risen(session, "audio", beat_s=NOW + 1.0)
    table[t.CALLBACKS] = 1
    assert child.diagnose(NOW, LONG_AGO) == ""
    table[t.CALLBACKS] = 2
    assert child.diagnose(NOW + 0.2, LONG_AGO) == ""
    assert child.diagnose(NOW + 0.4, LONG_AGO) == ""
    assert "no callback for 0.30 s" in child.diagnose(NOW + 0.5, LONG_AGO)


def test_it_waits_longer_each_time_it_fails_and_is_forgiven_once_steady(session: Session) -> None:
    child = Child("engine", session)
    waits = []
    for _ in range(len(BACKOFF_S) + 1):
        child.bury(NOW)
        waits.append(child.due_s - NOW)
    assert waits == pytest.approx([*BACKOFF_S, BACKOFF_S[-1]])
    child.was_up = True
    child.forgive(STEADY_S + 1.0)
    child.bury(NOW)
    assert child.due_s == NOW


def test_what_ended_says_why_itself_and_else_its_status(session: Session) -> None:
    child = Child("recorder", session)
    child.process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    child.process.wait()
    session.last_words("recorder").write_text("the disk is full")
    assert child.ended() == "the disk is full"
    assert child.ended() == "ended with status 3"


def test_what_was_killed_ended_of_its_fault(session: Session) -> None:
    child = Child("recorder", session)
    child.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert child.ended() == ""
    child.kill("no heartbeat")
    child.process.wait()
    assert child.ended() == "no heartbeat"
