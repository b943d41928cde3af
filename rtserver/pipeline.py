"""The map: what is connected to what. Read it top to bottom; it holds no logic.

input ── stft ── hpss ── istft ──┬── harmonic      (tracks, heard through the mixer)
  │                              └── percussive
  └──── features ─────────────────── feature ring  (worker: follower → performer → midi)
"""

from __future__ import annotations

from rtserver.config import Config
from rtserver.dsp.features import N_FEATURES, Features
from rtserver.fastlane import FastLane
from rtserver.graph import Graph
from rtserver.node import Spec
from rtserver.plan import Plan, plan
from rtserver.separation.graph import preset, separation
from rtserver.shared.session import Session


def build(config: Config) -> Graph:
    """The graph of a configuration, prepared. Raises `SpecError` or `ConfigError`."""
    chosen = preset(config.separation.preset)
    graph = separation(chosen)
    graph.add("features", Features(config.audio.sample_rate))
    graph.prepare(Spec.signal(config.audio.sample_rate, config.n_channels, chosen.hop_size))
    return graph


def plan_of(config: Config, graph: Graph) -> Plan:
    """The delays of a configuration's outputs."""
    tracks = {name: graph.latency(name) for name in graph.outputs}
    return plan(config, tracks, graph.block.hop_size, N_FEATURES)


def fast_lane(session: Session) -> FastLane:
    """The engine's half of a session."""
    graph = build(session.config)
    lane = FastLane(session, graph)
    graph.tap("features", lane.publish_features)
    return lane
