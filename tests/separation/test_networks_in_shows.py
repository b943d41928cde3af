"""A network where the medians were: in a show's graph, its plan, its parameters, in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from separators import make

from rtserver.audio import file
from rtserver.config import Config, Separation, load, parse
from rtserver.errors import ConfigError, ModelError
from rtserver.fastlane import FastLane
from rtserver.node import Spec
from rtserver.pipeline import build, plan_of
from rtserver.render import Stepper, render
from rtserver.separation.graph import check_paces, own_settings, separation
from rtserver.separation.model import SeparationModel, read_model
from rtserver.separation.network import SeparationNetwork
from rtserver.separation.offline import separate
from rtserver.show import load_show
from rtserver.verdict import Verdict, keep, recall, write_verdict
from rtserver.wire.parameters import table

pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): no model can be built to be loaded")
RATE = 48000


def show(model: SeparationModel, n_channels: int = 1, **settings: Any) -> dict[str, Any]:
    """A show with an output for each stem."""
    channels = list(range(1, n_channels + 1))
    outputs = {stem: {"source": stem, "channels": [k * n_channels + c for c in channels]} for k, stem in enumerate(model.stems)}
    return {
        "inputs": {"main": {"channels": channels}},
        "outputs": outputs,
        "separation": {"model": str(model.path), "preset": "stage"} | settings,
        "generation": {"enabled": False},
    }


@pytest.fixture
def take(tmp_path: Path) -> Path:
    """Stereo: a tone with clicks, of a length that no hop divides."""
    at_s = np.arange(30011) / RATE
    x = np.stack([0.4 * np.sin(2 * np.pi * 440.0 * at_s), 0.2 * np.sin(2 * np.pi * 990.0 * at_s)])
    x[:, ::6000] += 0.5
    file.write(tmp_path / "take.wav", x.astype(np.float32), RATE)
    return tmp_path / "take.wav"


@pytest.mark.parametrize("settings", [{}, {"wiener": True}, {"blend": 0.5, "preset": "default"}], ids="-".join)
def test_stems_of_a_file_are_aligned_and_sum_to_it(settings: dict[str, Any], take: Path, tiny: SeparationModel, tmp_path: Path) -> None:
    files = separate(take, tmp_path / "out", Separation(model=str(tiny.path), **settings))
    assert [f.name for f in files] == ["drums.wav", "bass.wav", "other.wav"]
    np.testing.assert_allclose(sum(file.read(f)[0] for f in files), file.read(take)[0], atol=5e-6)


def test_render_is_what_the_graph_makes_bit_for_bit(take: Path, tiny: SeparationModel, tmp_path: Path) -> None:
    config = parse(show(tiny, 2))
    render(take, tmp_path / "out", config)
    expected = build(config)["main"].freewheel(file.read(take)[0])
    for stem in tiny.stems:
        np.testing.assert_array_equal(file.read(tmp_path / "out" / f"{stem}.wav")[0], expected[stem])


def test_a_worker_costs_the_hops_that_it_is_given_and_nothing_else(take: Path, tiny: SeparationModel, tmp_path: Path) -> None:
    inline, worker = parse(show(tiny, 2)), parse(show(tiny, 2, where="worker", worker_hops=3))
    plans = [plan_of(config, build(config)) for config in (inline, worker)]
    a, b = (plan.outputs[0] for plan in plans)
    assert b.latency - a.latency == 3 * 128
    assert any(term.frames == 3 * 128 and "worker" in term.cause for term in b.terms)
    for name, config in (("inline", inline), ("worker", worker)):
        render(take, tmp_path / name, config)
    for stem in tiny.stems:
        first, second = (file.read(tmp_path / name / f"{stem}.wav")[0] for name in ("inline", "worker"))
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("changes", "ends", "said"),
    [
        ({}, (96000, 1), r"^separation\.model: 'tiny' was made for 44100 and 48000 Hz, this is 96000 Hz"),
        ({"preset": "quality"}, (RATE, 1), r"^separation\.preset: .* expected stage or default"),
        ({"wiener": True}, (RATE, 1), r"^separation\.wiener: .* got 1 channel"),
        ({}, (RATE, 3), r"^separation\.model: .* one channel or two, this has 3"),
    ],
)
def test_what_a_model_does_not_suit_is_refused(changes: dict[str, Any], ends: tuple[int, int], said: str, tiny: SeparationModel) -> None:
    with pytest.raises(ConfigError, match=said):
        separation(Separation(**({"preset": "stage", "model": str(tiny.path)} | changes)), ends[0], n_channels=ends[1])


def test_a_second_model_of_other_stems_is_refused(tiny: SeparationModel, tmp_path: Path) -> None:
    hp = make(tmp_path, "hp", stems=("harmonic", "percussive"))
    with pytest.raises(ConfigError, match=r"other_model: expected the same stems as 'tiny' \(drums, bass, other\)"):
        separation(Separation(model=str(tiny.path), other_model=str(hp)), RATE)


def test_a_second_model_of_other_medians_is_refused_by_its_field(tiny: SeparationModel, tmp_path: Path) -> None:
    wider = make(tmp_path, "wider", facts={"hpss": {"n_past": 5, "n_around": 7}})
    with pytest.raises(ConfigError, match=r"other_model: expected the same medians as 'tiny' \(.*: 5, 1, 5\), got .*: 5, 1, 7"):
        separation(Separation(model=str(tiny.path), other_model=str(wider)), RATE)


def test_an_unknown_model_comes_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"no model 'performr'.*did you mean 'performer'"):
        separation(Separation(model="performr"), RATE)


def test_an_output_of_no_stem_is_told_which_there_are(tiny: SeparationModel) -> None:
    raw = show(tiny)
    raw["outputs"]["voice"] = {"source": "vocals", "channels": [4]}
    config = parse(raw)
    with pytest.raises(ConfigError, match=r"outputs\.voice\.source: no track 'vocals'; the graph has drums, bass, other"):
        plan_of(config, build(config))


@pytest.mark.parametrize(
    ("separation", "field"),
    [
        ({"blend": 0.5}, "separation.blend"),
        ({"where": "worker"}, "separation.where"),
        ({"wiener": True}, "separation.wiener"),
        ({"other_model": "b"}, "separation.other_model"),
        ({"model": "a", "mask": "hard"}, "separation.mask"),
        ({"model": "a", "margin_harmonic": 2.0}, "separation.margin_harmonic"),
        ({"model": "a", "method": "kam"}, "separation.method"),
        ({"model": "a", "blend": 1.1}, "separation.blend"),
        ({"model": "a", "where": "worker", "worker_hops": 9}, "separation.worker_hops"),
        ({"model": "a", "worker_hops": 3}, "separation.worker_hops"),
        ({"model": "a", "other_model": "b/a.onnx"}, "separation.other_model"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(separation: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse({"separation": separation})
    assert error.value.field == field


@pytest.mark.parametrize(
    ("source", "model", "said"),
    [
        ("harmonics", "", "did you mean 'harmonic'"),
        ("drums", "", "known: dry, harmonic"),
        ("residual", "hp", "beside a model; known: dry, click"),
    ],
)
def test_a_source_that_cannot_be_is_refused_before_a_model_is_loaded(source: str, model: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        parse({"separation": {"model": model}, "outputs": {"a": {"source": source, "channels": [1]}}})
    assert error.value.field == "outputs.a.source"


def test_a_models_path_counts_from_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "songs").mkdir()
    (tmp_path / "show.toml").write_text('[separation]\nmodel = "nets/a.onnx"\n[setlist]\nsongs = ["songs/b.toml", "songs/c.toml"]\n')
    (tmp_path / "songs" / "b.toml").write_text('[separation]\nother_model = "b.onnx"\n')
    (tmp_path / "songs" / "c.toml").write_text('[separation]\nmodel = "hp"\n')
    assert load(tmp_path / "show.toml").separation.model == str(tmp_path / "nets" / "a.onnx")
    b, c = (song.config.separation for song in load_show(tmp_path / "show.toml"))
    assert (b.model, b.other_model) == (str(tmp_path / "nets" / "a.onnx"), str(tmp_path / "songs" / "b.onnx"))
    assert c.model == "hp", "a name is a name"


def test_what_may_be_set_while_it_plays_is_the_networks(tiny: SeparationModel, other: SeparationModel) -> None:
    known = table(parse(show(tiny, other_model=str(other.path), blend=0.2)))
    assert known["inputs.main.blend"].default == 0.2
    assert known["inputs.main.model"].choices == ("tiny", "other")
    assert "inputs.main.mask" not in known
    assert "inputs.main.model" not in table(parse(show(tiny)))


def test_where_nobody_says_it_a_manifest_says_the_blend(tmp_path: Path) -> None:
    model = read_model(str(make(tmp_path, facts={"blend": 0.4})))
    graph = separation(Separation("stage", model=str(model.path)), RATE)
    assert own_settings(graph, Separation("stage", model=str(model.path))) == {"blend": 0.4}
    assert own_settings(graph, Separation("stage", model=str(model.path), blend=0.0)) == {"blend": 0.0}
    assert table(parse(show(model)))["inputs.main.blend"].default == 0.4


def test_settings_reach_the_node_at_their_hop(tiny: SeparationModel, other: SeparationModel, tmp_path: Path) -> None:
    config = parse(show(tiny, other_model=str(other.path)))
    stepper = Stepper(config, tmp_path)
    lane: FastLane = stepper.lanes[0]
    lane.schedule(1000, "blend", 0.5)
    lane.schedule(2000, "model", "other")
    x, out = np.zeros((128, 1), np.float32), np.zeros((128, 3), np.float32)
    for _ in range(30):
        stepper.exchange(x, out)
        stepper.work()
    assert lane.applied == [(1024, "blend", 0.5), (2048, "model", "other")]
    assert own_settings(lane.graph, config.separation) == {"blend": 0.0, "model": "tiny"}


def test_a_state_that_is_rebuilt_is_rebuilt_the_same_way(tiny: SeparationModel) -> None:
    """After reset the same input gives the same stems: what a replay of a restarted engine rests on."""
    graph = separation(Separation("stage", model=str(tiny.path)), RATE, n_channels=1)
    graph.prepare(Spec.signal(RATE, 1, 128))
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 128 * 40)).astype(np.float32)
    first = graph.freewheel(x)
    graph.reset()
    second = graph.freewheel(x)
    for stem in tiny.stems:
        np.testing.assert_array_equal(first[stem], second[stem])


def test_a_song_that_passed_is_looked_at_again_when_its_model_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtserver.verdict.cache_folder", lambda: tmp_path / "cache")
    model = make(tmp_path / "nets")
    config: Config = msgspec.structs.replace(Config(), separation=Separation(model=str(model)))
    folder = tmp_path / "song"
    folder.mkdir()
    write_verdict(Verdict(plan_of(Config(), build(Config()))), folder)
    keep(config, folder)
    assert recall(config, tmp_path / "again")
    make(tmp_path / "nets", "another")
    assert not recall(config, tmp_path / "again")


@pytest.mark.parametrize(
    ("where", "fastest_s", "said"),
    [
        ("inline", 0.0012, ""),
        ("inline", 0.0015, r"takes 1\.5 ms a hop at best .* expected at most 1\.3; where = \"worker\" gives it"),
        ("inline", 0.0030, r"expected at most 1\.3; take a smaller network"),
        ("worker", 0.0025, ""),
        ("worker", 0.0030, r"expected at most 2\.7; take a smaller network"),
    ],
)
def test_a_network_that_cannot_keep_up_is_refused_before_the_show(
    where: Any, fastest_s: float, said: str, tiny: SeparationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SeparationNetwork, "fastest_s", property(lambda _: fastest_s, lambda _, value: None), raising=False)
    config = parse(show(tiny, where=where))
    if not said:
        check_paces(config)
        return
    with pytest.raises(ConfigError, match=said) as error:
        check_paces(config)
    assert error.value.field == "separation.model"


@pytest.mark.parametrize(
    ("places", "share", "said"),
    [
        ("iii", 0.16, ""),
        ("iii", 0.17, r"in the engine take 0\.51 of a hop .*\(a 0\.17, b 0\.17, c 0\.17\), expected at most 0\.5 together"),
        ("ww", 0.50, ""),
        ("wwww", 0.90, r"in the worker take 3\.60 of a hop .*\(a 0\.90, .* d 0\.90\), expected at most 1 together"),
        ("iw", 0.50, ""),
        ("i-", 0.50, ""),
    ],
)
def test_networks_that_share_a_process_must_fit_together(
    places: str, share: float, said: str, tiny: SeparationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """i: in the engine, w: in the worker, -: nothing of the input is heard but itself."""
    monkeypatch.setattr(SeparationNetwork, "fastest_s", property(lambda _: share * 128 / RATE, lambda _, value: None), raising=False)
    model = {"model": str(tiny.path), "preset": "stage"}
    names = "abcd"[: len(places)]
    where = {name: {"w": "worker"}.get(place, "inline") for name, place in zip(names, places, strict=True)}
    config = parse(
        {
            "inputs": {name: {"channels": [1], "separation": model | {"where": where[name]}} for name in names},
            "outputs": {
                name: {"source": "dry" if place == "-" else "drums", "input": name, "channels": [k]}
                for k, (name, place) in enumerate(zip(names, places, strict=True), 1)
            },
            "generation": {"enabled": False},
        }
    )
    if not said:
        check_paces(config)
        return
    with pytest.raises(ConfigError, match=said) as error:
        check_paces(config)
    assert error.value.field == "inputs"


def test_harmony_of_a_harmonic_part_wants_a_network_that_has_one(tiny: SeparationModel, tmp_path: Path) -> None:
    generation = {"enabled": True, "harmony": "harmonic"}
    with pytest.raises(ConfigError, match=r"generation\.harmony: .* the network has drums, bass, other"):
        build(parse(show(tiny) | {"generation": generation}))
    hp = read_model(str(make(tmp_path, "hp", stems=("harmonic", "percussive"))))
    assert "harmony" in build(parse(show(hp) | {"generation": generation}))["main"]
