"""The performer's side of MIDI clock: it tells its line to midi, and may follow a clock that comes in."""

from __future__ import annotations

import numpy as np
import pytest

from rtserver.config import Config, Midi
from rtserver.dsp.layout import N_HEARD
from rtserver.events import Beat
from rtserver.roles.performer import PerformerRole
from rtserver.shared.memory import Layout
from rtserver.shared.session import Session, Setup

HOP = 480


@pytest.fixture
def make(tmp_path):
    def make(midi: Midi) -> tuple[Session, PerformerRole]:
        layout = Layout()
        Session.declare(layout, n_in=1, n_out=2, n_features=N_HEARD)
        session = Session.create(layout, Setup(config=Config(midi=midi), run_folder=str(tmp_path)))
        role = PerformerRole(session)
        role.prepare()
        return session, role

    return make


def hops(session: Session, role: PerformerRole, n: int) -> list[Beat]:
    """Let `n` hops of silence pass; the beats that midi was told."""
    for _ in range(n):
        done = int(session.features.count[0])
        session.features.write(np.zeros(N_HEARD, np.float32), (done + 1) * HOP)
        role.step()
    return [e for e in session.receive("midi") if isinstance(e, Beat)]


def test_midi_is_told_the_line_when_it_changes(make):
    session, role = make(Midi(clock=True))
    (beat,) = hops(session, role, 20)
    assert (beat.frame, beat.quarter, beat.tempo_bpm, beat.running) == (HOP, 0.0, 100.0, True)
    assert beat.source == "performer"


def test_nobody_is_told_where_no_port_sends_clock(make):
    session, role = make(Midi())
    assert hops(session, role, 20) == []


def test_a_clock_that_comes_in_drives_the_transport_where_it_is_asked_to(make):
    session, role = make(Midi(clock_from="midi_in"))
    hops(session, role, 10)
    assert not role.transport.running, "it waits for the clock"
    session.emit("midi", Beat(4800, 6000, 16.0, 90.0, True, "midi_in"), "performer")
    hops(session, role, 2)
    assert not role.transport.running, "the beat takes effect when it could be known"
    hops(session, role, 1)
    assert role.transport.running
    assert role.transport.quarter_at(4800 + 32000) == pytest.approx(17.0)
    session.emit("midi", Beat(9600, 9600, 16.2, 90.0, False, "midi_in"), "performer")
    hops(session, role, 10)
    assert not role.transport.running


def test_another_clock_does_not(make):
    session, role = make(Midi(clock_from="midi_in"))
    session.emit("midi", Beat(0, 0, 16.0, 90.0, True, "other"), "performer")
    hops(session, role, 10)
    assert not role.transport.running
