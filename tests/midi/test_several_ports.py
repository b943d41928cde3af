"""Two ports, each a process with a JACK client of its own, heard by two synths."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from rtserver.config import Midi
from rtserver.config.midi import MidiPort
from rtserver.events import MidiIn, Note

PORTS = {
    "lead": MidiPort(connect=["rtstest-synth"], parts=["performer"], channels={"1": 3}, programs={"3": 7}, input=True),
    "click": MidiPort(connect=["rtstest-drums"], parts=["client"], input=True, connect_input=["rtstest-pad"]),
}


@pytest.fixture
def drums(jack_server):
    """A second synth: the messages that it heard."""
    import rtmidi

    heard: list[bytes] = []
    port = rtmidi.MidiIn(rtapi=rtmidi.API_UNIX_JACK, name="rtstest-drums")
    port.set_callback(lambda got, _: heard.append(bytes(got[0])))
    port.open_virtual_port("in")
    yield heard
    port.cancel_callback()
    port.close_port()
    port.delete()


@pytest.fixture
def stage(jack_server, midi_stage, drums, tmp_path):
    stage = midi_stage(tmp_path, Midi(api="jack", ports=PORTS))
    stage.listen()
    stage.run_clock()
    stage.start("midi")
    yield stage
    stage.close()


def play(stage, part: str, pitch: int, duration_s: float) -> None:
    frame = round(stage.session.clock.frame_at(time.monotonic() + 0.03))
    assert stage.session.emit("gateway", Note(frame, frame, pitch, pitch, 80, round(duration_s * 48000), 0, part), "midi")


def senders(stage) -> list[int]:
    return [int(pid) for pid in stage.session.block["midi.senders"] if pid]


def test_each_port_plays_its_part_on_its_channels(stage, drums):
    assert stage.wait(lambda: bytes((0xC2, 7)) in stage.messages()), "the programs of the port"
    play(stage, "performer", 60, 0.05)
    play(stage, "client", 40, 0.05)
    assert stage.wait(lambda: stage.notes() == [(True, 60), (False, 60)] and bytes((0x80, 40, 0)) in drums)
    assert not {m[0] & 0xF0 for m in drums} - {0x80, 0x90}
    assert bytes((0x92, 60, 80)) in stage.messages()
    assert bytes((0x90, 40, 80)) in drums


def test_panic_reaches_every_port(stage, drums):
    stage.command("panic")
    silence = {bytes((0xB0 | channel, control, 0)) for channel in range(16) for control in (64, 120, 123)}
    assert stage.wait(lambda: set(stage.messages()) >= silence and set(drums) >= silence)


def test_input_says_from_which_port_it_came(stage):
    import rtmidi

    pad = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name="rtstest-pad")
    pad.open_virtual_port("out")
    try:
        subprocess.run(["jack_connect", "rtstest-pad:out", "rtstest-midi-lead-in:midi_in"], check=True, capture_output=True)
        got: set[tuple[str, bytes]] = set()

        def heard() -> bool:
            pad.send_message(b"\xb0\x40\x7f")
            got.update((e.port, e.data) for e in stage.session.receive("gateway") if isinstance(e, MidiIn))
            return got == {("lead", b"\xb0\x40\x7f"), ("click", b"\xb0\x40\x7f")}

        assert stage.wait(heard), got
    finally:
        pad.close_port()
        pad.delete()


def test_without_a_standby_the_senders_of_a_killed_midi_process_release(stage, drums):
    play(stage, "performer", 61, 60.0)
    play(stage, "client", 41, 60.0)
    assert stage.wait(lambda: stage.notes() == [(True, 61)] and bytes((0x90, 41, 80)) in drums)
    pids = senders(stage)
    os.kill(stage.processes["midi"].pid, signal.SIGKILL)
    assert stage.wait(lambda: stage.notes() == [(True, 61), (False, 61)] and bytes((0x80, 41, 0)) in drums)
    assert len(pids) == 2
    assert stage.wait(lambda: not any(os.path.exists(f"/proc/{pid}/cmdline") and _lives(pid) for pid in pids)), "and leave"


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_death_of_a_sender_is_the_standbys_to_answer_and_ends_the_role_with_a_line(stage):
    stage.start("standby")
    found = ["jack_lsp", "-c", "rtstest-midi-standby:midi_out"]
    stage.wait(lambda: "rtstest-synth" in subprocess.run(found, capture_output=True, text=True, check=False).stdout)
    play(stage, "performer", 62, 60.0)
    assert stage.wait(lambda: stage.notes() == [(True, 62)])
    os.kill(senders(stage)[0], signal.SIGKILL)
    assert stage.wait(lambda: stage.notes() == [(True, 62), (False, 62)])
    _, complaint = stage.processes["midi"].communicate(timeout=30.0)
    assert stage.processes["midi"].returncode == 1
    assert "rtstest-midi-lead:midi_out has ended" in complaint


def test_a_sender_that_hangs_is_ended_with_a_line_and_the_standby_releases_its_notes(stage):
    stage.start("standby")
    found = ["jack_lsp", "-c", "rtstest-midi-standby:midi_out"]
    stage.wait(lambda: "rtstest-synth" in subprocess.run(found, capture_output=True, text=True, check=False).stdout)
    play(stage, "performer", 62, 60.0)
    play(stage, "performer", 64, 0.4)
    assert stage.wait(lambda: (True, 62) in stage.notes())
    os.kill(senders(stage)[0], signal.SIGSTOP)
    _, complaint = stage.processes["midi"].communicate(timeout=30.0)
    assert stage.processes["midi"].returncode == 1
    assert "rtstest-midi-lead:midi_out hung for" in complaint
    assert stage.wait(lambda: sorted(pitch for on, pitch in stage.notes() if not on) == sorted(pitch for on, pitch in stage.notes() if on))


def test_a_role_that_starts_again_has_its_names_again(stage):
    stage.processes["midi"].kill()
    stage.processes["midi"].wait()
    stage.start("midi")
    names = subprocess.run(["jack_lsp", "rtstest-midi"], capture_output=True, text=True, check=True).stdout.split()
    assert {"rtstest-midi-lead:midi_out", "rtstest-midi-click:midi_out"} <= set(names)
