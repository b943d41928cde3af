"""A set list of followed songs with cues that fire, are taken back, armed and called by hand: recorded, it happens again."""

import numpy as np

from rtserver.audio import file as audio_file
from rtserver.demo import RECORDING, SCORE
from rtserver.demo.again import again
from rtserver.events import Bar, Cue, Note, Param, Position, Refused, Song, State, Tempo
from rtserver.recording.log import from_line
from rtserver.replay import Log
from rtserver.wire.client import Client

RATE, PERIOD, SECONDS = 48000, 256, 30
SETTINGS = {
    "name": "rtcuelog",
    "audio": {"block_size": PERIOD, "spare_blocks": 1, "device": "system", "output_channels": 2},
    "score": {"file": str(SCORE)},
    "outputs": {
        "harmonic": {"source": "harmonic", "channels": [1], "on_late": "dry"},
        "percussive": {"source": "percussive", "channels": [2], "on_late": "mute"},
    },
    "midi": {"api": "null"},
}
FIRST = {
    "cues": {
        "cue": [
            {"name": "second", "at": "bar 2"},
            {"name": "soft", "at": "bar 3", "lead_s": 0.1, "parameter": "outputs.harmonic.gain_db", "value": -12.0},
            {"name": "bell", "at": "bar 3 beat 2", "lead_s": 0.2, "command": "note", "value": "84 100 0.2 1"},
            {"name": "calm", "at": "bar 4", "parameter": "generation.temperature", "value": 0.5},
            {"name": "silent", "at": "bar 7", "armed": False},
            {"name": "later", "at": "bar 20"},
        ]
    },
    "generation": {"scale": "G major", "seed": 7, "grid": 6},
}
SECOND = {
    "cues": {
        "cue": [
            {"name": "back to one", "at": "bar 12", "parameter": "outputs.percussive.mute", "value": True},
            {"name": "toll", "at": "bar 13", "lead_s": 0.1, "command": "note", "value": "60 90 0.3 2", "again": True},
            {"name": "hand", "at": "bar 22", "parameter": "generation.mode", "value": "continue"},
        ]
    },
    "generation": {"seed": 9, "grid": 6, "channel": 2},
}


def play(server):
    client = Client(server.config.wire.control)

    def pause(seconds):
        server.wait(lambda: False, seconds)

    def fired(name):
        return any(isinstance(e, Cue) and e.name == name and e.how in ("place", "dropped") for e in server.events())

    try:
        assert server.wait(lambda: server.supervisor.decks.idle.state.value == "ready", 60.0)
        signal = audio_file.read(RECORDING)[0].mean(axis=0, keepdims=True)[:, : SECONDS * RATE]
        tape = server.play(signal, channels=2)
        assert server.wait(lambda: fired("calm"), 30.0)
        client.ask("cue", action="back")
        client.ask("cue", action="arm", name="silent")
        client.ask("cue", action="go")
        client.ask("cue", action="disarm", name="later")
        client.ask("note", pitch=76, duration_s=0.2)
        client.ask("tap", nearest="beat")
        client.ask("untap")
        pause(0.5)
        before = server.supervisor.decks.playing
        client.ask("song", name="next")
        assert server.wait(lambda: server.supervisor.decks.playing is not before, 60.0)
        began = server.session.frame
        assert server.wait(lambda: server.session.frame > began + RATE, 20.0)
        client.ask("start_at", at="bar 9")  # where the recording has come by now
        client.ask("cue", action="arm", name="hand")
        client.ask("loop", bars="bar 12 to bar 13")
        pause(4.0)
        client.ask("loop", bars="off")
        client.ask("cue", action="go")
        client.ask("cue", action="back")
        client.ask("cue", action="back")
        pause(1.0)
        client.ask("cue", action="go")
        pause(1.0)
        tape.process.kill()
        tape.process.communicate()
    finally:
        client.close()
    server.close()


def test_cues_of_a_set_list_happen_again(own_jackd_of, live_server, tmp_path):
    with own_jackd_of(PERIOD):
        play(live_server(SETTINGS, {"first": FIRST, "second": SECOND}))
    (folder,) = (tmp_path / "record").iterdir()
    log = Log.read(folder)
    assert [(e.name, e.deck) for e in log.events if isinstance(e, Song) and e.state == "playing"] == [("second", 1)]
    hows = {e.how for e in log.events if isinstance(e, Cue)}
    assert {"place", "back", "hand"} <= hows
    assert log.caveats == []

    result = again(folder, tmp_path / "again")
    assert result.n_different == 0
    assert result.n_same_notes == result.n_notes > 0
    said = list(zip(log.decks, log.events, strict=True))
    lines = [from_line(line) for line in (tmp_path / "again" / "events.jsonl").read_bytes().splitlines()]
    cued = {e.name for e in log.events if isinstance(e, Cue)}
    for kind in (Position, Bar, Tempo, State, Cue, Refused):
        live, replayed = ([(deck, e) for deck, e in events if isinstance(e, kind)] for events in (said, lines))
        n = min(len(live), len(replayed))
        assert n >= 0.95 * max(len(live), len(replayed)), f"{kind.__name__}: {len(live)} live, {len(replayed)} again"
        first = next((k for k in range(n) if live[k] != replayed[k]), None)
        assert first is None, f"{kind.__name__} {first} of {n}: {live[first]} live, {replayed[first]} again"
    bells = [(deck, e) for deck, e in said if isinstance(e, Note) and e.part == "cue"]
    assert set(bells) <= {(deck, e) for deck, e in lines if isinstance(e, Note)}
    asked = {"outputs.harmonic.gain_db", "generation.temperature", "outputs.percussive.mute", "generation.mode"}
    assert all(e.name in asked for _, e in lines if isinstance(e, Param))
    assert {"second", "soft"} <= cued
    played, _ = audio_file.read(folder / "played.wav")
    assert (np.abs(played).max(axis=1) > 0.01).all(), "there was something to hear on every channel"
