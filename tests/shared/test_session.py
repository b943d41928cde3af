"""Who talks to whom."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rtserver.config import Config, Recording
from rtserver.events import Command, Position
from rtserver.shared.memory import Layout
from rtserver.shared.session import BEAT_NS, COUNTERS, EVENT_PATHS, MAX_COUNTERS, ROLES, Session, Setup


@pytest.fixture
def session() -> Session:
    layout = Layout()
    Session.declare(layout, 1, 2, 5)
    return Session.create(layout, Setup(Config(name="stage left"), run_folder="nowhere", tracks=()))


def test_another_process_sees_the_setup_and_answers(session: Session) -> None:
    code = """if True:
        import sys
        from rtserver.events import Command
        from rtserver.shared.session import Session
        session = Session.attach(int(sys.argv[1]))
        session.beat("gateway")
        session.count("gateway", "events", 3)
        session.emit("gateway", Command(0, 0, session.config.name), "supervisor")
    """
    subprocess.run([sys.executable, "-c", code, str(session.block.fd)], pass_fds=[session.block.fd], check=True, timeout=30)
    assert session.waker("supervisor").wait(0.0)
    assert session.receive("supervisor") == [Command(0, 0, "stage left")]
    assert session.counters("gateway")["events"] == 3
    assert int(session.role("gateway")[BEAT_NS]) > 0


def test_an_event_reaches_all_who_listen(session: Session) -> None:
    event = Position(480, 480, 1.0, 1.0, 100.0, 1.0, "LOCKED")
    assert session.emit("follower", event)
    for consumer in set(EVENT_PATHS["follower"]) - {"recorder"}:
        assert session.waker(consumer).wait(0.0)
        assert session.receive(consumer) == [event]


@pytest.mark.parametrize("folder", ["", "shows"])
def test_what_the_gateway_is_told_the_recorder_is_told_if_there_is_one(folder: str) -> None:
    layout = Layout()
    Session.declare(layout, 1, 2, 5)
    session = Session.create(layout, Setup(Config(recording=Recording(folder=folder)), "nowhere"))
    event = Command(0, 0, "panic")
    session.emit("midi", event)
    session.emit("midi", event, "gateway")
    session.emit("midi", event, "performer")
    session.emit("gateway", event, "midi")
    session.emit("gateway", event, "recorder")
    assert session.receive("recorder") == [event] * (3 if folder else 0)


def test_the_recorder_learns_of_which_deck_somebody_spoke() -> None:
    layout = Layout()
    Session.declare(layout, 1, 2, 5)
    session = Session.create(layout, Setup(Config(recording=Recording(folder="shows")), "nowhere"))
    event = Command(0, 0, "panic")
    session.emit("midi", event, "gateway")
    session.turn_to(1)
    session.emit("midi", event, "gateway")
    session.emit("engine", event)
    assert session.receive("gateway") == [event] * 3
    assert sorted(deck for deck, heard in session.receive_with_decks("recorder") if heard == event) == [0, 1, 1]


def test_nobody_hears_of_a_recorder_that_takes_nothing() -> None:
    layout = Layout()
    Session.declare(layout, 1, 2, 5)
    session = Session.create(layout, Setup(Config(recording=Recording(folder="shows")), "nowhere"))
    for _ in range(session.ring("midi", "recorder").n_slots + 1):
        session.receive("gateway")
        assert session.emit("midi", Command(0, 0, "panic"), "gateway")
    assert int(session.ring("midi", "recorder").dropped[0]) == 1


def test_a_full_ring_is_said(session: Session) -> None:
    event = Command(0, 0, "panic")
    n_slots = session.ring("gateway", "midi").n_slots
    assert all(session.emit("gateway", event, "midi") for _ in range(n_slots))
    assert not session.emit("gateway", event, "midi")


def test_the_greatest_value_stays(session: Session) -> None:
    for value in (3, 7, 5):
        session.count_max("engine", "hop_ns_max", value)
    assert session.counters("engine")["hop_ns_max"] == 7


def test_counters_fit_their_fields() -> None:
    assert max(len(names) for names in COUNTERS.values()) <= MAX_COUNTERS


def test_every_path_joins_roles() -> None:
    known = {*ROLES, "supervisor"}
    assert {*EVENT_PATHS, *(c for consumers in EVENT_PATHS.values() for c in consumers)} <= known


def test_the_clock_says_what_was_published(session: Session) -> None:
    assert not session.clock.running
    session.clock.publish(48000.0, 10.0, 48000.0, 0.0)
    assert session.clock.running
    assert session.clock.time_at(96000.0) == 11.0
    assert session.clock.frame_at(11.0) == 96000.0
