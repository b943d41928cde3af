"""What types cannot say: ranges, names, and what sections mean to one another."""

from __future__ import annotations

import difflib

from rtserver.config.audio import PARTS, Output
from rtserver.config.bounds import within
from rtserver.config.click import check_click
from rtserver.config.cues import check_cues
from rtserver.config.midi import check_midi, inputs_of
from rtserver.config.music import check_following, check_generation, check_score
from rtserver.config.operations import check_log, check_metrics
from rtserver.config.separation import MAX_DEFERRED, check_separation
from rtserver.config.tree import Config
from rtserver.config.wire import check_wire
from rtserver.errors import ConfigError


def check(config: Config) -> None:
    """Raises `ConfigError` with the path of the first field that is wrong."""
    within("audio.sample_rate", config.audio.sample_rate, 22050, 192000)
    within("audio.block_size", config.audio.block_size, 16, 8192)
    within("audio.spare_blocks", config.audio.spare_blocks, 0, 16)
    within("audio.input_channels", config.audio.input_channels, 0, 32)
    within("audio.output_channels", config.audio.output_channels, 0, 32)
    if not config.inputs:
        raise ConfigError("inputs", "expected at least one input; add for example [inputs.main]")
    for name, source in config.inputs.items():
        _check_name(f"inputs.{name}", name)
        _check_channels(f"inputs.{name}.channels", source.channels)
        if source.separation is not None:
            check_separation(source.separation, f"inputs.{name}.separation.")
    _check_input("following.input", config.following.input, config)
    if config.following.keys and config.following.keys not in inputs_of(config):
        known = ", ".join(inputs_of(config)) or "none"
        raise ConfigError("following.keys", f"no MIDI input port {config.following.keys!r}; known are {known}")
    check_following(config.following)
    _check_outputs(config)
    if len(config.deferred_inputs) > MAX_DEFERRED:
        n = len(config.deferred_inputs)
        raise ConfigError("inputs", f'expected at most {MAX_DEFERRED} with where = "worker", got {n}: let some run inline')
    check_separation(config.separation)
    _check_told(config)
    check_score(config.score)
    check_following(config.following)
    check_generation(config.generation)
    check_click(config.click)
    check_midi(config)
    check_cues(config)
    check_wire(config.wire)
    check_metrics(config.metrics)
    check_log(config.log, config.wire.enabled)


def _check_outputs(config: Config) -> None:
    if not config.outputs:
        raise ConfigError("outputs", "expected at least one output; add for example [outputs.harmonic]")
    for name, output in config.outputs.items():
        field = f"outputs.{name}"
        _check_name(field, name)
        _check_channels(f"{field}.channels", output.channels)
        _check_input(f"{field}.input", output.input, config)
        within(f"{field}.gain_db", output.gain_db, -120, 24)
        if output.source == "click":
            _check_click(field, output)
            continue
        _check_source(f"{field}.source", output.source, config.separation_of(config.input_of(output)).model)
        n_channels = len(config.inputs[config.input_of(output)].channels)
        if n_channels != 1 and len(output.channels) != n_channels:
            raise ConfigError(f"{field}.channels", f"expected {n_channels} channels as in the input, got {len(output.channels)}")
    for name, output in config.outputs.items():
        for other_name, other in config.outputs.items():
            one_input = config.input_of(output) == config.input_of(other)
            both_dry = output.on_late == other.on_late == "dry" and "dry" not in (output.source, other.source)
            if name < other_name and one_input and both_dry and set(output.channels) & set(other.channels):
                raise ConfigError(
                    f"outputs.{other_name}.on_late",
                    f"shares a channel with {name!r} and both fall back to dry, which would double the level: set one to 'mute'",
                )


def _check_told(config: Config) -> None:
    """A score that is to be told has to be there; in a show with a set list it is the songs' business."""
    if config.score.file or config.setlist.songs:
        return
    tables = {"separation": config.separation} | {f"inputs.{name}.separation": source.separation for name, source in config.inputs.items()}
    for field, separation in tables.items():
        if separation is not None and separation.score:
            raise ConfigError(f"{field}.score", "there is no score to tell the network of: name one in [score], or leave it out")


def _check_source(field: str, source: str, model: str) -> None:
    """The stems of a model are known where it is loaded, by the preflight."""
    known = ("dry", "click") if model else ("dry", *PARTS, "click")
    if source not in known and (not model or source == "residual"):
        near = difflib.get_close_matches(source, known, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise ConfigError(field, f"no source {source!r}{' beside a model' if model else ''}; {remedy}")


def _check_click(field: str, output: Output) -> None:
    """A click is made of no input."""
    for key, value, expected in (("input", output.input, ""), ("bypass", output.bypass, False), ("on_late", output.on_late, "mute")):
        if value != expected:
            raise ConfigError(f"{field}.{key}", f"a click is made of no input, so there is nothing to fall back to: leave {key} out")


def _check_name(field: str, name: str) -> None:
    """Names become parts of parameter names and of topics."""
    if not name or not all(c.isalnum() or c in "_-" for c in name):
        raise ConfigError(field, f"expected a name of letters, digits, '_' and '-', got {name!r}")


def _check_input(field: str, name: str, config: Config) -> None:
    if name and name not in config.inputs:
        near = difflib.get_close_matches(name, config.inputs, n=1)
        raise ConfigError(field, f"no input {name!r}; {f'did you mean {near[0]!r}?' if near else 'known: ' + ', '.join(config.inputs)}")


def _check_channels(field: str, channels: list[int]) -> None:
    if not channels or any(c < 1 for c in channels) or len(set(channels)) != len(channels):
        raise ConfigError(field, f"expected device channels counted from 1, each once, got {channels}")
