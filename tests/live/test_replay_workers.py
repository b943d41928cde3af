"""A recorded session is lived through again: the same positions, the same notes, though MIDI, parameters, seeks and deaths came between."""

import time

import pytest

from rtserver.audio import file as audio_file
from rtserver.demo import RECORDING, SCORE
from rtserver.events import Entry, Late, MidiIn, Note, Param, Position
from rtserver.recording.log import from_line
from rtserver.reenact import replay
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
    "click": {"enabled": True},
}


def meddle(server, port, deaths) -> None:
    """Play keys, change parameters, jump in the score, kill workers, for as long as the tape runs."""
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
            if k in deaths:
                server.kill(deaths[k])
            time.sleep(0.4)
            port.send_message([0x80, 48 + 5 * k % 36, 0])
            time.sleep(0.1)
    finally:
        client.close()


def by_role(events):
    """Each role's in its order; between roles the order in a log is chance."""
    return sorted(events, key=lambda e: getattr(e, "role", ""))


@pytest.mark.parametrize("deaths", [{}, {6: "performer", 14: "follower", 18: "performer"}], ids=["whole", "killed"])
def test_a_replay_has_the_positions_and_the_notes_of_the_session(jack_server, live_server, tmp_path, deaths):
    import rtmidi

    signal = audio_file.read(RECORDING)[0].mean(axis=0, keepdims=True)[:, : SECONDS * RATE]
    server = live_server(SETTINGS)
    port = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name="rtagain-keys")
    try:
        ours = next(i for i, name in enumerate(port.get_ports()) if "rtagain" in name and "midi_in" in name)
        port.open_port(ours)
        tape = server.play(signal, channels=1)
        meddle(server, port, deaths)
        tape.result()
        assert server.wait(lambda: all(server.restarted(role) for role in deaths.values()), 30.0)
    finally:
        port.close_port()
        port.delete()
    server.close()

    log = server.log()
    assert log.caveats == []
    assert log.header.frame == 0
    assert sum(isinstance(e, Entry) for e in log.events) == 2 + len(deaths)
    assert sum(isinstance(e, MidiIn) for e in log.events) > 40
    assert sum(isinstance(e, Param) for e in log.events) > 8
    assert log.audio is not None
    replay(log.audio, tmp_path / "again", log)
    replayed = [event for _, event in map(from_line, (tmp_path / "again" / "events.jsonl").read_bytes().splitlines())]
    for kind, least in ((Position, 300), (Note, 10), (Late, 0)):
        live, again = (by_role([e for e in said if isinstance(e, kind)]) for said in (log.events, replayed))
        assert len(live) >= least
        different = next(((a, b) for a, b in zip(live, again, strict=False) if a != b), None)
        assert different is None, f"first difference: live {different[0]}, replayed {different[1]}" if different else ""
        assert len(live) == len(again)
