"""The separation part of the graph: a preset's transform, masks and inverse, and the tracks that leave it."""

from __future__ import annotations

import difflib

from rtserver.dsp.hpss import PRESETS, HpssPreset
from rtserver.errors import ConfigError
from rtserver.graph import Graph
from rtserver.plan import TRACKS


def preset(name: str, field: str = "separation.preset") -> HpssPreset:
    """The preset called `name`. Raises `ConfigError` for `field` with the nearest name."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(PRESETS)}"
        raise ConfigError(field, f"no preset {name!r}; {remedy}")
    return PRESETS[name]


def separation(chosen: HpssPreset) -> Graph:
    """A graph, not yet prepared, with an output for each of `TRACKS`. It wants blocks of ``chosen.hop_size`` frames."""
    stft, hpss, istft = chosen.nodes()
    graph = Graph()
    graph.add("stft", stft)
    graph.add("hpss", hpss, after="stft")
    graph.add("istft", istft, after="hpss")
    for track in TRACKS:
        graph.output(track, after="istft", label=track)
    return graph
