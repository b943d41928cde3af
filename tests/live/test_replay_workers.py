"""A recorded session is lived through again: the same positions, the same notes, though MIDI, parameters and seeks came in between."""

import time

import numpy as np

from rtserver.audio import file as audio_file
from rtserver.demo import RECORDING, SCORE
from rtserver.events import Entry, MidiIn, Note, Param, Position
from rtserver.render import Stepper
from rtserver.replay import Feed
from rtserver.wire.client import Client

RATE = 48000
PERIOD = 1024
SECONDS = 14
SETTINGS = {
    "name": "rtagain",
    "audio": {"block_size": PERIOD, "spare_blocks": 2, "device": "system"},
    "outputs": {"harmonic": {"source": "harmonic", "channels": [1], "on_late": "dry"}},
    "score": {"file": str(SCORE)},
    "generation": {"scale": "G major", "seed": 7, "grid": 6},
}


def meddle(server, port) -> None:
    """Play keys, change parameters, jump in the score, for as long as the tape runs."""
    client = Client(server.config.wire.control)
    try:
        for k in range(SECONDS * 2 - 4):
            port.send_message([0x90, 48 + 5 * k % 36, 80])
            if k % 4 == 1:
                client.ask("set", name="generation.temperature", value=0.5 + 0.1 * (k % 7))
            if k % 6 == 5:
                client.ask("set", name="generation.mode", value=("accompany", "continue")[k // 6 % 2])
            if k in (8, 17):
                client.ask("seek", quarter=2.0 * k)
            if k == 13:
                client.ask("panic")
            time.sleep(0.4)
            port.send_message([0x80, 48 + 5 * k % 36, 0])
            time.sleep(0.1)
    finally:
        client.close()


def again(log, folder):
    """Every event of the workers, in step with the recorded input."""
    assert log.audio is not None
    signal = audio_file.read(log.audio)[0]
    stepper = Stepper(log.config, folder)
    feed = Feed(stepper.session, log, stepper.workers)
    size, events = stepper.plan.block_size, []
    out = np.zeros((size, stepper.plan.device_out), np.float32)
    for start in range(0, signal.shape[1] // size * size, size):
        feed(start + size)
        stepper.exchange(np.ascontiguousarray(signal[: stepper.plan.device_in, start : start + size].T), out)
        stepper.work()
        events += stepper.events()
    return events


def test_a_replay_has_the_positions_and_the_notes_of_the_session(jack_server, live_server, tmp_path):
    import rtmidi

    signal = audio_file.read(RECORDING)[0].mean(axis=0, keepdims=True)[:, : SECONDS * RATE]
    server = live_server(SETTINGS)
    port = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name="rtagain-keys")
    try:
        ours = next(i for i, name in enumerate(port.get_ports()) if "rtagain" in name and "midi_in" in name)
        port.open_port(ours)
        tape = server.play(signal, channels=1)
        meddle(server, port)
        tape.result()
    finally:
        port.close_port()
        port.delete()
    server.close()

    log = server.log()
    assert log.caveats == []
    assert log.header.frame == 0
    assert sum(isinstance(e, Entry) for e in log.events) == 2
    assert sum(isinstance(e, MidiIn) for e in log.events) > 40
    assert sum(isinstance(e, Param) for e in log.events) > 8
    folder = tmp_path / "again"
    folder.mkdir()
    replayed = again(log, folder)
    for kind, least in ((Position, 500), (Note, 10)):
        live = [e for e in log.events if isinstance(e, kind)]
        assert len(live) > least
        same = [e for e in replayed if isinstance(e, kind)][: len(live)]
        different = next(((a, b) for a, b in zip(live, same, strict=True) if a != b), None)
        assert different is None, f"first difference: live {different[0]}, replayed {different[1]}" if different else ""
