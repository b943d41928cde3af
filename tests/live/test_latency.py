"""Measured through JACK, the latency of every output is the stated one. (Every preset and block size in lockstep: tests/test_render.py.)"""

import os

import numpy as np
import pytest

RATE = 48000
PAIRS = [("stage", 64), ("default", 480), ("quality", 1024)]


@pytest.mark.parametrize(("preset", "block_size"), PAIRS)
def test_live_latency_is_as_stated(own_jackd_of, live_server, measure_lag, preset, block_size):
    with own_jackd_of(block_size):
        server = live_server(
            {
                "name": "rtlatency",
                "audio": {"block_size": block_size, "spare_blocks": 2, "device": "system"},
                "separation": {"preset": preset},
                "outputs": {
                    "harmonic": {"source": "harmonic", "channels": [1]},
                    "percussive": {"source": "percussive", "channels": [2]},
                    "aligned": {"source": "dry", "channels": [2]},
                    "monitor": {"source": "dry", "channels": [3], "align": False},
                },
                "generation": {"enabled": False},
            }
        )
        signal = np.random.default_rng(0).uniform(-0.3, 0.3, (1, RATE)).astype(np.float32)
        record = server.play(signal).result()
        way = measure_lag(signal[0], record[2])
        separated = measure_lag(signal[0], record[0] + record[1]) - way
        stated = {o.name: o.latency for o in server.supervisor.plan.outputs}
        server.close()
    assert stated["harmonic"] == stated["percussive"] == stated["aligned"] == separated
    assert stated["monitor"] == 0
    assert os.environ["JACK_DEFAULT_SERVER"]
