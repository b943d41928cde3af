"""The training side of the performer, from a network that learns to a model that plays."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtserver import zoo
from rtserver.errors import ConfigError
from rtserver.generation import vocabulary as v
from rtserver.generation.constraints import Constraints
from rtserver.generation.note_network import OPTIONAL, NoteNetwork
from rtserver.generation.performer import Performer

torch = pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): the export is not tested")

from scalesheets import folder_of_scales  # noqa: E402  (needs torch)

from models import loop  # noqa: E402  (needs torch)
from models.generation import data, evaluate, export, imported, int8, network, pieces, train  # noqa: E402  (needs torch)
from models.generation import exported as exporting  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_scales(tmp_path_factory.mktemp("notes"))


def settings(folder: Path, out: Path, *more: str) -> Any:
    tiny = ["--hidden", "32", "--batch", "4", "--window", "32", "--checks", "1", "--rate", "0.02", "--check", "2"]
    return train.parser().parse_args([str(folder), "--out", str(out), *tiny, *more])


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    out = tmp_path_factory.mktemp("run")
    return out, train.train(settings(folder, out, "--steps", "30"))


@pytest.fixture(scope="module")
def exported(trained: tuple[Path, list[float]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    net, _ = train.restore(trained[0] / "checkpoint.pt")
    target = tmp_path_factory.mktemp("zoo")
    return target, export.export(net, target, "performer", {"data": 'none, "made" here'}, {"all": {"note": 1.5}})


def test_the_loss_falls(trained: tuple[Path, list[float]]) -> None:
    losses = trained[1]
    assert len(losses) == 30
    assert losses[-1] < 0.9 * losses[0]


def test_the_same_seed_trains_the_same(folder: Path, tmp_path: Path, trained: tuple[Path, list[float]]) -> None:
    assert train.train(settings(folder, tmp_path, "--steps", "30"))[:3] == trained[1][:3]


def test_resume_goes_on_from_the_checkpoint(folder: Path, tmp_path: Path) -> None:
    train.train(settings(folder, tmp_path, "--steps", "8"))
    before = loop.read(tmp_path / "checkpoint.pt")
    more = train.train(settings(folder, tmp_path, "--steps", "10", "--resume"))
    after = loop.read(tmp_path / "checkpoint.pt")
    assert len(more) == 2
    assert after["step"] == 10
    steps = [json.loads(line)["step"] for line in (tmp_path / "train.log").read_text().splitlines() if "loss" in line]
    assert steps == [8, 10]
    moved = [float((a - before["network"][k]).abs().max()) for k, a in after["network"].items()]
    assert 0.0 < max(moved) < 0.2, "it went on from where it was, not from new weights"


def test_the_likelihood_is_normalised(folder: Path, trained: tuple[Path, list[float]]) -> None:
    """Over all pitches that may follow in a chord the probabilities sum to one, and so do those of the durations."""
    net, _ = train.restore(trained[0] / "checkpoint.pt")
    piece = pieces.load(folder)[2][0]
    window = data.cut(data.sequence(piece, np.ones(len(piece.onset), bool), 0, 8, lead=0), 0, 8, 8)
    chord = int(np.flatnonzero((window["next_dt"] == 0) & (window["pitch"] != v.START))[0])

    def total(head: int, name: str, choices: range) -> float:
        summed = 0.0
        for choice in choices:
            window[name][chord] = choice
            batch = network.tensors(data.stack([window]))
            summed += float(torch.exp(-net.nats(batch, net.start(1))[0][head, 0, chord]).detach())
        return summed

    assert total(1, "next_pitch", range(int(window["pitch"][chord]) + 1, v.N_PITCH)) == pytest.approx(1.0, abs=1e-4)
    assert total(2, "next_duration", range(1, v.N_DURATION)) == pytest.approx(1.0, abs=1e-4)


def test_every_note_of_the_held_out_pieces_is_scored(folder: Path, trained: tuple[Path, list[float]]) -> None:
    net, _ = train.restore(trained[0] / "checkpoint.pt")
    held_out = pieces.load(folder)[2]
    scores = evaluate.evaluate(net, held_out)
    assert scores["all"]["n_notes"] == sum(len(p.onset) for p in held_out)
    assert scores["accompany"]["n_notes"] == scores["accompany_free"]["n_notes"] == sum(int((p.part == 1).sum()) for p in held_out)
    assert all(s["note"] == pytest.approx(s["dt"] + s["pitch"] + s["duration"], abs=1e-3) for s in scores.values())


def test_the_export_computes_what_torch_computes(exported: tuple[Path, float]) -> None:
    assert exported[1] <= 1e-5


def test_the_run_time_computes_what_torch_computes(exported: tuple[Path, float]) -> None:
    """The golden vectors through `NoteNetwork`: every condition reaches the input that it was trained as."""
    played = NoteNetwork(folder=exported[0])
    assert played.takes == OPTIONAL
    rows = np.load(exported[0] / "performer.golden.npz")
    for i in range(export.GOLDEN_STEPS):
        row = {k: a[i].reshape(-1) for k, a in rows.items()}
        for there, k in zip(played.state, "hc", strict=True):
            there[...] = row[k].reshape(there.shape)
        for k, there in played.conditions.items():
            there[...] = row[k]
        played.sounding[...], played.next_sounding[...] = row["sounding"], row["next_sounding"]
        played.set_texture(int(row["texture"][0]))
        played.set_part(int(row["part"][0]))
        dt = int(row["next_dt"][0])
        tick = int(row["phase"][0])
        played.set_bar(tick - int(row["bar"][0]) + 1, 12 * int(row["metre"][0]))
        played.step(v.NoteEvent(*(int(row[k][0]) for k in ("dt", "pitch", "duration"))), tick)
        played.run_pitch(dt, tick + dt)
        played.run_duration(int(row["next_pitch"][0]))
        for k, x in (("dt_logits", played.dt_logits), ("pitch_logits", played.pitch_logits), ("duration_logits", played.duration_logits)):
            np.testing.assert_allclose(x, row[k], atol=1e-5, err_msg=f"{k}, step {i}")


@pytest.mark.parametrize("task", ["all", "chart", "follow", "asked"])
def test_the_run_time_gives_the_odds_that_were_scored(
    folder: Path, trained: tuple[Path, list[float]], exported: tuple[Path, float], task: str
) -> None:
    made = evaluate.sequences(pieces.load(folder)[2], task)
    scored = evaluate.score(train.restore(trained[0] / "checkpoint.pt")[0], made, "cpu")
    played = exporting.score(NoteNetwork(folder=exported[0]), made, 10**6)
    assert played["note"] == pytest.approx(scored["note"], abs=1e-3)


def test_an_int8_model_plays_and_costs_little(folder: Path, exported: tuple[Path, float]) -> None:
    name = int8.add(exported[0], "performer")
    found = int8.compare(exported[0], ["performer", name], pieces.load(folder)[2])
    assert found[name]["note"] == pytest.approx(found["performer"]["note"], abs=0.02)
    assert zoo.load_model(name, exported[0])[0].stat().st_size < zoo.load_model("performer", exported[0])[0].stat().st_size
    performer = Performer("performer-int8", folder=exported[0])
    performer.feed(performer.query(Constraints("C major")))
    assert performer.n_nan == 0


def test_a_run_goes_into_a_zoo_with_its_figures(folder: Path, trained: tuple[Path, list[float]], tmp_path: Path) -> None:
    source = "scales, made here"
    export.main(export.parser().parse_args([str(folder), str(trained[0]), str(tmp_path), "--name", "mine", "--source", source]))
    entry = zoo.manifest(tmp_path)["mine"]
    assert entry["data"] == source
    assert set(evaluate.TASKS) == {k.removeprefix("nats_") for k in entry if k.startswith("nats_")} - {"order_0"}
    Performer("mine", folder=tmp_path)


@pytest.mark.parametrize(("more", "licence"), [([], "not stated"), (["--licence", "CC0 1.0"], "CC0 1.0")])
def test_a_run_goes_into_a_zoo_under_the_licence_that_is_stated(
    folder: Path, trained: tuple[Path, list[float]], tmp_path: Path, more: list[str], licence: str
) -> None:
    export.main(export.parser().parse_args([str(folder), str(trained[0]), str(tmp_path), *more]))
    assert [entry["licence"] for entry in zoo.manifest(tmp_path).values()] == 3 * [licence]


def test_a_run_goes_into_a_zoo_rounded(folder: Path, trained: tuple[Path, list[float]], tmp_path: Path) -> None:
    export.main(export.parser().parse_args([str(folder), str(trained[0]), str(tmp_path), "--name", "mine", "--int8"]))
    entry = zoo.manifest(tmp_path)["mine"]
    assert entry["weights"] == "int8"
    golden = dict(np.load(tmp_path / entry["golden"]))
    files = {"mine" + graph: zoo.load_model("mine" + graph, tmp_path)[0] for graph in export.GRAPHS}
    assert 1e-5 < export.replay(files, "mine", golden) <= entry["golden_within"] == export.CLOSE_INT8


def test_wishes_reach_a_model_that_was_trained_with_them(exported: tuple[Path, float]) -> None:
    """One step, other wishes, other odds; the network itself, not the dice."""
    performer = Performer(folder=exported[0], part="upper")
    plain = {"ahead": None, "controls": None}
    wishes = (plain, plain | {"ahead": v.ahead(np.eye(2, 12))}, plain | {"controls": v.controls(4.0, 72.0)})
    odds = []
    for wish in wishes:
        performer.query(Constraints(), dt=6, **wish)
        odds.append(performer.network.pitch_logits.copy())
    performer.set_bar(0, 72)
    performer.query(Constraints(), dt=6)
    odds.append(performer.network.pitch_logits.copy())
    other = Performer(folder=exported[0], part="lower")
    other.query(Constraints(), dt=6)
    odds.append(other.network.pitch_logits.copy())
    assert all(np.abs(odds[0] - x).max() > 1e-4 for x in odds[1:])


def test_the_keys_that_are_down_are_shown(exported: tuple[Path, float]) -> None:
    performer = Performer(folder=exported[0])
    performer.feed(v.NoteEvent(0, 60, 24))
    performer.feed(v.NoteEvent(12, 64, 6), sounding=False)
    performer.query(Constraints(), dt=6)
    assert performer.network.sounding.nonzero()[0].tolist() == [60, 64]  # at tick 12
    assert performer.network.next_sounding.nonzero()[0].tolist() == [60]  # at tick 18


def test_restore_brings_the_conditions_back(exported: tuple[Path, float]) -> None:
    performer = Performer(seed=2, folder=exported[0])
    told = {"condition": v.condition(np.eye(12)[3]), "ahead": v.ahead(np.eye(2, 12)), "controls": v.controls(2.0)}
    for _ in range(5):
        performer.feed(performer.query(Constraints(), **told))
    state = performer.snapshot()
    first = [performer.query(Constraints(), **told)]
    performer.feed(first[0])
    first.append(performer.query(Constraints(), **told))
    performer.reset()
    performer.restore(state)
    again = [performer.query(Constraints(), **told)]
    performer.feed(again[0])
    again.append(performer.query(Constraints(), **told))
    assert again == first


def test_what_is_exported_plays(exported: tuple[Path, float]) -> None:
    performer = Performer(folder=exported[0])
    for _ in range(10):
        performer.feed(performer.query(Constraints("C major")))
    assert performer.n_nan == 0


def test_a_second_export_keeps_the_other_models(exported: tuple[Path, float], trained: tuple[Path, list[float]]) -> None:
    target, _ = exported
    before = zoo.manifest(target)
    export.export(train.restore(trained[0] / "checkpoint.pt")[0], target, "second", {}, {})
    after = zoo.manifest(target)
    assert {k: after[k] for k in before} == before
    assert set(after) - set(before) == {"second", "second-pitch", "second-duration"}


@pytest.mark.parametrize("name", ["performer", "performer-int8"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_model_of_the_zoo_becomes_the_network_again(tmp_path: Path, name: str, layers: int) -> None:
    """Torch with the weights read back gives the logits of the files, up to what int8 rounds on the way."""
    torch.manual_seed(layers)
    export.export(network.Network(32, layers), tmp_path, "performer", {}, {})
    int8.add(tmp_path, "performer")
    again = imported.network(name, tmp_path)
    golden = export.golden(again)
    files = {name + graph: zoo.load_model(name + graph, tmp_path)[0] for graph in export.GRAPHS}
    assert export.replay(files, name, golden) < (1e-5 if name == "performer" else 0.05)


def test_a_run_and_the_model_made_of_it_score_the_same(
    folder: Path, trained: tuple[Path, list[float]], exported: tuple[Path, float]
) -> None:
    def score(checkpoint: Path) -> dict[str, Any]:
        return evaluate.score_performer(evaluate.parser().parse_args(["--data", str(folder), "--checkpoint", str(checkpoint)]))

    of_run, of_model = score(trained[0]), score(exported[0] / "performer")
    assert of_model["chart"]["note"] == pytest.approx(of_run["chart"]["note"], abs=1e-3)
    assert of_model.keys() == of_run.keys()


def test_training_goes_on_from_a_model_of_the_zoo(folder: Path, tmp_path: Path, exported: tuple[Path, float]) -> None:
    """The first loss is that of the exported network, not that of a new one."""
    fresh = train.train(settings(folder, tmp_path / "fresh", "--steps", "1"))
    tuned = train.train(settings(folder, tmp_path / "tuned", "--steps", "1", "--start", str(exported[0] / "performer")))
    assert tuned[0] < 0.8 * fresh[0]


def test_a_manifest_says_which_model_a_training_began_with(folder: Path, tmp_path: Path, exported: tuple[Path, float]) -> None:
    train.train(settings(folder, tmp_path, "--steps", "1", "--start", str(exported[0] / "performer")))
    export.main(export.parser().parse_args([str(folder), str(tmp_path), str(tmp_path), "--name", "mine"]))
    assert zoo.manifest(tmp_path)["mine"]["training"] == "1 steps of 4 x 32 events, seed 1, from performer"


@pytest.mark.parametrize("start", ["no such model", "{tmp}/nothing", "{tmp}"])
def test_what_cannot_be_started_from_is_named(folder: Path, tmp_path: Path, start: str) -> None:
    start = start.format(tmp=tmp_path)
    with pytest.raises(SystemExit, match=Path(start).name):
        train.train(settings(folder, tmp_path / "run", "--steps", "1", "--start", start))


def deafen(folder: Path, name: str, *inputs: str) -> None:
    """Make of model "performer" in this zoo one that was trained without some inputs: they are 0 for good."""
    files: dict[str, Path] = {}
    for part in export.GRAPHS:
        model = onnx.load(folder / f"performer{part}.onnx")
        for there in [x for x in model.graph.input if x.name in inputs]:
            model.graph.input.remove(there)
            shape = tuple(d.dim_value for d in there.type.tensor_type.shape.dim)
            kind = np.int64 if there.type.tensor_type.elem_type == onnx.TensorProto.INT64 else np.float32
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(shape, kind), there.name))
        files[name + part] = folder / f"{name}{part}.onnx"
        onnx.save(model, files[name + part])
    export.enter(folder, name, files, {"hidden_size": 32, "layers": 1})


@pytest.fixture(scope="module")
def deaf(exported: tuple[Path, float], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deaf")
    for path in exported[0].glob("performer*"):
        shutil.copy(path, folder)
    deafen(folder, "old", "bar", "metre", "part", "ahead", "controls", "last", "sounding")
    return folder


def test_a_model_without_the_present_conditions_cannot_be_started_from(deaf: Path) -> None:
    with pytest.raises(SystemExit, match="trained without ahead, bar, controls, metre, part, sounding"):
        imported.network("old", deaf)


def test_a_model_without_the_present_conditions_plays(deaf: Path) -> None:
    performer = Performer("old", folder=deaf)
    assert performer.network.takes == set()
    for _ in range(5):
        performer.feed(performer.query(Constraints("C major"), v.condition(np.eye(12)[0])))
    assert performer.n_nan == 0


@pytest.mark.parametrize("wish", [{"ahead": v.ahead(np.ones((2, 12)))}, {"controls": v.controls(2.0)}])
def test_wishes_that_a_model_would_not_hear_are_refused(deaf: Path, wish: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="trained without it"):
        Performer("old", folder=deaf).query(Constraints(), **wish)


def test_a_part_that_a_model_would_not_hear_is_refused(deaf: Path) -> None:
    with pytest.raises(ConfigError, match="trained without it"):
        Performer("old", folder=deaf, part="upper")
