"""The midi role in this process, on the null backend: what needs no ears."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from rtserver.config import Config, Midi
from rtserver.events import Command, Dropped, Note, NoteOff, NoteOn
from rtserver.midi.ports import NullOutput
from rtserver.roles.midi import MidiRole
from rtserver.shared.memory import Layout
from rtserver.shared.session import Session, Setup


@pytest.fixture
def session(tmp_path):
    layout = Layout()
    Session.declare(layout, n_in=1, n_out=2, n_features=208)
    return Session.create(layout, Setup(config=Config(midi=Midi(api="null")), run_folder=str(tmp_path)))


@pytest.fixture
def role(session):
    role = MidiRole(session)
    role.prepare()
    yield role
    role.close()


def turns(role: MidiRole, for_s: float, until: Callable[[], object] = lambda: False) -> None:
    """Turn after turn for so long, or until the condition holds."""
    until_s = time.monotonic() + for_s
    while time.monotonic() < until_s and not until():
        assert role.turn()


def send(session: Session, in_s: float = 0.0, note_id: int = 1, **changes) -> None:
    frame = round(session.clock.frame_at(time.monotonic() + in_s)) if session.clock.running else 0
    fields = {"pitch": 60, "velocity": 80, "duration": 2400, "channel": 0} | changes
    session.emit("performer", Note(frame, frame, note_id, **fields), "midi")


def heard(session: Session) -> list[tuple[type, int]]:
    return [(type(e), e.note_id) for e in session.receive("gateway") if isinstance(e, NoteOn | NoteOff)]


def test_null_backend_sends_no_complaint(role, capsys):
    assert isinstance(role.rack.slots[0].output, NullOutput)
    assert capsys.readouterr().err == ""


def test_notes_wait_for_the_clock(session, role):
    send(session)
    turns(role, 0.12)
    assert heard(session) == []
    session.clock.publish(0.0, time.monotonic() + 0.05, 48000, 0.0)
    turns(role, 10.0, lambda: session.counters("midi")["notes_off"])
    assert heard(session) == [(NoteOn, 1), (NoteOff, 1)]


def test_a_turn_without_work_waits_and_ends(session, role):
    started_s = time.monotonic()
    assert role.turn()
    assert 0.02 < time.monotonic() - started_s < 5.0


def test_counters_tell_what_was_played_and_what_was_not(session, role):
    session.clock.publish(0.0, time.monotonic(), 48000, 0.0)
    send(session, 0.02, note_id=1)
    send(session, -1.0, note_id=2)
    send(session, 0.02, note_id=3, pitch=200)
    turns(role, 10.0, lambda: session.counters("midi")["notes_off"])
    counters = session.counters("midi")
    assert (counters["notes_on"], counters["notes_off"], counters["dropped_notes"]) == (1, 1, 2)
    assert heard(session) == [(NoteOn, 1), (NoteOff, 1)]


def left_out(session: Session) -> list[tuple[int, str]]:
    return [(e.note_id, e.why) for e in session.receive("gateway") if isinstance(e, Dropped)]


def test_what_is_left_out_is_told_with_the_reason(session, role):
    session.clock.publish(0.0, time.monotonic(), 48000, 0.0)
    send(session, -1.0, note_id=1)
    send(session, 0.02, note_id=2, pitch=200)
    send(session, 0.02, note_id=3, port="organ")
    turns(role, 10.0, lambda: session.counters("midi")["dropped_notes"] == 3)
    assert sorted(left_out(session)) == [(1, "late"), (2, "unplayable"), (3, "port")]


def test_a_flood_is_told_of_as_far_as_it_is_left_out(session, role):
    session.clock.publish(0.0, time.monotonic(), 48000, 0.0)
    for i in range(400):
        send(session, 0.05, note_id=i, pitch=i % 128, channel=i // 128)
    turns(role, 10.0, lambda: session.counters("midi")["notes_off"] + session.counters("midi")["dropped_notes"] == 400)
    told = left_out(session)
    assert len(told) == session.counters("midi")["dropped_notes"] > 0
    assert {why for _, why in told} <= {"rate", "late"}


def test_what_was_decided_before_a_panic_and_comes_after_it_is_not_played(session, role):
    session.clock.publish(0.0, time.monotonic() - 1.0, 48000, 0.0)
    now = round(session.clock.frame_at(time.monotonic()))
    session.emit("gateway", Command(now + 4800, now, "panic"), "midi")  # a controller's: the performer obeys 0.1 s later
    turns(role, 10.0, lambda: session.counters("midi")["panics"])
    session.emit("performer", Note(now + 9600, now + 4799, 1, 60, 80, 480, 0), "midi")
    session.emit("performer", Note(now + 9600, now + 4800, 2, 61, 80, 480, 0), "midi")
    session.emit("gateway", Note(now + 9600, now + 1, 3, 62, 80, 480, 0, "client"), "midi")
    turns(role, 10.0, lambda: session.counters("midi")["notes_off"] == 2)
    events = session.receive("gateway")
    assert [e.note_id for e in events if isinstance(e, NoteOn)] == [2, 3]
    assert [(e.note_id, e.why) for e in events if isinstance(e, Dropped)] == [(1, "panic")]


def test_close_ends_what_sounds_and_tells(session, role):
    session.clock.publish(0.0, time.monotonic(), 48000, 0.0)
    send(session, 0.02, duration=48000 * 60)
    turns(role, 10.0, lambda: session.block["notes"][0, 60] > 0)
    assert session.block["notes"][0, 60] > 0
    role.close()
    assert heard(session) == [(NoteOn, 1), (NoteOff, 1)]
    assert not session.block["notes"].any()


def test_no_command_is_fatal(session, role):
    for name, value in (("panic", None), ("note", None), ("note", True), ("seek", 3.0), ("unknown", "x")):
        session.emit("gateway", Command(0, 0, name, value), "midi")
    turns(role, 10.0, lambda: session.counters("midi")["panics"])
    turns(role, 0.1)
    assert session.counters("midi")["panics"] == 1


def test_null_backend_that_stands_in_gives_way_when_jack_comes(tmp_path, own_jackd, monkeypatch, capsys):
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "rtstest-nobody")
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    layout = Layout()
    Session.declare(layout, n_in=1, n_out=2, n_features=208)
    config = Config(name="rtstest-late", midi=Midi(api="jack"))
    role = MidiRole(Session.create(layout, Setup(config=config, run_folder=str(tmp_path))))
    role.prepare()
    assert role.rack.api == "null"
    assert "rtstest-nobody" in capsys.readouterr().err
    with own_jackd() as (name, _server):
        monkeypatch.setitem(os.environ, "JACK_DEFAULT_SERVER", name)
        role.session.clock.publish(0.0, time.monotonic(), 48000, 0.0)
        for i in range(100):  # without a pause, for five seconds: it is not waited for
            role.session.emit("performer", Note(2400 * i, 0, i, 60, 80, 1200, 0), "midi")
        turns(role, 20.0, lambda: role.rack.api == "jack")
        assert role.rack.api == "jack"
        role.close()
