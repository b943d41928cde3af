"""How long the models take on this machine: one step of a network, as the run time takes it, and a whole hop of a separation."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rtserver import zoo
from rtserver.errors import ModelError

WARM_UP = 50  # steps before those that are timed
Figures = dict[str, float]


def timed(step: Callable[[], object], n: int) -> Figures:
    """Microseconds of `n` calls: p50, p99, max."""
    for _ in range(WARM_UP):
        step()
    ns = np.zeros(n)
    for k in range(n):
        start = time.perf_counter_ns()
        step()
        ns[k] = time.perf_counter_ns() - start
    p50, p99, high = np.percentile(ns / 1e3, (50, 99, 100))
    return {"p50_us": round(float(p50), 1), "p99_us": round(float(p99), 1), "max_us": round(float(high), 1)}


def pace(name: str, folder: Path = zoo.FOLDER, n: int = 2000) -> dict[str, Figures]:
    """Times of a model by what was timed. Raises `ModelError` where it cannot be loaded, or is of a kind that cannot be stepped."""
    _, entry = zoo.load_model(name, folder)
    kind = entry.get("kind")
    if kind not in _STEPS:
        raise ModelError(f"{name!r}: no way is known to step a model of kind {kind!r}; known: {', '.join(_STEPS)}")
    return {what: timed(step, n) for what, step in _STEPS[kind](name, folder).items()}


Steps = dict[str, Callable[[], object]]


def _separation(name: str, folder: Path) -> Steps:
    """The network alone, and whole hops of a stereo signal: transform, medians, features, network, masks, inverse."""
    from rtserver.config import Separation
    from rtserver.separation.graph import preset
    from rtserver.separation.model import read_model
    from rtserver.separation.network import Heard, SeparationNetwork

    model = str(folder / zoo.manifest(folder)[name]["file"])
    read = read_model(model)
    network = SeparationNetwork(read)
    heard = Heard()
    rng = np.random.default_rng(0)
    heard.features[...], heard.prior[...] = rng.standard_normal(len(heard.features)), rng.standard_normal(len(heard.prior))
    steps: Steps = {"network": lambda: network.run(0, heard)}
    rate = read.sample_rates[-1]
    for chosen in ("stage", "default"):
        if preset(chosen, rate).hop_size in read.hops:
            steps[f"hop, preset {chosen}"] = hop_of(Separation(chosen, model=model), rate)
    return steps


def hop_of(options: Any, sample_rate: int, n_channels: int = 2) -> Callable[[], object]:
    """A step that runs one hop of noise through the whole graph of a separation."""
    from rtserver.node import Spec
    from rtserver.separation.graph import preset, separation

    hop = preset(options.preset, sample_rate).hop_size
    graph = separation(options, sample_rate, n_channels=n_channels)
    graph.prepare(Spec.signal(sample_rate, n_channels, hop))
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (64, n_channels, hop)).astype(np.float32)
    out = np.zeros((len(graph.outputs), n_channels, hop), np.float32)
    frame = 0

    def step() -> None:
        nonlocal frame
        graph.process(noise[frame // hop % len(noise)], frame, out)
        frame += hop

    return step


def _onset_odds(name: str, folder: Path) -> Steps:
    from rtserver.dsp.features import N_SEMITONES
    from rtserver.following.onsetnet import OnsetNetwork

    network, x = OnsetNetwork(name, folder), np.random.default_rng(0).random(N_SEMITONES).astype(np.float32)
    return {"network": lambda: network.process(x)}


def _note_events(name: str, folder: Path) -> Steps:
    from rtserver.generation.note_network import NoteNetwork
    from rtserver.generation.vocabulary import NoteEvent

    network = NoteNetwork(name, folder)

    def step() -> None:
        network.step(NoteEvent(6, 60, 12), 0)
        network.swap()
        network.run_pitch(6, 6)
        network.run_duration(64)

    return {"network": step}


_STEPS: dict[str, Callable[[str, Path], Steps]] = {"separation": _separation, "onset_odds": _onset_odds, "note_events": _note_events}
