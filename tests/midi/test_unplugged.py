"""A keyboard that goes with keys down, or whose releases nobody could hear: the midi role says them in its place."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from jackmidi import JackMidi

from rtserver.config import Midi
from rtserver.config.midi import MidiMap
from rtserver.events import MidiIn, Param
from rtserver.shared.session import RESTARTS

MUTE = MidiMap(message="cc", number=66, parameter="outputs.harmonic.mute")
CHORD = [b"\x90\x3c\x40", b"\x92\x40\x40", b"\x90\x43\x40"]
RELEASED = {b"\x80\x3c\x00", b"\x82\x40\x00", b"\x80\x43\x00"}


@pytest.fixture
def stage(jack_server, midi_stage, tmp_path):
    stage = midi_stage(tmp_path, Midi(api="jack", connect_input=["rtstest-keys"], map={"mute": MUTE}))
    stage.run_clock()
    stage.start("midi")
    yield stage
    stage.close()


@pytest.fixture
def keyboard(stage):
    """A keyboard that is connected, with three keys and a pedal down."""
    keyboard = JackMidi("rtstest-keys")
    assert stage.wait(lambda: keyboard.send(b"\xa0\x00\x00") or stage.session.counters("midi")["messages_in"])
    keyboard.send(*CHORD, b"\xb0\x42\x7f", b"\x90\x30\x40", b"\x80\x30\x40")
    assert stage.wait(lambda: stage.session.block["keys"].astype(bool).sum() == 4)
    yield keyboard
    keyboard.close()


def said(stage, role: str, kind: type, wanted) -> bool:
    """Whether `role` hears all of `wanted`, which `kind` of event says."""
    got: list = []
    data = (lambda e: e.data) if kind is MidiIn else (lambda e: e.value)

    def heard() -> bool:
        got.extend(data(e) for e in stage.session.receive(role) if isinstance(e, kind))
        return set(wanted) <= set(got)

    return stage.wait(heard)


def forget(stage) -> None:
    for role in ("performer", "follower", "gateway", "engine"):
        stage.session.receive(role)


def test_a_keyboard_that_is_pulled_lets_go_of_its_keys_and_pedals(stage, keyboard):
    assert said(stage, "engine", Param, {True}), "the pedal mutes"
    forget(stage)
    os.kill(keyboard.pid, signal.SIGKILL)
    assert said(stage, "performer", MidiIn, RELEASED | {b"\xb0\x42\x00"})
    assert said(stage, "follower", MidiIn, RELEASED)
    assert said(stage, "gateway", MidiIn, RELEASED)
    assert said(stage, "engine", Param, {False}), "and no longer"
    assert not stage.session.block["keys"].any()
    assert stage.session.counters("midi")["keys_let_go"] == 4


def test_taking_off_the_connection_by_hand_does_the_same(stage, keyboard):
    import jack

    client = jack.Client("rtstest-hand", no_start_server=True)
    client.disconnect("rtstest-keys:out", "rtstest-midi-in:midi_in")
    client.close()
    assert said(stage, "performer", MidiIn, RELEASED)


def test_a_keyboard_that_stays_is_left_alone(stage, keyboard):
    second = JackMidi("rtstest-pad")
    second.close()
    forget(stage)
    stage.wait(lambda: False, 0.8)  # three looks at the connections
    assert not any(isinstance(e, MidiIn) for e in stage.session.receive("performer"))
    assert stage.session.block["keys"].astype(bool).sum() == 4


def test_a_midi_role_lets_go_of_what_its_predecessor_had_heard(stage, keyboard):
    stage.processes["midi"].kill()
    stage.processes["midi"].wait()
    stage.session.role("midi")[RESTARTS] += 1
    forget(stage)
    stage.start("midi")
    assert said(stage, "performer", MidiIn, RELEASED)


def test_the_death_of_the_patchbay_lets_go_of_the_keys(stage, keyboard):
    pid = stage.processes["midi"].pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    (patchbay,) = (int(p) for p in children if b"rtserver.midi.patchbay" in Path(f"/proc/{p}/cmdline").read_bytes())
    forget(stage)
    os.kill(patchbay, signal.SIGKILL)
    assert said(stage, "performer", MidiIn, RELEASED)
    before = stage.session.counters("midi")["messages_in"]
    assert stage.wait(lambda: keyboard.send(b"\xa0\x00\x00") or stage.session.counters("midi")["messages_in"] > before), "it hears again"
