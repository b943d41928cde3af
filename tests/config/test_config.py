"""Every default is valid, every mistake is named with its path and a remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.config import Config, load, parse
from rtserver.errors import ConfigError

SECTIONS = ("audio", "separation", "score", "following", "generation", "midi", "wire", "recording")


def refused(raw: dict[str, Any]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(raw)
    return caught.value


def test_an_empty_file_is_the_defaults() -> None:
    assert parse({}) == Config()


def test_every_default_is_valid_when_written_out() -> None:
    assert parse(msgspec.to_builtins(Config())) == Config()


@pytest.mark.parametrize("section", SECTIONS)
def test_an_unknown_key_is_named_with_its_section(section: str) -> None:
    error = refused({section: {"qqqq": 1}})
    assert error.field == f"{section}.qqqq"
    assert "known here" in str(error)


def test_a_key_of_an_earlier_version_says_where_to_go() -> None:
    error = refused({"wire": {"record": "shows"}})
    assert error.field == "wire.record"
    assert "[recording]" in str(error)


@pytest.mark.parametrize(
    ("raw", "field", "near"),
    [
        ({"audo": {}}, "audo", "'audio'"),
        ({"audio": {"block_sise": 64}}, "audio.block_sise", "'block_size'"),
        ({"outputs": {"left": {"source": "dry", "chanels": [1]}}}, "outputs.left.chanels", "'channels'"),
        ({"inputs": {"main": {"channel": [1]}}}, "inputs.main.channel", "'channels'"),
    ],
)
def test_an_unknown_key_comes_with_the_nearest_known_one(raw: dict[str, Any], field: str, near: str) -> None:
    error = refused(raw)
    assert error.field == field
    assert f"did you mean {near}" in str(error)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"audio": {"block_size": "large"}}, "audio.block_size"),
        ({"audio": {"block_size": 8}}, "audio.block_size"),
        ({"audio": {"sample_rate": 8000}}, "audio.sample_rate"),
        ({"audio": {"spare_blocks": -1}}, "audio.spare_blocks"),
        ({"inputs": {}}, "inputs"),
        ({"inputs": {"a b": {}}}, "inputs.a b"),
        ({"following": {"input": "nobody"}}, "following.input"),
        ({"following": {"own_notes": "maybe"}}, "following.own_notes"),
        ({"following": {"return_latency_s": 2.0}}, "following.return_latency_s"),
        ({"following": {"echo_s": -0.1}}, "following.echo_s"),
        ({"outputs": {"x": {"source": "dry", "channels": [1], "input": "nobody"}}}, "outputs.x.input"),
        ({"inputs": {"a": {"channels": [0]}}}, "inputs.a.channels"),
        ({"outputs": {}}, "outputs"),
        ({"outputs": {"x": {"source": "drums", "channels": [1]}}}, "outputs.x.source"),
        ({"outputs": {"x": {"source": "dry", "channels": [1, 1]}}}, "outputs.x.channels"),
        ({"outputs": {"x": {"source": "dry", "channels": [1], "gain_db": 60.0}}}, "outputs.x.gain_db"),
        ({"outputs": {"x": {"source": "dry", "channels": [1], "on_late": "loop"}}}, "outputs.x.on_late"),
        ({"separation": {"mask": "medium"}}, "separation.mask"),
        ({"separation": {"exponent": 0.1}}, "separation.exponent"),
        ({"separation": {"margin_harmonic": 0.9}}, "separation.margin_harmonic"),
        ({"separation": {"margin_percussive": 17}}, "separation.margin_percussive"),
        ({"separation": {"method": "kan"}}, "separation.method"),
        ({"separation": {"method": "kam", "iterations": 11}}, "separation.iterations"),
        ({"separation": {"iterations": 0}}, "separation.iterations"),
        ({"separation": {"spatial": "on"}}, "separation.spatial"),
        ({"generation": {"pitch_low": 80, "pitch_high": 79}}, "generation.pitch_high"),
        ({"generation": {"channel": 0}}, "generation.channel"),
        ({"generation": {"metre": "4/5"}}, "generation.metre"),
        ({"click": {"subdivision": 5}}, "click.subdivision"),
        ({"click": {"count_in_bars": 9}}, "click.count_in_bars"),
        ({"click": {"pitch": 128}}, "click.pitch"),
        ({"click": {"accent_pitch": -1}}, "click.accent_pitch"),
        ({"click": {"velocity": 0}}, "click.velocity"),
        ({"click": {"accent_velocity": 128}}, "click.accent_velocity"),
        ({"click": {"channel": 17}}, "click.channel"),
        ({"outputs": {"x": {"source": "click", "channels": [1], "input": "main"}}}, "outputs.x.input"),
        ({"outputs": {"x": {"source": "click", "channels": [1], "bypass": True}}}, "outputs.x.bypass"),
        ({"outputs": {"x": {"source": "click", "channels": [1], "on_late": "dry"}}}, "outputs.x.on_late"),
        ({"midi": {"program": 128}}, "midi.program"),
        ({"wire": {"control": "tcp://0.0.0.0:5580"}}, "wire.control"),
        ({"wire": {"control": "tcp://*:5580"}}, "wire.control"),
        ({"wire": {"events": "tcp://127.0.0.1.example.org:5580"}}, "wire.events"),
        ({"wire": {"bulk": "ipc://@everybody"}}, "wire.bulk"),
        ({"wire": {"bulk": "udp://127.0.0.1:5580"}}, "wire.bulk"),
        ({"wire": {"control": "tcp://0.0.0.0:5580", "allow": "keys"}}, "wire.control"),
        ({"wire": {"control": "tcp://0.0.0.0:5580", "server_key": "server.key_secret"}}, "wire.allow"),
        ({"wire": {"allow": "keys"}}, "wire.server_key"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(raw: dict[str, Any], field: str) -> None:
    error = refused(raw)
    assert error.field == field
    assert str(error).startswith(f"{field}: ")


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:5580", "tcp://*:5580", "tcp://192.168.1.7:*", "tcp://[::]:5580", "tcp://eth0:5580"])
def test_an_endpoint_for_other_machines_wants_keys_and_an_allow_list(endpoint: str) -> None:
    error = refused({"wire": {"control": endpoint}})
    assert "rtserver keys new" in str(error)
    wire = {"control": endpoint, "server_key": "server.key_secret", "allow": "keys"}
    assert parse({"wire": wire}).wire.control == endpoint


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:5580", "tcp://127.0.0.1:*", "tcp://localhost:80", "tcp://[::1]:5580", "ipc:///run/a"]
)
def test_an_endpoint_on_this_machine_wants_none(endpoint: str) -> None:
    assert parse({"wire": {"control": endpoint}}).wire.control == endpoint


def test_keys_count_from_the_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "show.toml").write_text('[wire]\nserver_key = "server.key_secret"\nallow = "allow"\n')
    wire = load(tmp_path / "show.toml").wire
    assert (wire.server_key, wire.allow) == (str(tmp_path / "server.key_secret"), str(tmp_path / "allow"))


def test_a_click_output_may_have_any_number_of_channels() -> None:
    raw = {"inputs": {"main": {"channels": [1, 2]}}, "outputs": {"click": {"source": "click", "channels": [3]}}}
    assert parse(raw).outputs["click"].channels == [3]


@pytest.mark.parametrize(
    ("raw", "keeps_time"),
    [
        ({}, False),
        ({"generation": {"enabled": True}}, True),
        ({"click": {"enabled": True}}, True),
        ({"click": {"count_in_bars": 1}}, True),
        ({"outputs": {"click": {"source": "click", "channels": [1]}}}, True),
    ],
)
def test_a_click_wants_somebody_who_keeps_time(raw: dict[str, Any], keeps_time: bool) -> None:
    assert parse({"generation": {"enabled": False}} | raw).keeps_time is keeps_time


def test_two_outputs_on_a_channel_may_not_both_fall_back_to_dry() -> None:
    """Harmonic and percussive both falling to dry would add 6 dB."""
    output = {"channels": [1], "on_late": "dry"}
    error = refused({"outputs": {"a": {"source": "harmonic", **output}, "b": {"source": "percussive", **output}}})
    assert error.field == "outputs.b.on_late"


def test_an_input_of_two_channels_wants_outputs_of_two() -> None:
    error = refused({"inputs": {"main": {"channels": [1, 2]}}, "outputs": {"x": {"source": "dry", "channels": [1]}}})
    assert error.field == "outputs.x.channels"


@pytest.mark.parametrize(
    ("key", "value"),
    [("tuning_hz", 44.0), ("transpose", 40), ("cents", 101.0), ("parts", [0]), ("parts", [""]), ("parts", "Violin"), ("parts", [1.5])],
)
def test_a_wrong_reading_of_the_score_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as error:
        parse({"score": {"file": "piece.mid", key: value}})
    assert error.value.field.startswith(f"score.{key}")


def test_parts_are_names_or_numbers() -> None:
    assert parse({"score": {"parts": ["Violin", 2]}}).score.parts == ["Violin", 2]


def test_a_score_counts_from_the_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "show.toml").write_text('[score]\nfile = "piece.musicxml"\n')
    assert load(tmp_path / "show.toml").score.file == str(tmp_path / "piece.musicxml")


@pytest.mark.parametrize("text", [b"[audio", b"\xff\xfe", b'name = "a"\nname = "b"\n'])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "show.toml").write_bytes(text)
    with pytest.raises(ConfigError, match=r"show\.toml is not readable TOML"):
        load(tmp_path / "show.toml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such configuration file: .*none\.toml"):
        load(tmp_path / "none.toml")


toml_values = st.recursive(
    st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from([*SECTIONS, "inputs", "outputs", "name"]) | st.text(min_size=1, max_size=8)
inner_keys = st.sampled_from(["block_size", "channels", "source", "file", "main", "scale", "control"]) | st.text(min_size=1, max_size=8)


@given(st.dictionaries(keys, toml_values | st.dictionaries(inner_keys, toml_values, max_size=3), max_size=4))
def test_any_toml_is_a_configuration_or_a_named_mistake(raw: dict[str, Any]) -> None:
    try:
        config = parse(raw)
    except ConfigError as error:
        assert error.field
    else:
        assert parse(msgspec.to_builtins(config)) == config
