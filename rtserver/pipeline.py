"""The map: what is connected to what. Read it top to bottom; it holds no logic.

input ── stft ── hpss ── istft ──┬── harmonic      (tracks, heard through the mixer)
  │                              └── percussive
  └──── features ─────────────────── feature ring  (worker: follower → performer → midi)
"""

from __future__ import annotations

import difflib

from rtserver.config import Config
from rtserver.dsp.features import N_FEATURES, Features
from rtserver.dsp.hpss import PRESETS, HpssPreset
from rtserver.errors import ConfigError
from rtserver.fastlane import FastLane
from rtserver.graph import Graph
from rtserver.node import Spec
from rtserver.plan import TRACKS, Plan, plan
from rtserver.shared.session import Session


def preset(config: Config) -> HpssPreset:
    """The separation preset that a configuration names."""
    name = config.separation.preset
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(PRESETS)}"
        raise ConfigError("separation.preset", f"no preset {name!r}; {remedy}")
    return PRESETS[name]


def build(config: Config) -> Graph:
    """The graph of a configuration, prepared. Raises `SpecError` or `ConfigError`."""
    stft, hpss, istft = preset(config).nodes()
    graph = Graph()
    graph.add("stft", stft)
    graph.add("hpss", hpss, after="stft")
    graph.add("istft", istft, after="hpss")
    for track in TRACKS:
        graph.output(track, after="istft", label=track)
    graph.add("features", Features(config.audio.sample_rate))
    graph.prepare(Spec.signal(config.audio.sample_rate, config.n_channels, stft.hop_size))
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
