"""What comes in moves the server, and the clock goes out and comes back: two servers' midi roles, each a process, joined by JACK."""

from __future__ import annotations

import time

import pytest

from rtserver.config import Midi
from rtserver.config.midi import MidiMap
from rtserver.events import Beat, Command, Param

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


@pytest.fixture(scope="module")
def keyboard(slave):
    import rtmidi

    port = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name="rtstest-keys")
    port.open_virtual_port("out")
    before = slave.session.counters("midi")["messages_in"]

    def heard() -> bool:
        port.send_message(b"\xa0\x00\x00")
        return slave.session.counters("midi")["messages_in"] > before

    assert slave.wait(heard)
    yield port
    port.close_port()
    port.delete()


@pytest.fixture
def keys(slave, keyboard):
    """A keyboard that the slave listens to, of which nobody has heard anything yet."""
    time.sleep(0.2)
    for role in ("gateway", "engine", "follower", "performer"):
        slave.session.receive(role)
    return keyboard


def heard_by(stage, role: str, kind: type, send) -> list:
    """What `role` hears after `send`, which is done again if nothing comes: JACK loses messages when the machine stands still."""
    got: list = []
    for _ in range(5):
        send()
        stage.wait(lambda: got.extend(e for e in stage.session.receive(role) if isinstance(e, kind)) or got, 2.0)
        if got:
            break
    return got


def test_a_pedal_panics_everybody(slave, keys):
    before = slave.session.counters("midi")["panics"]

    def press() -> None:
        keys.send_message(b"\xb0\x40\x00")
        keys.send_message(b"\xb0\x40\x7f")

    assert {e.name for e in heard_by(slave, "performer", Command, press)} == {"panic"}
    assert {e.name for e in heard_by(slave, "gateway", Command, lambda: None)} == {"panic"}
    assert slave.session.counters("midi")["panics"] > before


def test_a_key_seeks(slave, keys):
    def strike() -> None:
        keys.send_message(b"\x90\x24\x40")
        keys.send_message(b"\x80\x24\x00")

    command = heard_by(slave, "follower", Command, strike)[0]
    assert (command.name, command.value) == ("seek", 8.0)
    assert command.frame > command.available_frame, "it takes effect a declared time later"


def test_a_controller_sets_a_parameter_and_clients_are_told(slave, keys):
    param = heard_by(slave, "engine", Param, lambda: keys.send_message(b"\xb0\x07\x7f"))[0]
    assert (param.name, param.value) == ("outputs.harmonic.gain_db", 0.0)
    assert [e.value for e in heard_by(slave, "gateway", Param, lambda: None)] == [0.0]


def test_clock_goes_out_and_comes_in(master, slave):
    def line(quarter: float, running: bool = True) -> None:
        frame = round(master.session.clock.frame_at(time.monotonic()))
        assert master.session.emit("performer", Beat(frame, frame, quarter, 132.0, running, "performer"), "midi")

    def ticks(stage, counter: str) -> int:
        return stage.session.counters("midi")[counter]

    def beats_after(send, condition) -> list[Beat]:
        """Beats of the slave up to the one that fulfils `condition`; `send` is repeated: what starts a clock may be lost as well."""
        beats: list[Beat] = []
        for _ in range(5):
            send()
            if slave.wait(lambda: any(condition(b) for b in beats) or beats.extend(heard())):
                return beats
        raise AssertionError(beats[-3:])

    def heard() -> list[Beat]:
        return [e for e in slave.session.receive("gateway") if isinstance(e, Beat)]

    def begin() -> None:
        line(0.0, running=False)
        line(0.0)

    beats_after(begin, lambda b: b.running)
    beats = beats_after(lambda: None, lambda b: b.quarter >= 10.0)
    assert {b.source for b in beats} == {"midi_in"}
    first, last = next(b for b in beats if b.quarter >= 4.0), beats[-1]
    tempo = (last.quarter - first.quarter) * 60 * 48000 / (last.frame - first.frame)
    assert tempo == pytest.approx(132.0, rel=0.05)  # a JACK period is a whole tick here
    beats_after(lambda: line(64.0), lambda b: 64.0 <= b.quarter < 70.0)
    beats_after(lambda: line(70.0, running=False), lambda b: not b.running)
    assert slave.wait(lambda: 0 <= ticks(master, "ticks_out") - ticks(slave, "ticks_in") < 0.2 * ticks(master, "ticks_out"))
