"""Floods of MIDI, in and out: the role lives, counts what it refuses, keeps its memory, and hangs no note."""

from __future__ import annotations

import time
from pathlib import Path

import machine
import pytest

from rtserver.config import Midi
from rtserver.events import MidiIn, Note
from rtserver.shared.session import BEAT_NS

RATE, FOR_S = 10_000, 3.0  # messages a second


@pytest.fixture
def stage(jack_server, midi_stage, tmp_path):
    stage = midi_stage(tmp_path, Midi(api="jack", connect=["rtstest-synth"], connect_input=["rtstest-flood"]))
    stage.listen()
    stage.run_clock()
    stage.start("midi")
    yield stage
    stage.close()


def memory(pid: int) -> int:
    """Resident bytes of a process and its children."""
    pids = [pid, *(int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    return sum(int(Path(f"/proc/{p}/statm").read_text().split()[1]) * 4096 for p in pids)


def longest_silence(stage, since_ns: int) -> int:
    return time.monotonic_ns() - max(int(stage.session.role("midi")[BEAT_NS]), since_ns)


def test_ten_thousand_messages_a_second_come_in(stage):
    import rtmidi

    flood = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name="rtstest-flood")
    flood.open_virtual_port("out")
    pid, session = stage.processes["midi"].pid, stage.session

    def heard() -> bool:
        flood.send_message(b"\xb0\x01\x01")
        return session.counters("midi")["messages_in"] > 0

    try:
        assert stage.wait(heard), "the patchbay connects it"
        before = session.counters("midi")
        memory_before = memory(pid)
        sent = events = pedals = 0
        silence_ns = 0
        started_s = time.monotonic()
        while (elapsed_s := time.monotonic() - started_s) < FOR_S:
            while sent < elapsed_s * RATE:
                flood.send_message((0xB0, sent % 120, sent % 128))
                sent += 1
            if pedals < elapsed_s * 4:  # a note now and then, on time or counted as late
                stage.play(0.05, 60 + pedals % 12, duration_s=0.03)
                pedals += 1
            events += sum(isinstance(e, MidiIn) for e in session.receive("gateway"))
            silence_ns = max(silence_ns, longest_silence(stage, round(started_s * 1e9)))
            time.sleep(0.002)

        def counted() -> dict[str, int]:
            now = session.counters("midi")
            return {name: now[name] - before[name] for name in now}

        assert stage.wait(lambda: counted()["notes_on"] + counted()["dropped_notes"] == pedals)
        time.sleep(0.5)
        events += sum(isinstance(e, MidiIn) for e in session.receive("gateway"))
        taken, refused = counted()["messages_in"], counted()["refused_in"]
        assert stage.processes["midi"].poll() is None
        assert silence_ns * 1e-9 < 1.0 + machine.watch().total_s(started_s), "the heart beats"
        assert refused > 0 and taken > 0
        assert taken + refused <= sent + 2000, "nothing is made up"
        assert taken + refused > 0.5 * sent, "nearly all is accounted for: JACK itself may lose a period's"
        assert taken < 2000 * (time.monotonic() - started_s) + 500, "no more than may pass"
        assert memory(pid) - memory_before < 20e6
        assert stage.wait(lambda: stage.notes().count((True, 60)) == stage.notes().count((False, 60)))
        ons = sum(on for on, _ in stage.notes())
        assert stage.wait(lambda: 2 * sum(on for on, _ in stage.notes()) == len(stage.notes())), "every note has ended"
        assert ons <= counted()["notes_on"]
    finally:
        flood.close_port()
        flood.delete()


def keys_down(messages: list[bytes]) -> set[tuple[int, int]]:
    """(channel, pitch) of the keys that are down after these messages. A note-on that JACK lost leaves none."""
    down: set[tuple[int, int]] = set()
    for message in messages:
        key = message[0] & 0x0F, message[1]
        if message[0] & 0xF0 == 0x90 and message[2]:
            down.add(key)
        elif message[0] & 0xE0 == 0x80:
            down.discard(key)
    return down


def test_ten_thousand_notes_a_second_go_out(stage):
    session = stage.session
    pid = stage.processes["midi"].pid
    memory_before = memory(pid)
    asked = full = 0
    started_s = time.monotonic()
    while (elapsed_s := time.monotonic() - started_s) < 2.0:
        while asked + full < elapsed_s * RATE:
            frame = round(session.clock.frame_at(time.monotonic() + 0.02))
            note = Note(frame, frame, asked + full, 30 + (asked + full) % 60, 80, 480, (asked + full) % 16)
            if session.emit("performer", note, "midi"):
                asked += 1
            else:
                full += 1  # the ring counts it
        session.receive("gateway")
        time.sleep(0.002)
    assert int(session.ring("performer", "midi").dropped[0]) == full

    def accounted() -> bool:
        session.receive("gateway")
        counters = session.counters("midi")
        return counters["notes_on"] + counters["dropped_notes"] == asked and counters["notes_off"] == counters["notes_on"]

    assert stage.wait(accounted, 30.0), (asked, session.counters("midi"))
    counters = session.counters("midi")
    assert counters["dropped_notes"] > 0
    assert counters["notes_on"] <= 200 + 1000 * (time.monotonic() - started_s)
    assert stage.processes["midi"].poll() is None
    assert memory(pid) - memory_before < 20e6
    assert stage.wait(lambda: not keys_down(stage.messages())), "no note hangs"
