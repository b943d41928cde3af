"""A live session with a network inline: the engine is killed, blend and model change; lived through again bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from separators import make

from rtserver.audio import file as audio_file
from rtserver.events import Param, Resume, Setting
from rtserver.reenact import replay
from rtserver.replay import Log

RATE, PERIOD = 48000, 256


def test_a_session_with_a_network_happens_again_bit_for_bit(own_jackd_of, live_server, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): no model can be built to be loaded")
    models = [str(make(tmp_path / name, name, seed=k, gain=0.3)) for k, name in enumerate(("one", "two"))]
    settings = {
        "name": "rtnetwork",
        "audio": {"block_size": PERIOD, "spare_blocks": 1, "device": "system"},
        "outputs": {stem: {"source": stem, "channels": [k + 1]} for k, stem in enumerate(("drums", "bass", "other"))},
        "separation": {"preset": "stage", "model": models[0], "other_model": models[1]},
        "generation": {"enabled": False},
        "midi": {"api": "null"},
    }
    rng, at_s = np.random.default_rng(7), np.arange(7 * RATE) / RATE
    hits = rng.uniform(-0.5, 0.5, len(at_s)) * np.exp(-((at_s % 0.5) * 30))
    with own_jackd_of(PERIOD):
        server = live_server(settings)
        tape = server.play((hits + 0.1 * np.sin(2 * np.pi * 330 * at_s)).astype(np.float32)[None])

        def set_parameter(name, value):
            now = server.session.frame
            server.session.emit("gateway", Param(now + RATE // 20, now, f"inputs.main.{name}", value), "engine", "recorder")
            server.wait(lambda: False, 0.4)

        server.wait(lambda: False, 0.5)
        set_parameter("blend", 0.5)
        set_parameter("model", "two")
        server.kill("engine")
        assert server.wait(lambda: server.restarted("engine"), 20.0)
        set_parameter("model", "two")
        set_parameter("blend", 0.2)
        server.close()
        tape.process.kill()
        tape.process.communicate()
    (folder,) = (tmp_path / "record").iterdir()
    log = Log.read(folder)
    assert log.caveats == []
    assert any(event.reason == "engine started" for event in log.events if isinstance(event, Resume))
    told = [(event.key, event.value) for event in log.events if isinstance(event, Setting)]
    assert told == [("blend", 0.5), ("model", "two"), ("blend", 0.0), ("model", "one"), ("model", "two"), ("blend", 0.2)]
    replay(folder / "input.wav", tmp_path / "again", log)
    live, again = (audio_file.read(path / "played.wav")[0] for path in (folder, tmp_path / "again"))
    n = min(live.shape[1], again.shape[1])
    assert n > 2 * RATE and np.abs(live[:, :n]).max() > 0.1
    np.testing.assert_array_equal(live[:, :n], again[:, :n])
