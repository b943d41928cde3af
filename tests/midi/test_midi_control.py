"""What comes in moves the server, and the clock goes out and comes back: two servers' midi roles, each a process, joined by JACK."""

from __future__ import annotations

import time

import pytest

from rtserver.config import Midi
from rtserver.events import Beat, Command, Param
from rtserver.midi.settings import MidiMap

PEDALS = {
    "panic": MidiMap(message="cc", number=64, command="panic"),
    "start": MidiMap(message="note", number=36, command="seek", value=8.0),
    "level": MidiMap(message="cc", number=7, parameter="outputs.harmonic.gain_db", low=-60.0, high=0.0),
}


@pytest.fixture(scope="module")
def master(jack_server, midi_stage, tmp_path_factory):
    stage = midi_stage(tmp_path_factory.mktemp("master"), Midi(api="jack", clock=True, client_name="rtstest-master"))
    stage.run_clock()
    stage.start("midi")
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def slave(master, midi_stage, tmp_path_factory):
    midi = Midi(api="jack", client_name="rtstest-slave", connect_input=["rtstest-master", "rtstest-keys"], map=PEDALS)
    stage = midi_stage(tmp_path_factory.mktemp("slave"), midi)
    stage.run_clock()
    stage.start("midi")
    yield stage
    stage.close()


@pytest.fixture
def keys(slave):
    """A keyboard that the slave listens to."""
    import rtmidi

    port = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name="rtstest-keys")
    port.open_virtual_port("out")
    before = slave.session.counters("midi")["messages_in"]

    def heard() -> bool:
        port.send_message(b"\xa0\x00\x00")
        return slave.session.counters("midi")["messages_in"] > before

    assert slave.wait(heard)
    for role in ("gateway", "engine", "follower", "performer"):
        slave.session.receive(role)
    yield port
    port.close_port()
    port.delete()


def received(stage, role: str, kind: type, n: int) -> list:
    got: list = []
    stage.wait(lambda: got.extend(e for e in stage.session.receive(role) if isinstance(e, kind)) or len(got) >= n, 3.0)
    return got


def test_a_pedal_panics_everybody(slave, keys):
    before = slave.session.counters("midi")["panics"]
    keys.send_message(b"\xb0\x40\x7f")
    (command,) = received(slave, "performer", Command, 1)
    assert command.name == "panic"
    assert [e.name for e in received(slave, "gateway", Command, 1)] == ["panic"]
    assert slave.session.counters("midi")["panics"] == before + 1
    keys.send_message(b"\xb0\x40\x00")


def test_a_key_seeks_and_a_controller_sets(slave, keys):
    keys.send_message(b"\x90\x24\x40")
    (command,) = received(slave, "follower", Command, 1)
    assert (command.name, command.value) == ("seek", 8.0)
    keys.send_message(b"\xb0\x07\x7f")
    (param,) = received(slave, "engine", Param, 1)
    assert (param.name, param.value) == ("outputs.harmonic.gain_db", 0.0)
    assert [e.value for e in received(slave, "gateway", Param, 1)] == [0.0]


def test_clock_goes_out_and_comes_in(master, slave):
    def line(quarter: float, tempo_bpm: float, running: bool = True) -> None:
        frame = round(master.session.clock.frame_at(time.monotonic()))
        assert master.session.emit("performer", Beat(frame, frame, quarter, tempo_bpm, running, "performer"), "midi")

    def ticks(stage, counter: str) -> int:
        return stage.session.counters("midi")[counter]

    slave.session.receive("gateway")
    line(0.0, 132.0)
    beats: list[Beat] = []

    def heard(n: int) -> bool:
        beats.extend(e for e in slave.session.receive("gateway") if isinstance(e, Beat))
        return ticks(slave, "ticks_in") >= n

    assert slave.wait(lambda: heard(24 * 10), 20.0), ticks(slave, "ticks_in")
    assert beats[0].quarter < 1.0 and beats[0].running and beats[0].source == "midi_in"
    assert all(b.available_frame >= b.frame - 1 for b in beats)
    first, last = beats[len(beats) // 2], beats[-1]
    tempo = (last.quarter - first.quarter) * 60 * 48000 / (last.frame - first.frame)
    assert tempo == pytest.approx(132.0, rel=0.03)  # a JACK period is a whole tick here
    line(64.0, 132.0)  # a jump
    assert slave.wait(lambda: heard(0) and any(64.0 <= b.quarter < 70.0 for b in beats)), beats[-1]
    line(70.0, 132.0, running=False)
    assert slave.wait(lambda: heard(0) and not beats[-1].running)
    time.sleep(0.2)
    lost_in_jack = ticks(master, "ticks_out") - ticks(slave, "ticks_in")
    assert 0 <= lost_in_jack < 0.1 * ticks(master, "ticks_out")
