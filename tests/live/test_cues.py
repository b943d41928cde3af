"""Cues in a whole server: each fires once where the music is, does what it asks for, and does so again in a replay."""

from rtserver.audio import file as audio_file
from rtserver.config import Cue as Written
from rtserver.config import Cues, parse
from rtserver.demo import RECORDING, SCORE
from rtserver.events import Bar, Change, Command, Cue, Param, Position, Refused, Role, State
from rtserver.following.score import load_score
from rtserver.recording.log import from_line
from rtserver.reenact import replay
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
TOLD = (Position, Bar, State, Cue, Refused)


def test_cues_fire_once_each_and_again_in_a_replay(jack_server, live_server, tmp_path):
    signal = audio_file.read(RECORDING)[0].mean(axis=0, keepdims=True)[:, : SECONDS * RATE]
    server = live_server(SETTINGS)
    client = Client(server.config.wire.control)
    try:
        tape = server.play(signal, channels=1)
        assert server.wait(lambda: any(isinstance(e, Cue) and e.name == "last" for e in server.events()), 30.0)
        client.ask("loop", bars="bar 4 to bar 5")
        client.ask("cue", action="arm", name="silent")
        client.ask("tap", nearest="beat")
        client.ask("untap")
        client.ask("cue", action="back")
        client.ask("cue", action="go")
        tape.result()
    finally:
        client.close()
    server.close()

    log = server.log()
    said = log.events
    fired = [(e.name, e.how) for e in said if isinstance(e, Cue)]
    in_time = [name for name, how in fired if how == "place"]
    assert in_time[:5] == ["second", "soft", "bell", "calm", "last"]
    assert len(in_time) == len(set(in_time))
    assert [name for name, how in fired if how == "back"] == ["last"]
    assert ("last", "hand") in fired
    frames = {e.name: e.frame for e in said if isinstance(e, Cue) and e.how == "place"}
    asked = {e.name: e for e in said if isinstance(e, Param)}
    assert asked["outputs.harmonic.gain_db"].frame == frames["soft"]
    assert asked["generation.temperature"].frame == frames["calm"]
    assert any(isinstance(e, Change) and e.output == "harmonic" and e.value < 0.3 for e in said), "the mixer has turned it down"
    assert {"loop", "tap", "untap", "cue"} <= {e.name for e in said if isinstance(e, Command)}
    assert not any(isinstance(e, Role) and e.state == "down" for e in said)
    score = load_score(SCORE)
    for event in said:
        if isinstance(event, Bar):
            assert event.quarter >= score.quarter_of_bar(event.bar) - 1e-6

    assert log.caveats == []
    assert log.audio is not None
    replay(log.audio, tmp_path / "again", log)
    replayed = [event for _, event in map(from_line, (tmp_path / "again" / "events.jsonl").read_bytes().splitlines())]
    live, again = ([e for e in events if isinstance(e, TOLD)] for events in (said, replayed))
    assert len([e for e in live if isinstance(e, Position)]) > 300
    different = next(((a, b) for a, b in zip(live, again, strict=False) if a != b), None)
    assert different is None, f"first difference: live {different[0]}, replayed {different[1]}" if different else ""
    assert len(live) == len(again)


def test_the_cues_here_are_valid():
    assert parse(SETTINGS).cues == Cues(cue=[Written(**cue) for cue in CUES])
