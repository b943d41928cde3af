"""The midi role as a process of its own, heard through JACK."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import machine
import pytest

from rtserver.config import Midi
from rtserver.events import MidiIn, NoteOff, NoteOn

SILENCE = {bytes((0xB0 | channel, control, 0)) for channel in range(16) for control in (64, 120, 123)}


@pytest.fixture(scope="module")
def stage(jack_server, midi_stage, tmp_path_factory):
    stage = midi_stage(tmp_path_factory.mktemp("run"), Midi(api="jack", connect=["rtstest-synth"], program=5))
    stage.listen()
    stage.run_clock()
    stage.start("midi")
    yield stage
    stage.close()


@pytest.fixture
def quiet(stage):
    """The stage with nothing sounding and nothing heard yet."""
    stage.wait(lambda: not stage.session.block["notes.ports"].any())  # by then every note-off has been sent three times
    time.sleep(0.05)  # two periods, for what is on its way
    stage.session.receive("gateway")
    stage.heard.clear()
    return stage


def test_program_is_sent_to_what_is_connected(stage):
    assert stage.wait(lambda: bytes((0xC0, 5)) in stage.messages()), stage.messages()


def test_notes_come_in_order_each_with_its_end(quiet):
    for i in range(8):
        quiet.play(0.1 + 0.05 * i, 60 + i, duration_s=0.03)
    assert quiet.wait(lambda: len(quiet.notes()) >= 16)
    assert quiet.notes() == [(on, 60 + i) for i in range(8) for on in (True, False)]


def test_notes_come_after_their_due_time_and_without_drift(quiet):
    """Sleeps relative to the last note would add up, and after 40 of them all notes would be too late: dropped."""
    before = quiet.session.counters("midi")["dropped_notes"]
    for i in range(40):
        quiet.play(0.1 + 0.025 * i, 40 + i, duration_s=0.01)

    def dropped() -> int:
        return quiet.session.counters("midi")["dropped_notes"] - before

    assert quiet.wait(lambda: len(quiet.notes()) + 2 * dropped() >= 80), (len(quiet.notes()), dropped())
    sent = [e for e in quiet.session.receive("gateway") if isinstance(e, NoteOn)]
    assert len(sent) + dropped() == 40
    assert [e.pitch for e in sent] == sorted(e.pitch for e in sent)
    assert all(e.sent_ns >= e.due_ns for e in sent), "never early"
    assert dropped() < 20, "a busy machine drops a few, drift drops the whole end"


def test_gateway_learns_of_every_note_on_and_off(quiet):
    note = quiet.play(0.05, 64, duration_s=0.05)
    events = []
    assert quiet.wait(lambda: len(events) + len(events.extend(quiet.session.receive("gateway")) or events) >= 4)
    on, off = events
    assert isinstance(on, NoteOn) and isinstance(off, NoteOff)
    assert (on.frame, on.note_id) == (note.frame, note.note_id)
    assert (off.frame, off.note_id) == (note.frame + note.duration, note.note_id)


def test_table_says_when_the_sounding_note_ends(quiet):
    note = quiet.play(0.03, 50, duration_s=0.4, channel=3)
    cell = quiet.session.block["notes"][3]
    assert quiet.wait(lambda: cell[50] > 0)
    assert abs(cell[50] * 1e-9 - quiet.session.clock.time_at(note.frame + note.duration)) < 1e-3


def test_a_pitch_that_sounds_is_let_go_before_it_sounds_again(quiet):
    quiet.play(0.05, 60, duration_s=0.3)
    quiet.play(0.20, 60, duration_s=0.5)
    assert quiet.wait(lambda: len(quiet.notes()) >= 4)
    assert quiet.notes() == [(True, 60), (False, 60), (True, 60), (False, 60)]
    times_ns = [at for at, m in quiet.heard]
    assert times_ns[3] - times_ns[2] > 0.4e9, "the first note's end must not cut the second"


def test_a_late_note_is_left_out_whole(quiet):
    before = quiet.session.counters("midi")["dropped_notes"]
    quiet.play(-0.5, 61, duration_s=0.6)
    quiet.play(0.2, 62, duration_s=0.02)
    assert quiet.wait(lambda: len(quiet.notes()) >= 2)
    assert quiet.notes() == [(True, 62), (False, 62)]
    assert quiet.session.counters("midi")["dropped_notes"] == before + 1


def test_panic_ends_what_sounds_and_forgets_what_waits(quiet):
    quiet.play(0.03, 60, duration_s=30.0)
    quiet.play(0.03, 67, duration_s=30.0, channel=9)
    quiet.play(1.0, 72, duration_s=1.0)
    assert quiet.wait(lambda: len(quiet.notes()) == 2)
    quiet.command("panic")
    assert quiet.wait(lambda: set(quiet.messages()) >= SILENCE)
    assert {bytes((0x80, 60, 0)), bytes((0x89, 67, 0))} <= set(quiet.messages())
    time.sleep(0.9)
    assert (True, 72) not in quiet.notes()
    assert quiet.session.counters("midi")["panics"] == 1


def test_a_note_by_command(quiet):
    quiet.command("note", "69 100 0.05 2")
    assert quiet.wait(lambda: len(quiet.notes()) >= 2)
    assert quiet.messages()[:2] == [bytes((0x91, 69, 100)), bytes((0x81, 69, 0))]


def test_a_malformed_note_command_is_counted_not_fatal(quiet):
    before = quiet.session.counters("midi")["dropped_notes"]
    for value in ("", "sixty 100 1", "200 100 1", "60 100 nan", "60 100 -1", "60 100 1 17"):
        quiet.command("note", value)
    assert quiet.wait(lambda: quiet.session.counters("midi")["dropped_notes"] == before + 6)
    assert quiet.notes() == []


def test_midi_in_is_stamped_on_arrival(quiet):
    import rtmidi

    keyboard = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name="rtstest-keyboard")
    keyboard.open_virtual_port("out")
    subprocess.run(["jack_connect", "rtstest-keyboard:out", "rtstest-midi-in:midi_in"], check=True, capture_output=True)
    came = quiet.session.counters("midi")["messages_in"]
    assert quiet.wait(lambda: keyboard.send_message(b"\xa0\x00\x00") or quiet.session.counters("midi")["messages_in"] > came)
    time.sleep(0.1)  # for what is on its way
    for role in ("gateway", "performer"):
        quiet.session.receive(role)
    sent_frames, began_s = [], time.monotonic()
    for i in range(5):
        sent_frames.append(quiet.session.clock.frame_at(time.monotonic()))
        keyboard.send_message([0x90, 60 + i, 64])
        time.sleep(0.06)
    events: list[MidiIn] = []
    quiet.wait(lambda: events.extend(e for e in quiet.session.receive("gateway") if isinstance(e, MidiIn)) or len(events) >= 5, 2.0)
    keyboard.close_port()
    keyboard.delete()
    assert [e.data for e in events] == [bytes((0x90, 60 + i, 64)) for i in range(5)]
    delays_s = [(e.frame - sent) / 48000 for e, sent in zip(events, sent_frames, strict=True)]
    late_s = 0.06 + machine.watch().total_s(began_s)  # a period of JACK is 0.021 s
    assert all(-0.002 < d < late_s for d in delays_s), delays_s
    heard_by_performer = [e for e in quiet.session.receive("performer") if isinstance(e, MidiIn)]
    assert heard_by_performer == events


def test_sigterm_releases_every_note_and_silences_all_channels(jack_server, midi_stage, tmp_path):
    stage = midi_stage(tmp_path, Midi(api="jack", connect=["rtstest-second"]))
    try:
        stage.listen("rtstest-second")
        stage.run_clock()
        process = stage.start("midi")
        for pitch in (48, 55, 64):
            stage.play(0.03, pitch, duration_s=60.0)
        assert stage.wait(lambda: len(stage.notes()) == 3)
        asked_s = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(30.0) == 0
        assert time.monotonic() - asked_s < 1.0 + machine.watch().total_s(asked_s)
        assert stage.wait(lambda: set(stage.messages()) >= SILENCE), stage.messages()
        assert sorted(stage.notes()[3:]) == [(False, 48), (False, 55), (False, 64)]
        assert not stage.session.block["notes"].any()
    finally:
        stage.close()
