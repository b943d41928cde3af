"""Ways to play in a live server: keys through JACK, modes over the wire, notes as the log has them; and all of it again in a replay."""

from __future__ import annotations

import math
import time

from rtserver.events import Late, MidiIn, Note, Param
from rtserver.recording.log import from_line
from rtserver.reenact import replay
from rtserver.wire.client import Client

RATE = 48000
TEMPO = 150.0
QUARTER = RATE * 60 / TEMPO
SETTINGS = {
    "name": "rtmodes",
    "audio": {"block_size": 1024, "spare_blocks": 4, "device": "system"},
    "generation": {"mode": "call_response", "start": "first_note", "tempo_bpm": TEMPO, "scale": "C major", "seed": 3, "grid": 6},
}
CALL = (60, 64, 67, 72)


def keys(events):
    return [e for e in events if isinstance(e, MidiIn) and e.data[0] & 0xE0 == 0x80]


def perform(server) -> None:
    """A call of four quarters, time for the answer, then `free`."""
    import rtmidi

    port = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name="rtmodes-keys")
    client = Client(server.config.wire.control)
    try:
        port.open_port(next(i for i, name in enumerate(port.get_ports()) if "rtmodes" in name and "midi_in" in name))
        for pitch in CALL:
            port.send_message([0x90, pitch, 90])
            time.sleep(0.9 * 60 / TEMPO)
            port.send_message([0x80, pitch, 0])
            time.sleep(0.1 * 60 / TEMPO)
        time.sleep(14 * 60 / TEMPO)
        client.ask("set", name="generation.mode", value="free")
        assert server.wait(lambda: sum(isinstance(e, Note) for e in server.events()) > 40, 30.0)
    finally:
        client.close()
        port.close_port()
        port.delete()


def test_a_call_is_answered_and_another_mode_begins_at_the_bar_line(jack_server, live_server, tmp_path):
    server = live_server(SETTINGS)
    perform(server)
    server.close()
    log = server.log()
    events, notes = log.events, [e for e in log.events if isinstance(e, Note)]
    first = keys(events)[0].frame

    def quarter(frame: float) -> float:
        return (frame - first) / QUARTER

    sixteenths = [4 * quarter(note.frame) for note in notes]
    assert max(abs(q - round(q)) for q in sixteenths) < 0.02, "the clock began with the first key"
    assert [e for e in events if isinstance(e, Late) and e.what == f"midi_in {keys(events)[0].data.hex()}" and e.frame == first]

    asked = next(e for e in events if isinstance(e, Param))
    line = 4.0 * math.ceil(quarter(asked.frame) / 4.0)
    answer = [note for note in notes if quarter(note.frame) < line - 0.02]
    begins, ends = min(quarter(n.frame) for n in answer), max(quarter(n.frame + n.duration) for n in answer)
    assert len(answer) > 3
    assert begins >= quarter(keys(events)[-1].frame) + 0.9, "after a quarter of silence"
    assert ends <= 4.0 * math.ceil(begins / 4.0) + 4.01, "as long as the call, to the bar line"
    assert quarter(asked.frame) > ends, "there was time for all of it"
    assert line - 0.02 <= min(quarter(n.frame) for n in notes if n not in answer) < line + 4.0

    assert log.audio is not None
    replay(log.audio, tmp_path / "again", log)
    again = [event for _, event in map(from_line, (tmp_path / "again" / "events.jsonl").read_bytes().splitlines())]
    assert [e for e in again if isinstance(e, Note)] == notes
