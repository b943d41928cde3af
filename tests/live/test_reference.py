"""A server whose follower compares with what FluidSynth made of the score; the role that takes over after a kill finds it as well."""

from __future__ import annotations

from rtserver.audio import file as audio_file
from rtserver.demo import RECORDING, SCORE
from rtserver.events import Position
from rtserver.following.score import load_score
from tests.support.synthesiser import played

RATE, PERIOD, SECONDS = 48000, 1024, 14
SETTINGS = {
    "name": "rtreference",
    "audio": {"block_size": PERIOD, "spare_blocks": 2, "device": "system"},
    "outputs": {"harmonic": {"source": "harmonic", "channels": [1], "on_late": "dry"}},
    "score": {"file": str(SCORE)},
    "following": {"method": "arzt", "reference": "rendered"},
    "generation": {"enabled": False},
    "midi": {"api": "null"},
}


def test_a_rendered_reference_is_followed_live_and_by_the_heir(jack_server, live_server):
    played(load_score(SCORE))  # skips where there is no synthesiser
    signal = audio_file.read(RECORDING)[0].mean(axis=0, keepdims=True)[:, : SECONDS * RATE]
    server = live_server(SETTINGS)
    tape = server.play(signal, channels=1)

    def furthest() -> float:
        return max((e.quarter for e in server.events() if isinstance(e, Position)), default=0.0)

    assert server.wait(lambda: furthest() > 4.0, 30.0)
    server.kill("follower")
    assert server.wait(lambda: server.restarted("follower"), 30.0)
    tape.result()
    server.close()
    locked = [e for e in server.log().events if isinstance(e, Position) and e.state == "LOCKED"]
    assert len(locked) > 100
