"""What a keyboard should not do: bytes that are no MIDI, keys that never come up, floods, a pulled cable. The performer plays on."""

from __future__ import annotations

import os
import random
import signal
import time

import machine
import pytest
from faults import Stage, Trial, settings
from jackmidi import JackMidi

from rtserver.generation.modes import LATE_S

FLOOD = 2000  # messages a second: all that may pass


@pytest.fixture(scope="module")
def stage(jack_server, tmp_path_factory):
    midi = {"connect": ["rtodd-synth"], "connect_input": ["rtodd-keys"]}
    stage = Stage(tmp_path_factory.mktemp("s"), settings("rtodd", midi=midi))
    yield stage
    stage.close()


@pytest.fixture
def keyboard(stage):
    """A keyboard that is heard."""
    keyboard = JackMidi("rtodd-keys")
    before = counters(stage)["messages_in"]
    assert stage.wait(lambda: keyboard.send(b"\xa0\x00\x00") or counters(stage)["messages_in"] > before)
    yield keyboard
    keyboard.close()


def counters(stage) -> dict[str, int]:
    return stage.session.counters("midi")


def heard_again(stage, keyboard) -> bool:
    """Whether a message that is one gets through to a subscriber."""
    from_s = time.monotonic()
    probe = b"\xb0\x10\x2a"
    return stage.wait(lambda: keyboard.send(probe) or any(e["data"] == probe for e in stage.subscriber.since(from_s, "midi_in")))


def plays_on(stage, trial, n: int = 5) -> bool:
    """Whether the performer still plays: `n` notes since now."""
    from_s = time.monotonic()
    return stage.wait(lambda: len(stage.subscriber.since(from_s, "note_on")) >= n)


def unharmed(stage, trial) -> bool:
    return trial.told() == [] and trial.went_on() and trial.let_go()


def test_random_bytes(stage, keyboard, row):
    row.fault = "MIDI input: 3000 messages of 1 to 6 random bytes, running status and cut ones among them"
    chance = random.Random(4)
    refused = counters(stage)["refused_in"]
    with Trial(stage, 5.0, note_s=0.8) as trial:
        trial.strike(lambda: None)
        for _ in range(300):
            odd = [chance.randbytes(chance.randint(1, 6)) for _ in range(8)]
            keyboard.send(*odd, b"\x3c\x40", b"\x90\x3c")
            time.sleep(0.005)
        assert stage.wait(lambda: counters(stage)["refused_in"] - refused > 1500)
        assert heard_again(stage, keyboard)
        assert plays_on(stage, trial)
    row.take(trial)
    row.audio, row.learned = "yes", "`status`: refused_in"
    assert unharmed(stage, trial)
    assert all(max(e["data"][1:], default=0) < 0x80 for e in trial.events("midi_in") if e["data"][0] < 0xF0), "nobody is told of nonsense"


def test_a_system_exclusive_message_of_20_kb(stage, keyboard, row):
    row.fault = "MIDI input: a system exclusive message of 20 kB, twice"
    refused = counters(stage)["refused_in"]
    with Trial(stage, 3.0, note_s=0.8) as trial:
        trial.strike(lambda: keyboard.send(b"\xf0" + bytes(20_000) + b"\xf7"))
        keyboard.send(b"\xf0" + bytes(20_000) + b"\xf7")
        assert heard_again(stage, keyboard)
        assert plays_on(stage, trial)
    row.take(trial)
    row.audio, row.learned = "yes", "`status`: refused_in"
    assert unharmed(stage, trial)
    assert counters(stage)["refused_in"] > refused


def test_keys_that_never_come_up(stage, keyboard, row):
    row.fault = "MIDI input: note-ons without note-offs, all 128 keys, ten times"
    with Trial(stage, 4.0, note_s=0.8) as trial:
        trial.strike(lambda: None)
        for _ in range(10):
            keyboard.send(*(bytes((0x90, pitch, 100)) for pitch in range(128)))
            time.sleep(0.1)
        assert plays_on(stage, trial)
    row.take(trial)
    row.audio, row.learned = "yes", "`midi_in`, each"
    assert unharmed(stage, trial)
    assert stage.wait(lambda: stage.session.block["keys"].astype(bool).sum() == 128)
    keyboard.close()
    assert stage.wait(lambda: not stage.session.block["keys"].any()), "and come up when the cable is pulled"


def test_a_flood_while_the_performer_plays(stage, keyboard, row):
    """As fast as may pass, all of it notes: none of what the performer plays comes later for it than a note may."""
    row.fault = f"MIDI input: {FLOOD} notes a second for 4 s, while the performer plays"
    with Trial(stage, 8.0, note_s=0.8) as trial:
        before = counters(stage) | {"played": stage.session.counters("performer")["notes"]}
        trial.strike(lambda: None)
        began_s, sent = time.monotonic(), 0
        while (elapsed_s := time.monotonic() - began_s) < 4.0:
            n = round(elapsed_s * FLOOD) - sent
            messages = [bytes((0x90, 36 + (sent + i) // 2 % 48, 80 * (1 - (sent + i) % 2))) for i in range(n)]
            keyboard.send(*messages)
            sent += n
            time.sleep(0.01)
        stalled_s = machine.watch().total_s(began_s)
        ons = trial.events("note_on")
        assert plays_on(stage, trial)
    row.take(trial)
    row.audio, row.learned = "yes", "`status`: messages_in, refused_in; `late` events"
    now = counters(stage)
    latest_s = max(e["sent_ns"] - e["due_ns"] for e in ons) * 1e-9
    print(f"{len(ons)} notes during the flood, the latest {latest_s * 1e3:.1f} ms after it was due; {sent} messages sent,", now)
    assert unharmed(stage, trial)
    assert stage.session.counters("performer")["notes"] - before["played"] > 10, "it is not drowned"
    assert latest_s < LATE_S + stalled_s
    assert now["dropped_notes"] - before["dropped_notes"] == 0 or stalled_s > 0.02
    assert now["messages_in"] - before["messages_in"] > 0.5 * sent


def test_a_keyboard_pulled_with_keys_down(jack_server, make_stage, row):
    """Who waits for the player to let go would wait for ever."""
    row.fault = "MIDI input: the keyboard's port vanishes with keys down, while the performer waits for the player to end (`continue`)"
    generation = {"scale": "C major", "tempo_bpm": 200.0, "grid": 6, "mode": "continue"}
    midi = {"connect": ["rtpull-synth"], "connect_input": ["rtpull-keys"]}
    stage = make_stage(settings("rtpull", generation=generation, midi=midi))
    keyboard = JackMidi("rtpull-keys")
    assert stage.wait(lambda: keyboard.send(b"\xa0\x00\x00") or counters(stage)["messages_in"])
    with Trial(stage, 7.0, note_s=0.8) as trial:
        keyboard.send(b"\x90\x3c\x50", b"\x90\x40\x50", b"\x90\x43\x50")
        assert stage.wait(stage.session.block["keys"].any)
        stage.wait(lambda: False, 1.5)
        waits = stage.session.counters("performer")["notes"]
        assert waits == 0, "it waits while keys are down"
        trial.strike(lambda: os.kill(keyboard.pid, signal.SIGKILL))
        assert plays_on(stage, trial), "the keys have come up"
    keyboard.close()
    row.take(trial)
    row.audio, row.learned = "yes", "`midi_in`: the releases, in the keyboard's place; `status`: keys_let_go, links_lost"
    assert unharmed(stage, trial)
    assert {e["data"] for e in trial.events("midi_in")} >= {b"\x80\x3c\x00", b"\x80\x40\x00", b"\x80\x43\x00"}
