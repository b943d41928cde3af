"""SDR as the published figures of MUSDB18 have it, beside museval itself; and the folder of MUSDB18-HQ measured for real, in small."""

import ast
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from stemclips import RATE, stems, write

from models.separation import bsseval, musdb, recordings
from models.separation.bsseval import frames_sdr, median_sdr
from rtserver import zoo

needs_museval = pytest.mark.skipif(importlib.util.find_spec("museval") is None, reason="museval is not installed (make setup-train)")


def package(name: str) -> Path:
    spec = importlib.util.find_spec(name)  # musdb itself cannot be imported without ffmpeg
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Three sources of 3.4 s, the first silent for a second, and poor estimates of them."""
    sounds = stems(3.4, 1)
    wanted = np.stack([sounds[k] for k in ("drums", "bass", "other")])
    rng = np.random.default_rng(0)
    return wanted, (0.8 * wanted + 0.2 * wanted[::-1] + 0.01 * rng.standard_normal(wanted.shape)).astype(np.float32)


@needs_museval
def test_museval_says_the_same(pair: tuple[np.ndarray, np.ndarray]) -> None:
    ours, theirs = (frames_sdr(*pair, RATE, by_museval=by) for by in (False, True))
    assert ours.shape == theirs.shape == (3, 3)
    np.testing.assert_allclose(ours, theirs, rtol=0.0, atol=1e-9)
    assert np.isnan(ours[:, 1]).all() and not np.isnan(ours[:, [0, 2]]).any(), "a frame in which one source is silent counts for none"


@needs_museval
def test_a_frame_is_as_long_as_in_the_published_figures() -> None:
    tree = ast.parse((package("museval") / "__init__.py").read_text())
    (function,) = (f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name == "eval_mus_track")
    names = [a.arg for a in function.args.args][-len(function.args.defaults) :]
    defaults = {name: ast.literal_eval(value) for name, value in zip(names, function.args.defaults, strict=True)}
    assert (defaults["win"], defaults["hop"], defaults["mode"]) == (bsseval.FRAME_S, bsseval.FRAME_S, "v4")


@needs_museval
def test_the_tracks_kept_for_validation_are_those_that_musdb_names() -> None:
    yaml = pytest.importorskip("yaml")
    named = yaml.safe_load((package("musdb") / "configs" / "mus.yaml").read_text())["validation_tracks"]
    assert sorted(recordings.MUSDB_VALIDATION) == sorted(named)


def test_the_median_is_over_frames(pair: tuple[np.ndarray, np.ndarray]) -> None:
    wanted, got = (dict(zip("abc", of, strict=True)) for of in pair)
    first, _, third = frames_sdr(*pair, RATE)[0]
    assert median_sdr(wanted, got, RATE)["a"] == pytest.approx((first + third) / 2.0)


def test_museval_that_is_asked_for_and_missing_is_named(pair: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SystemExit, match="museval is not installed"):
        frames_sdr(*pair, RATE, by_museval=True)


@pytest.fixture(scope="module")
def musdb_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("musdb18hq")
    for seed, name in enumerate(("A - One", "B - Two", "C - Three")):
        write(root / "test" / name, stems(3.4, seed), mixture=True)
    return root


@pytest.fixture(scope="module")
def measured(musdb_folder: Path) -> musdb.Medians:
    return musdb.measure("stems3-int8", musdb_folder, "default")


def test_every_method_is_measured_on_every_track(measured: musdb.Medians) -> None:
    assert [m.split(", ")[0] for m in measured] == ["mixture", "medians", "network", "network", "oracle mask"]
    for of in measured.values():
        assert set(of) == {"A - One", "B - Two", "C - Three", musdb.MEDIAN}
        assert all(set(parts) == {"percussive", "bass", "other"} for parts in of.values())


def test_the_last_figure_is_the_median_over_tracks(measured: musdb.Medians) -> None:
    for of in measured.values():
        tracks = [parts["bass"] for name, parts in of.items() if name != musdb.MEDIAN]
        assert of[musdb.MEDIAN]["bass"] == pytest.approx(np.median(tracks), abs=1e-3)


def test_the_oracle_is_ahead_of_the_medians_and_those_of_the_mixture(measured: musdb.Medians) -> None:
    for part in ("percussive", "bass", "other"):
        mixture, medians, best = (measured[m][musdb.MEDIAN][part] for m in ("mixture", "medians", "oracle mask"))
        assert mixture < medians < best


@needs_museval
def test_by_museval_the_figures_are_the_same(musdb_folder: Path, measured: musdb.Medians) -> None:
    assert musdb.measure("stems3-int8", musdb_folder, "default", by_museval=True) == measured


def test_tracks_and_their_median_are_shown(measured: musdb.Medians) -> None:
    shown = musdb.show(measured)
    assert [line.split(",")[0] for line in shown.splitlines() if "SDR" in line] == ["| A - One", "| B - Two", "| C - Three", "| median"]
    assert f"| oracle mask | {measured['oracle mask']['median']['percussive']:.2f} |" in shown


def test_a_network_of_two_stems_is_measured_by_two_parts(musdb_folder: Path) -> None:
    found = musdb.measure("hp-int8", musdb_folder, "stage")
    assert all(set(of[musdb.MEDIAN]) == {"percussive", "harmonic"} for of in found.values())


def test_stems_are_told_apart_by_name(musdb_folder: Path, measured: musdb.Medians, tmp_path: Path) -> None:
    """The medians go by name: in whatever order a manifest has the stems, theirs are the same."""
    text = (zoo.FOLDER / zoo.MANIFEST).read_text()
    (tmp_path / zoo.MANIFEST).write_text(text.replace('stems = ["drums", "bass", "other"]', 'stems = ["bass", "drums", "other"]'))
    shutil.copy(zoo.FOLDER / "stems3-int8.onnx", tmp_path)
    found = musdb.measure(str(tmp_path / "stems3-int8"), musdb_folder, "default")
    assert found["medians"] == measured["medians"] and found["mixture"] == measured["mixture"]
    assert found["network"] != measured["network"], "its masks have other names now"


def test_the_command_prints_and_keeps_them(musdb_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="torch is not installed (make setup-train)")
    from models.separation import evaluate

    evaluate.main(evaluate.parser().parse_args(["hp-int8", "--musdb", str(musdb_folder), "--json", str(tmp_path / "f.json")]))
    kept = json.loads((tmp_path / "f.json").read_text())
    assert musdb.show(kept["figures"]["musdb"]["hp-int8"]) in capsys.readouterr().out
    assert kept["machine"]["cores"] > 0


def test_a_folder_without_tracks_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"expected test/TRACK/mixture\.wav"):
        musdb.measure("stems3-int8", tmp_path, "default")


def test_a_training_run_is_to_be_exported_first(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is a training run"):
        musdb.measure(str(tmp_path), tmp_path, "default")
