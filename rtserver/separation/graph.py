"""The separation part of the graph: a preset's transform, masks and inverse, and the tracks that leave it."""

from __future__ import annotations

import difflib

from rtserver.config import Config, Separation
from rtserver.config.separation import model_name
from rtserver.dsp.hpss import MASK_PARAMETERS, PARTS, PRESETS, HpssPreset
from rtserver.dsp.kam import Kam
from rtserver.dsp.masks import Masks
from rtserver.errors import ConfigError
from rtserver.graph import Graph
from rtserver.separation.model import WINDOW_SIZE, SeparationModel, blend_of, read_model
from rtserver.separation.network import BUDGET, SeparationNetwork
from rtserver.separation.separator import Separator, Source
from rtserver.separation.wiener import Wiener

WORKER_BUDGET = 1.0  # of a hop: a worker that takes longer falls behind
SEPARATOR, MEDIANS = "separator", "hpss"  # names of the node that separates, by a network or by medians alone


def preset(name: str, sample_rate: int, field: str = "separation.preset") -> HpssPreset:
    """The preset called `name` at `sample_rate`. Raises `ConfigError` for `field` with the nearest name."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(PRESETS)}"
        raise ConfigError(field, f"no preset {name!r}; {remedy}")
    return PRESETS[name].at(sample_rate)


def tracks(options: Separation, residual: bool | None = None) -> tuple[str, ...]:
    """The outputs of `separation` in order: the stems of a model, or harmonic, percussive, and residual if asked for or, when left open, if
    a margin is above 1. Raises `ModelError` where the model is not what its manifest says."""
    if options.model:
        return read_model(options.model).stems
    return PARTS if (options.has_residual if residual is None else residual) else PARTS[:2]


def separation(
    options: Separation,
    sample_rate: int,
    residual: bool | None = None,
    *,
    heard: bool = True,
    n_channels: int = 2,
    source: Source | None = None,
    field: str = "separation",
) -> Graph:
    """A graph, not yet prepared, with an output for each of `tracks`; without outputs where they are not to be `heard`.

    It wants blocks of ``preset(options.preset, sample_rate).hop_size`` frames. Its node that separates takes new settings between two
    blocks: see `separating_node`.

    Parameters
    ----------
    options : Separation
    sample_rate : int
    residual : bool, optional
        See `tracks`.
    n_channels : int
        Of the input.
    source : Source, optional
        Where a network runs; inline when left out, its masks as many hops later as `options` say.
    field : str
        The table that errors name; empty: none.

    Raises
    ------
    ConfigError
        For an unknown preset, and for a model that the preset, the rate or the channels do not suit.
    ModelError
        For a model whose files are missing, altered or not of the contract.
    """
    chosen = preset(options.preset, sample_rate, _path(field, "preset"))
    graph = Graph()
    if options.model:
        models = [read_model(model) for model in options.models]
        _check_fit(models, options, chosen, sample_rate, n_channels, field)
        stft, _, istft = chosen.nodes()
        separator = Separator(
            models[0], options.deferred_hops, blend=blend_of(options), other=models[1] if len(models) > 1 else None, source=source
        )
        graph.add("stft", stft)
        graph.add(SEPARATOR, separator, after="stft")
        if options.wiener:
            graph.add("wiener", Wiener(), after=SEPARATOR)
        graph.add("istft", istft, after="wiener" if options.wiener else SEPARATOR)
        names = models[0].stems
    else:
        masks = Masks(options.mask, options.exponent, options.margin_harmonic, options.margin_percussive)
        names = tracks(options, residual)
        stft, hpss, istft = chosen.nodes(masks, residual="residual" in names)
        if options.method == "kam":
            kernels = chosen.n_past, chosen.n_around, chosen.past_step
            hpss = Kam(*kernels, masks, "residual" in names, iterations=options.iterations, spatial=options.spatial)
        graph.add("stft", stft)
        graph.add(MEDIANS, hpss, after="stft")
        graph.add("istft", istft, after=MEDIANS)
    for track in names if heard else ():
        graph.output(track, after="istft", label=track)
    return graph


def check_worker(options: Separation, block_size: int, hop_size: int, field: str) -> None:
    """Whether the worker has time: a device block brings several hops at once where it is longer than a hop. Raises `ConfigError`."""
    at_once = -(-block_size // hop_size)
    if 0 < options.deferred_hops < at_once:
        found = f"blocks of {block_size} bring up to {at_once} hops of {hop_size} at once"
        raise ConfigError(_path(field, "worker_hops"), f"{found}: expected at least {at_once}, got {options.deferred_hops}")


def check_pace(options: Separation, sample_rate: int, field: str = "separation", *, inline: bool) -> float:
    """Whether this machine runs the networks in the time that they have, with nothing else to do: the share of a hop that the slower one
    takes. Loads them. Raises `ConfigError`."""
    hop_s = preset(options.preset, sample_rate).hop_size / sample_rate
    limit_s = (BUDGET if inline else WORKER_BUDGET) * hop_s
    slowest_s = 0.0
    for model, key in zip(options.models, ("model", "other_model"), strict=False):
        fastest_s = SeparationNetwork(read_model(model)).fastest_s
        if fastest_s > limit_s:
            found = f"{model_name(model)!r} takes {fastest_s * 1e3:.1f} ms a hop at best on this machine"
            remedy = (
                'where = "worker" gives it a whole one; else a smaller network'
                if inline and fastest_s < hop_s
                else "take a smaller network"
            )
            raise ConfigError(_path(field, key), f"{found}, expected at most {limit_s * 1e3:.1f}; {remedy}")
        slowest_s = max(slowest_s, fastest_s)
    return slowest_s / hop_s


def check_paces(config: Config) -> None:
    """`check_pace` of every input that is separated, and of all together that share the engine or the worker. Raises `ConfigError`."""
    running = [name for name in config.inputs if name in config.heard_inputs or name == config.harmony_input]
    for inline in (True, False):
        shares: dict[str, float] = {}
        for name in running:
            if inline != (name in config.deferred_inputs):
                field = f"inputs.{name}.separation" if config.inputs[name].separation else "separation"
                shares[name] = check_pace(config.separation_of(name), config.audio.sample_rate, field, inline=inline)
        limit, total = BUDGET if inline else WORKER_BUDGET, sum(shares.values())
        if total > limit:
            names = ", ".join(f"{name} {share:.2f}" for name, share in shares.items() if share)
            where, remedy = ("in the engine", 'where = "worker"') if inline else ("in the worker", 'where = "inline"')
            raise ConfigError(
                "inputs",
                f"their networks {where} take {total:.2f} of a hop at best on this machine ({names}), expected at most {limit:g} together; "
                f"take smaller networks, or give some {remedy}",
            )


def separating_node(graph: Graph) -> str:
    """Name of the node of `separation` that `Graph.set` reaches; empty where there is none."""
    return next((name for name in (SEPARATOR, MEDIANS) if name in graph), "")


def own_settings(graph: Graph, options: Separation) -> dict[str, float | str]:
    """What the node that separates begins with, of all that may be set while it plays."""
    node = separating_node(graph)
    if node == SEPARATOR:
        return {"blend": blend_of(options)} | ({"model": model_name(options.model)} if options.other_model else {})
    return {key: getattr(options, key) for key in MASK_PARAMETERS} if node else {}


def _path(field: str, key: str) -> str:
    return f"{field}.{key}" if field else key


def _check_fit(  # noqa: PLR0917 (what has to fit together)
    models: list[SeparationModel], options: Separation, chosen: HpssPreset, sample_rate: int, n_channels: int, field: str
) -> None:
    for model, key in zip(models, ("model", "other_model"), strict=False):
        what = f"{model.name!r}"
        if sample_rate not in model.sample_rates:
            rates = " and ".join(map(str, model.sample_rates))
            raise ConfigError(
                _path(field, key), f"{what} was made for {rates} Hz, this is {sample_rate} Hz: it takes pitches by their bins"
            )
        if chosen.window_size != WINDOW_SIZE or chosen.hop_size not in model.hops:
            fitting = [name for name, p in PRESETS.items() if p.window_size == WINDOW_SIZE and p.at(sample_rate).hop_size in model.hops]
            sizes = f"{chosen.window_size}, hops of {chosen.hop_size}"
            raise ConfigError(
                _path(field, "preset"), f"{what} does not hear windows of {sizes}: expected {' or '.join(fitting) or 'another model'}"
            )
        if model.stems != models[0].stems:
            stems = ", ".join(models[0].stems)
            raise ConfigError(_path(field, key), f"expected the same stems as {models[0].name!r} ({stems}), got {', '.join(model.stems)}")
        if model.medians != models[0].medians:
            sizes = [f"n_past, past_step, n_around: {', '.join(map(str, m.medians))}" for m in (models[0], model)]
            raise ConfigError(_path(field, key), f"expected the same medians as {models[0].name!r} ({sizes[0]}), got {sizes[1]}")
    if options.score and not any("score" in model.heard for model in models):
        names, inputs = " and ".join(repr(model.name) for model in models), ", ".join(models[0].heard)
        raise ConfigError(
            _path(field, "score"), f"expected a network that hears a score (an input 'score'); {names} hears {inputs}: leave it out"
        )
    if n_channels > 2:
        raise ConfigError(_path(field, "model"), f"a network hears one channel or two, this has {n_channels}: name inputs of two channels")
    if options.wiener and n_channels != 2:
        raise ConfigError(
            _path(field, "wiener"), f"expected a stereo input, got {n_channels} channel(s): it goes by where a stem stands; leave it out"
        )
