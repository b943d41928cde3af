"""A network in a process of its own, killed while it plays: medians stand in, and it comes back. All of it in a live server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from separators import make

from rtserver.audio import file as audio_file
from rtserver.events import Miss, StandIn
from rtserver.node import Spec
from rtserver.reenact import replay
from rtserver.replay import Log
from rtserver.separation.graph import separation
from rtserver.separation.nowhere import Nowhere

RATE, PERIOD, HOP = 48000, 256, 128
STEMS = ("drums", "bass", "other")
FADE = 8 * HOP  # 20 ms


@pytest.fixture
def settings(tmp_path: Path) -> dict:
    pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): no model can be built to be loaded")
    model = make(tmp_path / "model")
    return {
        "name": "rtworker",
        "audio": {"block_size": PERIOD, "spare_blocks": 2, "device": "system"},
        "outputs": {stem: {"source": stem, "channels": [k + 1]} for k, stem in enumerate(STEMS)},
        "separation": {"preset": "stage", "model": str(model), "where": "worker", "worker_hops": 4},
        "generation": {"enabled": False},
    }


def music(seconds: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    at_s = np.arange(round(seconds * RATE)) / RATE
    hits = rng.uniform(-0.5, 0.5, len(at_s)) * np.exp(-((at_s % 0.25) * 20))
    return (hits + 0.1 * np.sin(2 * np.pi * 220 * at_s)).astype(np.float32)[None]


def test_a_killed_separator_is_stood_in_for_and_comes_back(own_jackd_of, live_server, settings, tmp_path):
    with own_jackd_of(PERIOD):
        server = live_server(settings)
        session = server.session
        tape = server.play(music(9.0))
        server.wait(lambda: False, 1.5)
        before = session.counters("engine")["late_masks"]
        killed = session.frame
        server.kill("separator")
        assert server.wait(lambda: server.restarted("separator"), 20.0)
        back = session.frame
        server.wait(lambda: False, 0.5)
        late = session.counters("engine")["late_masks"]
        hops = session.counters("separator")["hops"]
        server.wait(lambda: False, 1.5)
        assert session.counters("separator")["hops"] > hops + 400, "it works again, hop by hop"
        latencies = [output.latency for output in server.supervisor.plan.outputs]
        options = server.config.separation
        server.close()
        tape.process.kill()
        tape.process.communicate()
    (folder,) = (tmp_path / "record").iterdir()
    log = Log.read(folder)
    assert late - before > 0.5 * (back - killed) / HOP, "hops without masks are counted"
    assert late <= sum(e.n_hops for e in log.events if isinstance(e, StandIn)), "and told"

    x, played = audio_file.read(folder / "input.wav")[0], audio_file.read(folder / "played.wav")[0]
    replay(folder / "input.wav", tmp_path / "again", log)
    again = audio_file.read(tmp_path / "again" / "played.wav")[0]
    graph = separation(options, RATE, n_channels=1, source=Nowhere())
    graph.prepare(Spec.signal(RATE, 1, HOP))
    medians = graph.freewheel(x)
    away = [e for e in log.events if isinstance(e, StandIn) and e.n_hops > 50]  # a dead role's hops, told a second at a time
    first, last = min(e.frame for e in away), max(e.frame + e.n_hops * HOP for e in away)
    assert killed - 8 * HOP < first < killed + 8 * HOP + PERIOD and last < back + PERIOD
    n = min(played.shape[1], again.shape[1], x.shape[1])
    for k, stem in enumerate(STEMS):
        heard = np.ones(n, bool)
        for miss in (e for e in log.events if isinstance(e, Miss) and e.output == stem):
            heard[max(miss.frame - PERIOD, 0) : miss.frame + miss.n_frames + PERIOD] = False
        assert heard.mean() > 0.9
        masked = heard.copy()
        for hops in (e for e in log.events if isinstance(e, StandIn)):
            masked[hops.frame + latencies[k] - PERIOD :][: hops.n_hops * HOP + 2 * PERIOD + 2 * FADE] = False
        alone = np.concatenate([np.zeros(latencies[k], np.float32), medians[stem][0]])[:n]
        outage = slice(first + FADE + PERIOD + latencies[k], last + latencies[k] - PERIOD)
        inside = heard[outage]
        np.testing.assert_array_equal(played[k, outage][inside], alone[outage][inside], err_msg=f"{stem}: the medians' own masks")
        for whole in (slice(RATE, killed), slice(back + RATE, n)):
            inside = masked[whole]
            assert inside.mean() > 0.5
            np.testing.assert_array_equal(played[k, whole][inside], again[k, whole][inside], err_msg=f"{stem}: as a replay has it")
            assert np.abs(again[k, whole] - alone[whole]).max() > 1e-3, "the network says something else than the medians"
