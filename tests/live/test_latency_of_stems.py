"""Three stems of a network on three outputs and over ZeroMQ: their measured latency is the stated one, inline and in the worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import zmq
from liveserver import LiveServer

from rtserver.audio import file as audio_file
from rtserver.wire import protocol

RATE = 48000
STEMS = ("drums", "bass", "other")
CASES = [  # preset, block size, where the network runs, worker_hops
    ("stage", 128, "inline", 2),
    ("default", 512, "inline", 2),
    ("stage", 256, "worker", 4),
]


def settings(preset: str, block_size: int, where: str, worker_hops: int) -> dict:
    return {
        "name": "rtstems",
        "audio": {"block_size": block_size, "spare_blocks": 2, "device": "system"},
        "outputs": {stem: {"source": stem, "channels": [k + 1]} for k, stem in enumerate(STEMS)}
        | {"monitor": {"source": "dry", "channels": [4], "align": False}},
        "separation": {"preset": preset, "model": "stems3-int8"}
        | ({"where": where, "worker_hops": worker_hops} if where == "worker" else {}),
        "generation": {"enabled": False},
        "midi": {"api": "null"},
    }


def music(seconds: float) -> np.ndarray:
    """Noise bursts over a low and a high tone."""
    rng, at_s = np.random.default_rng(0), np.arange(round(seconds * RATE)) / RATE
    tones = 0.1 * np.sin(2 * np.pi * 82.4 * at_s) + 0.1 * np.sin(2 * np.pi * 659.3 * at_s)
    return (tones + rng.uniform(-0.4, 0.4, len(at_s)) * np.exp(-((at_s % 0.25) * 30))).astype(np.float32)[None]


@contextmanager
def listening(server: LiveServer, heard: dict[str, list[tuple[int, np.ndarray]]]) -> Iterator[None]:
    """A client of the bulk socket, as another machine would be: (session frame, samples) of every chunk of every stem, by topic."""
    done = threading.Event()
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.connect(server.config.wire.bulk)
        for stem in STEMS:
            socket.subscribe(f"audio.{stem}")

        def listen() -> None:
            while not done.is_set():
                if socket.poll(50):
                    topic, header, samples = protocol.decode_bulk(socket.recv_multipart())
                    heard.setdefault(topic, []).append((header.frame, samples[0]))

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize("case", CASES)
def test_stems_are_as_late_as_stated(own_jackd_of, live_server, measure_lag, tmp_path, case):
    heard: dict[str, list[tuple[int, np.ndarray]]] = {}
    signal = music(3.0)
    with own_jackd_of(case[1]):
        server = live_server(settings(*case))
        with listening(server, heard):
            record = server.play(signal, channels=4).result()
        outputs = {o.name: o.latency for o in server.supervisor.plan.outputs}
        tracks = {f"audio.{track.name}": track.latency for track in server.session.setup.tracks}
        log = server.log()
        server.close()
    (recording,) = (tmp_path / "record").iterdir()
    came_in = audio_file.read(recording / "input.wav")[0][0]
    way = measure_lag(signal[0], record[3])
    through_jack = measure_lag(signal[0], record[:3].sum(axis=0)) - way
    assert outputs == dict.fromkeys(STEMS, through_jack) | {"monitor": 0}

    told = np.zeros((len(STEMS), len(came_in)), np.float32)
    for k, stem in enumerate(STEMS):
        for frame, samples in heard[f"audio.{stem}"]:
            at = frame - log.header.frame
            told[k, at : at + len(samples)] = samples[: max(0, len(came_in) - at)]
    late = tracks["audio.drums"]
    assert tracks == dict.fromkeys((f"audio.{stem}" for stem in STEMS), measure_lag(came_in, told.sum(axis=0)))
    both = (told != 0.0).all(axis=0)[late:]  # chunks that were lost, or came before somebody listened, are left out
    assert both.sum() > RATE
    np.testing.assert_allclose(told.sum(axis=0)[late:][both], came_in[: len(came_in) - late][both], atol=1e-4)
