"""The training side of separation, from a pool made here to a model in a zoo and its figures."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from rtserver import zoo
from rtserver.dsp.stft import Istft, Stft
from rtserver.node import Spec
from rtserver.separation.model import read_model
from rtserver.separation.separator import Separator

torch = pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): the export is not tested")

from remixes import tiny_pool  # noqa: E402  (needs torch)

from models import loop  # noqa: E402
from models.export import to_toml  # noqa: E402
from models.separation import credits, estimates, evaluate, export, frames, imported, musdb, train, validation  # noqa: E402
from models.separation.clips import bootstrap, read_clip  # noqa: E402
from models.separation.network import Network, two_stems  # noqa: E402
from models.separation.pool import SOURCES  # noqa: E402

TINY = ["--hidden", "16", "--batch", "2", "--hops", "24", "--chunks", "2", "--check", "1", "--checks", "1"]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pool(tmp_path_factory.mktemp("pool"))


def run(pool: Path, out: Path, *more: str) -> list[float]:
    return train.train(train.parser().parse_args([str(pool), "--out", str(out), *TINY, *more]))


@pytest.fixture(scope="module")
def trained(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    out = tmp_path_factory.mktemp("run")
    return out, run(pool, out, "--steps", "80", "--rate", "0.005")


def test_training_gets_ahead_of_hpss(trained: tuple[Path, list[float]]) -> None:
    figures = loop.read(trained[0] / train.FILE)["figures"]
    assert figures["behind"] < 0.0
    assert figures["midi"]["blend 0"]["percussive"] > figures["midi"]["hpss"]["percussive"]


def of_group(example: SimpleNamespace) -> tuple[str, frames.Hops]:
    observer = frames.Observer(frames.View("stems3", magnitude=0.0, combine=True))
    return "midi", observer.observe(example, np.random.default_rng(0))


def test_a_part_that_never_sounds_is_left_out_of_the_choice() -> None:
    stems = np.random.default_rng(0).standard_normal((3, 2, 8 * 256)).astype(np.float32)
    stems[0] = 0.0
    silent = of_group(SimpleNamespace(stems=stems, notes=np.zeros((0, 4), np.float32), has_score=True))
    network = Network("stems3", 16, 1).eval()
    figures = validation.score(network, [silent])
    assert set(figures["midi"]["hpss"]) == {"harmonic", "bass", "other"} and np.isfinite(figures["behind"])
    with torch.no_grad():
        network.head.bias.fill_(float("nan"))
    assert validation.score(network, [silent])["behind"] == float("inf"), "no number is worse than any"


def test_the_same_seed_gives_the_same_losses(pool: Path, tmp_path: Path) -> None:
    assert run(pool, tmp_path / "a", "--steps", "2") == run(pool, tmp_path / "b", "--steps", "2")


def test_a_run_goes_on_from_its_checkpoint(pool: Path, tmp_path: Path) -> None:
    run(pool, tmp_path, "--steps", "2")
    before = loop.read(tmp_path / train.FILE)
    run(pool, tmp_path, "--steps", "3", "--resume", "--rate", "1e-12")
    after = loop.read(tmp_path / train.FILE)
    assert after["step"] == 3 and after["optimiser"]["state"][0]["step"] == 3
    torch.testing.assert_close(after["network"], before["network"], atol=1e-8, rtol=0.0)
    moved = {k: x.lerp(before["network"][k], 1.0 - 3.0 / 13.0) for k, x in before["average"].items()}  # a third step of a young average
    torch.testing.assert_close(after["average"], moved, atol=1e-6, rtol=1e-5)


def test_two_stems_go_on_from_a_model_of_three(pool: Path, trained: tuple[Path, list[float]], tmp_path: Path) -> None:
    run(pool, tmp_path, "--steps", "2", "--start", str(trained[0]), "--stems", "hp", "--rate", "1e-9")
    begun, _ = train.restore(tmp_path / train.FILE)
    wanted = two_stems(train.restore(trained[0] / train.FILE)[0])
    assert begun.stems == "hp"
    torch.testing.assert_close(begun.state_dict(), wanted.state_dict(), atol=1e-5, rtol=1e-4)
    folder = tmp_path / "zoo"
    folder.mkdir()
    export.main(export.parser().parse_args([str(tmp_path), str(folder), "--name", "mine"]))
    assert zoo.manifest(folder)["mine"]["training"].endswith(f"seed 1, from {trained[0].name}")
    with pytest.raises(SystemExit, match="gives harmonic, percussive: stems3 cannot be made of them"):
        run(pool, tmp_path / "more", "--steps", "1", "--start", str(tmp_path), "--stems", "stems3")


def test_every_loss_can_be_on(pool: Path, trained: tuple[Path, list[float]], tmp_path: Path) -> None:
    """Fine-tuning a trained network with the time domain and the sums of stems."""
    losses = run(pool, tmp_path, "--steps", "2", "--start", str(trained[0]), "--time", "10", "--combine", "0.5", "--magnitude", "1")
    assert np.isfinite(losses).all()
    off = ("--time", "0", "--combine", "0")
    plain = run(pool, tmp_path / "plain", "--steps", "2", "--start", str(trained[0]), "--magnitude", "1", *off)
    assert losses[0] < plain[0] - 5.0, "ten times a weighted SDR, which is -1 at best"


def by_two(pool: Path, out: Path, *more: str) -> dict[str, Any]:
    """What two processes that draw a stream each leave."""
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "-m", "models.separation.train", str(pool), "--out", str(out), *TINY, "--batch", "1", *more,
        ],
        cwd=Path(__file__).parents[2], env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return loop.read(out / train.FILE)


def test_two_processes_train_one_network(pool: Path, tmp_path: Path) -> None:
    """They do what one does that draws both streams, but for rounding."""
    both = by_two(pool, tmp_path, "--steps", "2")["network"]
    run(pool, tmp_path / "one", "--steps", "2")
    one = loop.read(tmp_path / "one" / train.FILE)["network"]
    moved = Network("stems3", 16, 2).head.bias
    assert not torch.equal(both["head.bias"], moved)
    for name, x in both.items():
        torch.testing.assert_close(x, one[name], atol=2e-4, rtol=1e-3)


def test_two_processes_end_by_one_clock(pool: Path, tmp_path: Path) -> None:
    """Each has a clock of its own, and the first one starts later; one that stopped sooner would leave the other one waiting."""
    assert by_two(pool, tmp_path, "--minutes", "0.1")["step"] > 1


def test_a_pool_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"excerpts\.jsonl is missing"):
        run(tmp_path / "nothing", tmp_path / "run")


@pytest.fixture(scope="module")
def exported(trained: tuple[Path, list[float]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    for more in (["--name", "stems3"], ["--name", "stems3-int8", "--int8"], ["--name", "hp", "--stems", "hp", "--blend", "0.4"]):
        export.main(export.parser().parse_args([str(trained[0]), str(folder), *more, "--card", "stems.md"]))
    return folder


def test_the_manifest_says_what_the_stage_needs(exported: Path) -> None:
    entries = zoo.manifest(exported)
    entry = entries["stems3"]
    assert entry["stems"] == ["drums", "bass", "other"] and entries["hp"]["stems"] == ["harmonic", "percussive"]
    assert entry["hops"] == [256, 128] and entry["network_hop"] == 256 and entry["window_size"] == 2048
    assert entry["hpss"] == {"n_past": 15, "past_step": 2, "n_around": 17}
    assert entry["inputs"]["prior"] == "float32[1,1025]" and entries["hp"]["outputs"]["masks"] == "float32[1,1025]"
    assert entries["hp"]["blend"] == 0.4 and entry["licence"] == "not stated" and entry["training"].startswith("80 steps")


def test_golden_vectors_prove_the_file(exported: Path) -> None:
    for name, entry in zoo.manifest(exported).items():
        rows = dict(np.load(exported / entry["golden"]))
        assert export.replay(exported / entry["file"], rows) <= entry["golden_within"], name
        rows["out_masks"] = rows["out_masks"] + 0.2
        assert export.replay(exported / entry["file"], rows) > entry["golden_within"]


@pytest.mark.parametrize("name", ["stems3", "hp"])
def test_weights_come_back_from_an_exported_model(trained: tuple[Path, list[float]], exported: Path, name: str) -> None:
    wanted, _ = train.restore(trained[0] / train.FILE)
    wanted = two_stems(wanted) if name == "hp" else wanted
    for start in (str(exported / name), str(exported / f"{name}.onnx")):
        found = imported.network(start).state_dict()
        assert all(torch.equal(x, found[k]) for k, x in wanted.state_dict().items())


def test_rounded_weights_and_other_networks_are_refused(exported: Path) -> None:
    with pytest.raises(SystemExit, match="rounded weights"):
        imported.network(str(exported / "stems3-int8"))
    with pytest.raises(SystemExit, match="not a separation network"):
        imported.network(str(zoo.FOLDER / "onsets.onnx"))
    with pytest.raises(SystemExit, match="no model 'stem3'"):
        imported.network(str(exported / "stem3"))


def test_what_to_start_from_instead_of_rounded_weights_is_there(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"rounded weights: start from stems3 with --stems hp$"):
        imported.network("hp-int8")
    with pytest.raises(SystemExit, match=r"rounded weights: start from stems3$"):
        imported.network("stems3-int8")
    (tmp_path / "a.onnx").write_bytes((zoo.FOLDER / "hp-int8.onnx").read_bytes())
    with pytest.raises(SystemExit, match="start from the run that it was exported from"):
        imported.network(str(tmp_path / "a.onnx"))


@pytest.fixture(scope="module")
def clips(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for name, stems in (("midi_a", ("drums", "bass", "other")), ("loop_b", ("drums", "other"))):
        (folder / name).mkdir()
        for stem in stems:
            sound = np.load(pool / f"made_5_{stem}.npy")[:, : 2 * 44100]
            soundfile.write(folder / name / f"{stem}.flac", sound.T.astype(np.float32) / 32768.0, 44100)
    return folder


@pytest.fixture(scope="module")
def figures(exported: Path, clips: Path, pool: Path) -> dict[str, Any]:
    path = exported / "figures.json"
    given = [str(exported / n) for n in ("stems3", "hp")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "has_librosa", lambda: False)  # it takes 20 s to load
        asked = ["--clips", str(clips), "--pool", str(pool), "--blends", "0", "0.5", "--each", "1", "--json", str(path)]
        evaluate.main(evaluate.parser().parse_args([*given, *asked]))
    return json.loads(path.read_text())["figures"]


def test_clips_are_scored_by_group_beside_the_references(figures: dict[str, Any]) -> None:
    table = figures["clips"]
    assert set(table["stems3, 11.6 ms"]) == {"midi", "loop"}
    assert "bass" in table["stems3, 11.6 ms"]["midi"] and "bass" not in table["stems3, 11.6 ms"]["loop"]
    assert set(table["hp, 5.8 ms, blend 0.5"]["midi"]) == {"harmonic", "percussive"}
    for ms in ("11.6 ms", "5.8 ms"):
        mixture, hpss, oracle = (table[k]["midi"]["percussive"][0] for k in ("mixture", f"causal HPSS, {ms}", f"oracle mask, {ms}"))
        assert mixture < hpss < oracle


def test_two_stems_separate_as_the_three_they_come_from(figures: dict[str, Any]) -> None:
    three, two = (figures["clips"][f"{name}, 11.6 ms"]["midi"] for name in ("stems3", "hp"))
    assert all(two[part] == pytest.approx(three[part], abs=0.02) for part in ("harmonic", "percussive"))


def test_gains_are_paired_and_bounded(figures: dict[str, Any]) -> None:
    mean, low, high = figures["gain_over_hpss"]["stems3, 11.6 ms"]["all percussive"]
    assert low <= mean <= high
    assert bootstrap([1.0, 1.0, 1.0]) == (1.0, 1.0, 1.0)


def test_pool_mixtures_are_scored_with_and_without_their_score(figures: dict[str, Any]) -> None:
    of = next(iter(figures["pool"].values()))["midi"]
    assert set(of) == {"hpss", "blend 0", "blend 0.5", "with score"}
    assert of["with score"] != of["blend 0"]


def test_torch_and_onnx_runtime_separate_alike(trained: tuple[Path, list[float]], exported: Path) -> None:
    mixture = np.random.default_rng(0).uniform(-0.3, 0.3, (2, 6000)).astype(np.float32)
    for hop in (256, 128):
        a, b = (estimates.separate(estimates.load(str(of)), mixture, hop)[0.0] for of in (trained[0], exported / "stems3"))
        np.testing.assert_allclose(a, b, atol=1e-5)
        np.testing.assert_allclose(a.sum(axis=0), mixture, atol=1e-5)


def test_a_folder_without_drums_is_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "bass.flac", np.zeros(100), 44100)
    with pytest.raises(SystemExit, match="expected drums"):
        read_clip(tmp_path)


def test_figures_of_a_model_go_into_its_manifest(figures: dict[str, Any], exported: Path) -> None:
    found = export.figures(export.read_figures(exported / "figures.json"), zoo.manifest(exported)["stems3"]["sha256"])
    assert set(found) == {"11.6 ms", "11.6 ms, blend 0.5", "5.8 ms", "5.8 ms, blend 0.5"}
    assert found["5.8 ms"] == figures["clips"]["stems3, 5.8 ms"]


def test_a_second_export_takes_the_figures_of_the_first(figures: dict[str, Any], trained: tuple[Path, Any], exported: Path) -> None:
    def again(*more: str) -> dict[str, Any]:
        export.main(export.parser().parse_args([str(trained[0]), str(folder), *more]))
        return zoo.manifest(folder)

    folder = exported / "again"
    folder.mkdir()
    given = ("--figures", str(exported / "figures.json"))
    assert again("--name", "stems3", *given)["stems3"]["figures"]["5.8 ms"] == figures["clips"]["stems3, 5.8 ms"]
    assert again("--name", "stems3-int8", "--int8")["stems3-int8"]["sha256"] == zoo.manifest(exported)["stems3-int8"]["sha256"]
    with pytest.raises(SystemExit, match="no figures of this very file"):
        again("--name", "stems3", "--int8", *given)
    assert zoo.manifest(folder)["stems3"]["weights"] == "float32", "what was refused leaves no trace"


def test_what_a_model_was_trained_on_goes_with_it(pool: Path, trained: tuple[Path, Any], exported: Path, tmp_path: Path) -> None:
    data = zoo.manifest(exported)["stems3"]["data"]
    assert data == "Samples: of a folder that is not on record. Songs: MIDI files (licence not stated)."
    assert credits.of_model(str(exported / "hp.onnx"), train.FILE) == [data]
    assert credits.of_training(pool, "stems3", tmp_path / train.FILE, False)[-1] == zoo.manifest()["stems3"]["data"], "it goes on from that"
    run(pool, tmp_path / "run", "--steps", "1")
    (tmp_path / "pool").mkdir()
    (tiny_pool(tmp_path / "pool") / SOURCES).write_text('["mine (CC0 1.0)"]')
    run(tmp_path / "pool", tmp_path / "run", "--steps", "2", "--resume")
    told = credits.of_model(str(tmp_path / "run"), train.FILE)
    assert {"Samples: mine (CC0 1.0).", "Samples: of a folder that is not on record."} <= set(told), "both pools"
    assert credits.of_model(str(tmp_path / "gone.onnx"), train.FILE) == ["What gone.onnx was trained on is not on record."]


def test_models_of_one_name_are_told_apart() -> None:
    assert evaluate.short(["a/zoo/stems3", "stems3", "a/hp"]) == {"a/zoo/stems3": "a/zoo/stems3", "stems3": "stems3", "hp": "a/hp"}


def rewritten(exported: Path, folder: Path, stems: list[str]) -> Path:
    """The model stems3 with other names in its manifest."""
    folder.mkdir(exist_ok=True)
    entry = zoo.manifest(exported)["stems3"] | {"stems": stems}
    (folder / entry["file"]).write_bytes((exported / entry["file"]).read_bytes())
    (folder / zoo.MANIFEST).write_text(to_toml({"own": entry}))
    return folder / "own"


def test_stems_are_told_apart_by_name(exported: Path, tmp_path: Path) -> None:
    mixture = np.random.default_rng(0).uniform(-0.3, 0.3, (2, 6000)).astype(np.float32)
    plain, own = (estimates.load(str(m)) for m in (exported / "stems3", rewritten(exported, tmp_path, ["other", "drums", "bass"])))
    assert own.stems == plain.stems == ("drums", "bass", "other")
    a, b = (estimates.separate(model, mixture, 256)[0.0] for model in (plain, own))
    np.testing.assert_array_equal(b, a[[1, 2, 0]], "its first mask is called other")


def test_stems_that_cannot_be_scored_are_named(exported: Path, tmp_path: Path) -> None:
    path = rewritten(exported, tmp_path, ["drums", "guitar", "other"])
    with pytest.raises(
        SystemExit, match=r"own gives drums, guitar, other: what can be scored here is harmonic, percussive; or drums, bass"
    ):
        estimates.load(str(path))
    (tmp_path / "test" / "a").mkdir(parents=True)
    with pytest.raises(SystemExit, match="gives drums, guitar, other"):
        musdb.measure(f"{tmp_path}/stems3.onnx", tmp_path, "default")


@pytest.mark.parametrize("hop", [256, 128])
@pytest.mark.parametrize("name", ["stems3", "hp"])
def test_what_is_measured_is_what_plays(exported: Path, name: str, hop: int) -> None:
    """From when the medians have forgotten what they took the past to be: 0.5 s."""
    mixture = np.random.default_rng(0).uniform(-0.3, 0.3, (2, 40 * 1024)).astype(np.float32)
    nodes = [Stft(2048, hop, 2 * hop), Separator(read_model(str(exported / f"{name}.onnx")), blend=0.3), Istft(2048, hop, 2 * hop)]
    specs = [Spec.signal(44100, 2, hop)]
    for node in nodes:
        specs.append(node.prepare(specs[-1]))
    out = np.zeros((*specs[-1].shape[:2], mixture.shape[1]), np.float32)
    arrays = [spec.empty() for spec in specs]
    for at in range(0, mixture.shape[1], hop):
        arrays[0][...] = mixture[:, at : at + hop]
        for node, x, y in zip(nodes, arrays[:-1], arrays[1:], strict=True):
            node.process(x, y)
        out[:, :, at : at + hop] = arrays[-1]
    measured = estimates.separate(estimates.load(str(exported / name)), mixture, hop, (0.3,))[0.3]
    np.testing.assert_allclose(out[:, :, hop + 22050 :], measured[:, :, 22050:-hop], atol=1e-4)


def test_the_models_of_the_zoo_are_networks_that_training_can_go_on_from() -> None:
    assert imported.network("stems3").hidden == 384
    assert {n: zoo.manifest()[n]["blend"] for n in ("stems3", "stems3-int8", "hp-int8")} == {
        "stems3": 0.1,
        "stems3-int8": 0.1,
        "hp-int8": 0.1,
    }
