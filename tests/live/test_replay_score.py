"""A live session whose network is told the score: it gets there, inline and in the worker, and all of it happens again bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from separators import make

from rtserver.audio import file as audio_file
from rtserver.demo import RECORDING, SCORE
from rtserver.events import Param, Position, Resume, Setting
from rtserver.fastlane import RESET
from rtserver.reenact import replay
from rtserver.replay import Log
from rtserver.shared.session import Session
from rtserver.wire.client import Client

RATE, PERIOD = 48000, 256
STEMS = ("drums", "bass", "other")


def settings(model: Path, **separation: object) -> dict:
    return {
        "name": "rttold",
        "audio": {"block_size": PERIOD, "spare_blocks": 1, "device": "system"},
        "outputs": {stem: {"source": stem, "channels": [k + 1]} for k, stem in enumerate(STEMS)},
        "separation": {"preset": "stage", "model": str(model)} | separation,
        "score": {"file": str(SCORE)},
        "generation": {"enabled": False},
        "midi": {"api": "null"},
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): no model can be built to be loaded")
    return make(tmp_path / "model", "listening", heard=("features", "prior", "score"), gain=0.5)


def minuet(seconds: float) -> np.ndarray:
    return audio_file.read(RECORDING)[0].mean(axis=0, keepdims=True)[:, : round(seconds * RATE)]


def told(server) -> int:
    return server.session.counters("engine")["prompted_hops"]


def goes_on_being_told(server) -> bool:
    before = told(server)
    return server.wait(lambda: told(server) > before + 50, 20.0)


def end(server, tape) -> tuple[Path, Log]:
    server.close()
    tape.process.kill()
    tape.process.communicate()
    (folder,) = (server.folder / "record").iterdir()
    return folder, Log.read(folder)


def heard_and_replayed(folder: Path, log: Log, again: Path) -> tuple[np.ndarray, np.ndarray]:
    replay(folder / "input.wav", again, log)
    live, replayed = (audio_file.read(path / "played.wav")[0] for path in (folder, again))
    n = min(live.shape[1], replayed.shape[1])
    return live[:, :n], replayed[:, :n]


def test_a_session_that_is_told_the_score_happens_again_bit_for_bit(own_jackd_of, live_server, model, tmp_path):
    """Switched off and on, engine and follower killed, and reset; what was late is late again."""
    with own_jackd_of(PERIOD):
        server = live_server(settings(model))
        tape = server.play(minuet(30.0))

        def set_score(value: bool) -> None:
            now = server.session.frame
            server.session.emit("gateway", Param(now + RATE // 20, now, "inputs.main.score", value), "engine", "recorder")
            server.wait(lambda: False, 0.5)

        assert goes_on_being_told(server)
        set_score(False)
        quiet = told(server)
        server.wait(lambda: False, 0.2)
        assert told(server) == quiet, "switched off it is told nothing"
        set_score(True)
        assert goes_on_being_told(server)
        server.kill("engine")
        assert server.wait(lambda: server.restarted("engine"), 20.0)
        assert goes_on_being_told(server), "the new engine is told where the player is"
        server.kill("follower")
        assert server.wait(lambda: server.restarted("follower"), 20.0)
        client = Client(server.config.wire.control)
        try:
            client.ask("reset")
        finally:
            client.close()
        server.wait(lambda: False, 1.0)
        folder, log = end(server, tape)
    assert log.caveats == []
    assert sum(isinstance(e, Position) for e in log.events) > 200
    assert [e.value for e in log.events if isinstance(e, Setting) and e.key == "score"] == [False, True, True]
    assert [e.reason for e in log.events if isinstance(e, Resume)][-1] == RESET
    live, again = heard_and_replayed(folder, log, tmp_path / "again")
    assert live.shape[1] > 3 * RATE and np.abs(live).max() > 0.01
    np.testing.assert_array_equal(live, again)


def test_a_network_in_the_worker_is_told_too(own_jackd_of, live_server, model, tmp_path):
    """What it makes of it is what a replay, whose networks run inline, makes of it where no masks were late."""
    with own_jackd_of(PERIOD):
        server = live_server(settings(model, where="worker", worker_hops=4))
        tape = server.play(minuet(12.0))
        assert goes_on_being_told(server)
        server.wait(lambda: False, 2.0)
        folder, log = end(server, tape)
    live, again = heard_and_replayed(folder, log, tmp_path / "again")
    hops = live.shape[1] // 128
    same = [np.array_equal(live[:, k * 128 : (k + 1) * 128], again[:, k * 128 : (k + 1) * 128]) for k in range(hops)]
    assert np.mean(same) > 0.9


def test_each_song_is_told_its_own_score(own_jackd_of, live_server, model, tmp_path):
    """From the second song's first position on, and not what the first song's follower went on to say."""
    songs = {"with": {}, "deaf": {"separation": {"preset": "stage", "model": str(model), "score": False}}, "again": {}}
    with own_jackd_of(PERIOD):
        server = live_server(settings(model), songs)
        assert server.wait(lambda: server.supervisor.decks.idle.state.value == "ready", 60.0)
        tape = server.play(minuet(40.0))
        client, on_b = Client(server.config.wire.control), Session(server.session.block, 1)

        def change(name: str) -> None:
            before = server.supervisor.decks.playing
            client.ask("song", name=name)
            assert server.wait(lambda: server.supervisor.decks.playing is not before, 60.0)

        try:
            assert goes_on_being_told(server)
            change("deaf")
            server.wait(lambda: False, 1.5)
            assert on_b.counters("engine")["hops"] > 100 and on_b.counters("engine")["prompted_hops"] == 0
            client.ask("set", name="inputs.main.score", value=True)
            assert server.wait(lambda: on_b.counters("engine")["prompted_hops"] > 50, 20.0)
            change("again")
            assert goes_on_being_told(server)
        finally:
            client.close()
        folder, log = end(server, tape)
    assert log.caveats == []
    live, again = heard_and_replayed(folder, log, tmp_path / "again")
    np.testing.assert_array_equal(live, again)
