"""The map: what is connected to what. Read it top to bottom; it holds no logic.

input ── stft ── hpss ── istft ──┬── harmonic ──── harmony ──┐   (tracks, heard through the mixer)
  │                              ├── percussive              │
  │                              └── residual                │   (where an output asks for it)
  │  or: ─────── separator ── (wiener) ── istft ── the stems of a network
  └──── features ────────────────────────────────────────────┴── feature ring  (workers: follower → performer → midi)
                                                                                          └── prompter → separator's score

Every input has such a branch of its own; one of them, the followed one, has the features, and the harmony where the performer wants it so.
"""

from __future__ import annotations

from collections.abc import Mapping

from rtserver.config import Config
from rtserver.dsp.features import Features
from rtserver.dsp.layout import N_HEARD
from rtserver.errors import ConfigError
from rtserver.fastlane import FastLane
from rtserver.following.score import Score
from rtserver.graph import Graph
from rtserver.node import Spec
from rtserver.plan import Branch, Plan, plan
from rtserver.separation.elsewhere import Elsewhere
from rtserver.separation.graph import check_worker, preset, separation, tracks
from rtserver.separation.model import prompted
from rtserver.separation.prompter import Prompter
from rtserver.separation.separator import Source
from rtserver.shared.maskring import MaskRing
from rtserver.shared.session import Session


def build(config: Config, sources: Mapping[str, Source] | None = None) -> dict[str, Graph]:
    """The graphs of a configuration by input, prepared. Networks run inline but for those of the inputs in `sources`.

    Raises `SpecError`, `ConfigError` or `ModelError`.
    """
    sources = sources or {}
    separated = config.heard_inputs
    graphs: dict[str, Graph] = {}
    for name, source in config.inputs.items():
        if name not in separated and name != config.followed_input:
            continue
        options = config.separation_of(name)
        chosen = preset(options.preset, config.audio.sample_rate)
        residual = any(o.source == "residual" for o in config.outputs.values() if config.input_of(o) == name)
        listened = name == config.harmony_input
        graph = Graph()
        if name in separated or listened:
            field = f"inputs.{name}.separation" if source.separation else "separation"
            graph = separation(
                options,
                config.audio.sample_rate,
                residual,
                heard=name in separated,
                n_channels=len(source.channels),
                source=sources.get(name),
                field=field,
            )
            check_worker(options, config.audio.block_size, chosen.hop_size, field)
        graphs[name] = graph
        if listened:  # before the features, which it is published with
            if "harmonic" not in (stems := tracks(options)):
                raise ConfigError(
                    "generation.harmony", f'"harmonic" wants a harmonic stem, and the network has {", ".join(stems)}; try "whole"'
                )
            graph.add("harmony", Features(config.audio.sample_rate, config.score.a4_hz), after="istft", label="harmonic")
        if name == config.followed_input:
            graph.add("features", Features(config.audio.sample_rate, config.score.a4_hz))
        graph.prepare(Spec.signal(config.audio.sample_rate, len(source.channels), chosen.hop_size))
    return graphs


def plan_of(config: Config, graphs: dict[str, Graph]) -> Plan:
    """The delays of a configuration's outputs."""
    branches = [
        Branch(
            name,
            graph.block.hop_size,
            {o: graph.latency(o) for o in graph.outputs},
            config.separation_of(name).deferred_hops * graph.block.hop_size,
        )
        for name, graph in graphs.items()
    ]
    return plan(config, branches, N_HEARD)


def fast_lanes(session: Session, live: bool = False) -> list[FastLane]:
    """The engine's half of a session, input by input. live : networks that the configuration puts into the worker are in the worker; else
    they run here, their masks as many hops later, so that they are never late."""
    config, lanes = session.config, list[FastLane]()
    rings = {(t.input, t.source): session.track(t, i) for i, t in enumerate(session.setup.tracks)}
    waker = session.waker("separator")
    deferred = enumerate(config.deferred_inputs if live else ())
    sources = {name: Elsewhere(MaskRing(session.block, session.deck, k), waker) for k, name in deferred}
    for name, graph in build(config, sources).items():
        channels = [c - 1 for c in config.inputs[name].channels]
        shown = prompted(config, name) if session.setup.score_file else None
        score = None if shown is None else Score.from_npz(session.setup.score_file)
        prompter = None if shown is None or score is None else Prompter.of(config, score, graph.block.hop_size, shown)
        lane = FastLane(session, name, graph, channels, [rings[name, source] for source in graph.outputs], prompter)
        if name == config.followed_input:
            graph.tap("features", lane.publish_features)
            if "harmony" in graph:
                graph.tap("harmony", lane.keep_harmonic)
        lanes.append(lane)
    return lanes
