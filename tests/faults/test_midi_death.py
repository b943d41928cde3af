"""The midi process is killed while notes sound: no note may sound more than 0.3 s longer."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import machine
import pytest

from rtserver.config import Midi
from rtserver.shared.session import RESTARTS


def connections(port: str) -> set[str]:
    lines = subprocess.run(["jack_lsp", "-c", port], capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.strip() for line in lines if line.startswith(" ")}


@pytest.fixture
def stage(jack_server, midi_stage, tmp_path):
    stage = midi_stage(tmp_path, Midi(api="jack", connect=["rtstest-synth"]))
    stage.listen()
    stage.run_clock()
    stage.start("midi")
    stage.start("standby")
    stage.wait(lambda: connections("rtstest-midi-standby:midi_out") == {"rtstest-synth:in"})
    yield stage
    stage.close()


def ends(stage) -> tuple[set[tuple[int, int]], float]:
    """What still sounds of all that was heard, and when (CLOCK_MONOTONIC) the last note that sounded was let go."""
    sounding: set[tuple[int, int]] = set()
    ended_ns = 0
    for at_ns, message in list(stage.heard):
        key = (message[0] & 0x0F, message[1])
        if message[0] & 0xF0 == 0x90:
            sounding.add(key)
        elif message[0] & 0xF0 == 0x80 and key in sounding:  # what is sent again ends nothing
            sounding.remove(key)
            ended_ns = at_ns
    return sounding, ended_ns * 1e-9


def kill_while_notes_sound(stage) -> None:
    pitches = (36, 48, 52, 55, 60, 64, 67, 72)
    stage.heard.clear()
    for i, pitch in enumerate(pitches):
        stage.play(0.03, pitch, duration_s=60.0, channel=i % 3)
    for i in range(40):  # and short ones, so that some have just ended when it happens
        stage.play(0.02 * i, 80 + i % 12, duration_s=0.03)
    assert stage.wait(lambda: len(stage.notes()) > 20)
    killed_s = time.monotonic()
    os.kill(stage.processes["midi"].pid, signal.SIGKILL)
    assert stage.wait(lambda: not ends(stage)[0]), "every note-on has its note-off"
    time.sleep(0.1)
    sounding, ended_s = ends(stage)
    assert not sounding, "and nothing comes after that"
    assert ended_s - killed_s < 0.3 + machine.watch().total_s(killed_s)


def test_killed_midi_leaves_no_note_and_the_next_one_is_watched_too(stage):
    kill_while_notes_sound(stage)
    assert stage.session.counters("standby")["releases"] >= 8
    assert not stage.session.block["notes"].any()
    stage.processes["midi"].wait()
    stage.session.role("midi")[RESTARTS] += 1
    stage.start("midi")
    assert stage.wait(lambda: connections("rtstest-midi:midi_out") == {"rtstest-synth:in"}), "the role is back with its connections"
    kill_while_notes_sound(stage)


def test_connections_made_by_hand_reach_the_standby_and_survive_a_restart(stage):
    import rtmidi

    other = rtmidi.MidiIn(rtapi=rtmidi.API_UNIX_JACK, name="rtstest-other")
    other.open_virtual_port("in")
    both = {"rtstest-synth:in", "rtstest-other:in"}
    try:
        subprocess.run(["jack_connect", "rtstest-midi:midi_out", "rtstest-other:in"], check=True, capture_output=True)
        assert stage.wait(lambda: connections("rtstest-midi-standby:midi_out") == both), "the standby takes them over"
        subprocess.run(["jack_disconnect", "rtstest-midi:midi_out", "rtstest-synth:in"], check=True, capture_output=True)
        assert stage.wait(lambda: connections("rtstest-midi-standby:midi_out") == {"rtstest-other:in"}), "and what is taken off"
        stage.processes["midi"].kill()
        stage.processes["midi"].wait()
        stage.session.role("midi")[RESTARTS] += 1
        stage.start("midi")
        assert stage.wait(lambda: connections("rtstest-midi:midi_out") == {"rtstest-other:in"})
    finally:
        other.close_port()
        other.delete()


def test_standby_does_nothing_to_a_midi_process_that_lives(stage):
    stage.play(0.03, 60, duration_s=1.2)
    assert stage.wait(lambda: stage.notes() == [(True, 60)])
    os.kill(stage.processes["midi"].pid, signal.SIGSTOP)
    time.sleep(0.4)  # its heart has stopped, but it is the supervisor's to kill
    os.kill(stage.processes["midi"].pid, signal.SIGCONT)
    assert stage.session.counters("standby")["releases"] == 0
    assert stage.wait(lambda: stage.notes() == [(True, 60), (False, 60)])


def test_a_note_that_outlives_its_end_under_a_midi_process_that_hangs_is_ended(stage):
    stage.play(0.03, 60, duration_s=0.4)
    stage.play(0.03, 67, duration_s=3.0)
    assert stage.wait(lambda: stage.notes() == [(True, 60), (True, 67)])
    os.kill(stage.processes["midi"].pid, signal.SIGSTOP)
    try:
        assert stage.wait(lambda: (False, 60) in stage.notes())
        assert stage.session.counters("standby")["overdue"] == 1
        assert (False, 67) not in stage.notes(), "it is not due to end"
        assert stage.session.counters("standby")["releases"] == 0
    finally:
        os.kill(stage.processes["midi"].pid, signal.SIGCONT)
    assert stage.wait(lambda: stage.notes()[2:] == [(False, 60), (False, 67)], 10.0)


def test_a_stale_table_is_released_by_the_next_midi_process(stage):
    stage.play(0.03, 61, duration_s=60.0)
    assert stage.wait(lambda: stage.notes() == [(True, 61)])
    stage.processes["standby"].kill()
    stage.processes["midi"].kill()
    stage.processes["midi"].wait()
    stage.session.role("midi")[RESTARTS] += 1
    stage.start("midi")
    assert stage.wait(lambda: stage.notes() == [(True, 61), (False, 61)])


def test_death_of_jackd_ends_the_midi_role_with_a_line(midi_stage, own_jackd, tmp_path):
    with own_jackd() as (name, server):
        stage = midi_stage(tmp_path, Midi(api="jack"), {"JACK_DEFAULT_SERVER": name, "JACK_NO_START_SERVER": "1"})
        process = stage.start("midi")
        server.kill()
        _, complaint = process.communicate(timeout=30.0)
        assert process.returncode == 1, complaint
        assert "JACK server" in complaint
