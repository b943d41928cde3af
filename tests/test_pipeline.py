"""Facts about the map: what is made of the followed input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtserver.config import Config, Generation, Input, Output
from rtserver.dsp.features import Features
from rtserver.dsp.layout import HARMONIC_CHROMA, HARMONIC_LEVEL, LEVEL, N_CHROMA, N_FEATURES, N_HEARD
from rtserver.node import Spec
from rtserver.pipeline import build, fast_lanes, plan_of
from rtserver.plan import open_session
from rtserver.render import exchange
from rtserver.shared.session import Setup

HOP, RATE, BLOCK = 480, 48000, 128


def config_of(harmony: str, source: str = "harmonic") -> Config:
    generation = Generation(harmony=harmony)  # pyright: ignore[reportArgumentType]
    return Config(inputs={"main": Input([1])}, outputs={"out": Output(source, [1])}, generation=generation)


@pytest.fixture(scope="module")
def signal() -> np.ndarray:
    """A chord and drums, one second."""
    rng = np.random.default_rng(3)
    t = np.arange(RATE) / RATE
    chord = sum(np.sin(2 * np.pi * 440.0 * 2 ** ((p - 69) / 12) * t) for p in (60, 64, 67))
    drums = rng.standard_normal(RATE) * np.exp(-((t * 8) % 1.0) * 10)
    return (0.1 * chord + 0.2 * drums).astype(np.float32)[None]


def published(config: Config, signal: np.ndarray, folder: Path) -> tuple[list[int], np.ndarray]:
    """Frames and vectors that the workers of a session of `config` are given."""
    plan = plan_of(config, build(config))
    session = open_session(Setup(config, str(folder), tracks=plan.tracks), plan)
    (lane,) = fast_lanes(session)
    ring, out = session.features, np.zeros((BLOCK, plan.device_out), np.float32)
    for start in range(0, signal.shape[1] // BLOCK * BLOCK, BLOCK):
        exchange(session, np.ascontiguousarray(signal[:, start : start + BLOCK].T), out)
        while lane.run_hop():
            pass
    n = int(ring.count[0])
    rows = np.zeros((n, N_HEARD), np.float32)
    return [ring.read(k, rows[k]) or 0 for k in range(n)], rows


def features_of(signal: np.ndarray) -> np.ndarray:
    """Features (n_hops, 208) of a signal by themselves."""
    node = Features(RATE)
    node.prepare(Spec.signal(RATE, 1, HOP))
    rows = np.zeros((signal.shape[1] // HOP, N_FEATURES), np.float32)
    for k, row in enumerate(rows):
        node.process(np.ascontiguousarray(signal[:, k * HOP : (k + 1) * HOP]), row)
    return rows


@pytest.mark.parametrize("source", ["harmonic", "dry"])
def test_workers_get_chroma_and_level_of_the_harmonic_track(signal: np.ndarray, source: str, tmp_path: Path) -> None:
    """Whether or not an output plays that track."""
    graph = build(config_of("whole", "harmonic"))["main"]
    track: list[np.ndarray] = []
    graph.tap("istft", lambda x, _: track.append(x[0].copy()))
    graph.freewheel(signal)
    expected = features_of(np.concatenate(track, axis=1))
    frames, rows = published(config_of("harmonic", source), signal, tmp_path)
    assert frames == [HOP * (k + 1) for k in range(len(frames))]
    assert len(frames) > 90
    np.testing.assert_array_equal(rows[:, HARMONIC_CHROMA:HARMONIC_LEVEL], expected[: len(rows), :N_CHROMA])
    np.testing.assert_array_equal(rows[:, HARMONIC_LEVEL], expected[: len(rows), LEVEL])


def test_the_features_of_the_input_are_the_same_beside_it(signal: np.ndarray, tmp_path: Path) -> None:
    _, rows = published(config_of("harmonic"), signal, tmp_path)
    np.testing.assert_array_equal(rows[:, :N_FEATURES], features_of(signal)[: len(rows)])


def test_what_nobody_asks_for_is_not_made() -> None:
    assert "harmony" not in build(config_of("whole"))["main"]
    assert "stft" not in build(config_of("whole", "dry"))["main"]
