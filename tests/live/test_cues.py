"""Cues in a whole server: each fires once where the music is, does what it asks for, and by hand."""

from rtserver.audio import file as audio_file
from rtserver.config import Cue as Written
from rtserver.config import Cues, parse
from rtserver.demo import RECORDING, SCORE
from rtserver.events import Bar, Change, Command, Cue, Param
from rtserver.following.score import load_score
from rtserver.wire.client import Client

RATE, PERIOD, SECONDS = 48000, 1024, 14
CUES = [
    {"name": "second", "at": "bar 2"},
    {"name": "soft", "at": "bar 3", "lead_s": 0.1, "parameter": "outputs.harmonic.gain_db", "value": -12.0},
    {"name": "bell", "at": "bar 3 beat 2", "lead_s": 0.2, "command": "note", "value": "84 100 0.2 1"},
    {"name": "calm", "at": "bar 4", "parameter": "generation.temperature", "value": 0.5},
    {"name": "silent", "at": "bar 4 beat 2", "armed": False},
    {"name": "last", "at": "bar 5"},
]
SETTINGS = {
    "name": "rtcues",
    "audio": {"block_size": PERIOD, "spare_blocks": 2, "device": "system"},
    "outputs": {"harmonic": {"source": "harmonic", "channels": [1], "on_late": "dry"}},
    "score": {"file": str(SCORE)},
    "cues": {"cue": CUES},
    "generation": {"scale": "G major", "seed": 7, "grid": 6},
    "midi": {"api": "null"},
}


def test_cues_fire_once_each_and_by_hand(jack_server, live_server):
    signal = audio_file.read(RECORDING)[0].mean(axis=0, keepdims=True)[:, : SECONDS * RATE]
    server = live_server(SETTINGS)
    client = Client(server.config.wire.control)
    try:
        tape = server.play(signal, channels=1)
        assert server.wait(lambda: any(isinstance(e, Cue) and e.name == "last" for e in server.events()), 30.0)
        client.ask("cue", action="back")
        client.ask("cue", action="go")
        client.ask("loop", bars="bar 4 to bar 5")
        client.ask("cue", action="arm", name="silent")
        client.ask("tap", nearest="beat")
        client.ask("untap")
        tape.result()
    finally:
        client.close()
    server.close()

    log = server.log()
    said = log.events
    fired = [(e.name, e.how) for e in said if isinstance(e, Cue)]
    in_time = [name for name, how in fired if how == "place"]
    passed = [name for name, how in fired if how in ("place", "dropped")]  # dropped: the machine stood still, and input was lost
    assert passed[:5] == ["second", "soft", "bell", "calm", "last"]
    assert len(in_time) == len(set(in_time))
    assert [name for name, how in fired if how == "back"] == ["last"]
    assert ("last", "hand") in fired
    frames = {e.name: e.frame for e in said if isinstance(e, Cue) and e.how == "place"}
    asked = {e.name: e for e in said if isinstance(e, Param)}
    for cue, parameter in (("soft", "outputs.harmonic.gain_db"), ("calm", "generation.temperature")):
        if cue in frames:
            assert asked[parameter].frame == frames[cue]
    turned_down = any(isinstance(e, Change) and e.output == "harmonic" and e.value < 0.3 for e in said)
    assert turned_down == ("soft" in frames)
    assert {"loop", "tap", "untap", "cue"} <= {e.name for e in said if isinstance(e, Command)}
    score = load_score(SCORE)
    for event in said:
        if isinstance(event, Bar):
            assert event.quarter >= score.quarter_of_bar(event.bar) - 1e-6


def test_the_cues_here_are_valid():
    assert parse(SETTINGS).cues == Cues(cue=[Written(**cue) for cue in CUES])
