"""The separation part of the graph: a preset's transform, masks and inverse, and the tracks that leave it."""

from __future__ import annotations

import difflib

from rtserver.config import Separation
from rtserver.dsp.hpss import PARTS, PRESETS, HpssPreset
from rtserver.dsp.kam import Kam
from rtserver.dsp.masks import Masks
from rtserver.errors import ConfigError
from rtserver.graph import Graph


def preset(name: str, sample_rate: int, field: str = "separation.preset") -> HpssPreset:
    """The preset called `name` at `sample_rate`. Raises `ConfigError` for `field` with the nearest name."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(PRESETS)}"
        raise ConfigError(field, f"no preset {name!r}; {remedy}")
    return PRESETS[name].at(sample_rate)


def tracks(options: Separation, residual: bool | None = None) -> tuple[str, ...]:
    """The outputs of `separation` in order: harmonic, percussive, and residual if asked for or, when left open, if a margin is above 1."""
    return PARTS if (options.has_residual if residual is None else residual) else PARTS[:2]


def separation(options: Separation, sample_rate: int, residual: bool | None = None, heard: bool = True) -> Graph:
    """A graph, not yet prepared, with an output for each of `tracks`; without outputs where they are not to be `heard`.

    It wants blocks of ``preset(options.preset, sample_rate).hop_size`` frames. Its node ``hpss``, of either method, takes new masks between
    two blocks: see `Hpss.set`. Raises `ConfigError` for an unknown preset.
    """
    masks = Masks(options.mask, options.exponent, options.margin_harmonic, options.margin_percussive)
    names = tracks(options, residual)
    chosen = preset(options.preset, sample_rate)
    stft, hpss, istft = chosen.nodes(masks, residual="residual" in names)
    if options.method == "kam":
        kernels = chosen.n_past, chosen.n_around, chosen.past_step
        hpss = Kam(*kernels, masks, "residual" in names, iterations=options.iterations, spatial=options.spatial)
    graph = Graph()
    graph.add("stft", stft)
    graph.add("hpss", hpss, after="stft")
    graph.add("istft", istft, after="hpss")
    for track in names if heard else ():
        graph.output(track, after="istft", label=track)
    return graph
