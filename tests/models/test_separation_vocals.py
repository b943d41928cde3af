"""Four stems, from tracks with singing to a model that plays and its figures: as three."""

import json
from pathlib import Path

import numpy as np
import pytest
import stemclips

from rtserver.config import Separation
from rtserver.separation.model import read_model

torch = pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")
pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): the export is not tested")

from models.separation import evaluate, export, imported, playing, recordings, train  # noqa: E402  (needs torch)

FOUR = ("drums", "bass", "vocals", "other")
TINY = ["--stems", "stems4", "--hidden", "16", "--batch", "2", "--hops", "24", "--chunks", "2", "--check", "1", "--checks", "1"]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tracks")
    for i in range(6):  # the last one is for validation
        stemclips.write(root / f"t{i}", stemclips.stems(6.0, i))
    out = tmp_path_factory.mktemp("pool")
    recordings.main([str(root), "--out", str(out)])
    return out


@pytest.fixture(scope="module")
def run(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    train.train(train.parser().parse_args([str(pool), "--out", str(out), *TINY, "--steps", "40", "--rate", "0.01"]))
    return out


@pytest.fixture(scope="module")
def model(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    export.main(export.parser().parse_args([str(run), str(folder), "--name", "stems4", "--card", "four.md"]))
    return folder / "stems4"


def test_training_hears_a_voice(run: Path) -> None:
    log = [json.loads(line) for line in (run / "train.log").read_text().splitlines()]
    figures = next(line["figures"] for line in reversed(log) if "figures" in line)["recorded"]
    assert figures["blend 0"].keys() == {"harmonic", "percussive", "bass", "vocals", "other"}
    assert figures["blend 0"]["vocals"] > figures["hpss"]["vocals"]


def test_torchs_analysis_takes_vocals_too(pool: Path, tmp_path: Path) -> None:
    arguments = [str(pool), "--out", str(tmp_path), *TINY, "--steps", "2", "--analysis", "torch"]
    assert np.isfinite(train.train(train.parser().parse_args(arguments))).all()


def test_the_model_plays_and_its_stems_add_up(model: Path) -> None:
    name = f"{model}.onnx"
    assert read_model(name).stems == FOUR
    mixture = np.sum(list(stemclips.stems(2.0, 9).values()), axis=0)
    made = playing.play(Separation(model=name), mixture, stemclips.RATE)
    assert made.shape == (4, *mixture.shape)
    np.testing.assert_allclose(made.sum(axis=0)[:, 4096:], mixture[:, 4096:], atol=1e-5)


def test_a_training_can_go_on_from_it(model: Path) -> None:
    assert imported.network(str(model)).stems == "stems4"


def test_clips_and_musdb_are_scored_with_their_vocals(model: Path, tmp_path: Path) -> None:
    stemclips.write(tmp_path / "clips" / "song_a", stemclips.stems(3.0, 11))
    stemclips.write(tmp_path / "musdb" / "test" / "A - B", stemclips.stems(5.0, 12), mixture=True)
    out = tmp_path / "figures.json"
    given = [str(model), "stems3-int8", "--clips", str(tmp_path / "clips"), "--blends", "0", "0.5", "--json", str(out)]
    evaluate.main(evaluate.parser().parse_args(given))
    clips = json.loads(out.read_text())["figures"]["clips"]
    assert "vocals" in clips["stems4, 11.6 ms"]["song"] and "vocals" in clips["stems4, 5.8 ms, blend 0.5"]["song"]
    assert "vocals" not in clips["stems3-int8, 11.6 ms"]["song"] and "other" in clips["stems3-int8, 11.6 ms"]["song"]
    evaluate.main(evaluate.parser().parse_args([str(model), "--musdb", str(tmp_path / "musdb"), "--json", str(out)]))
    (found,) = json.loads(out.read_text())["figures"]["musdb"].values()
    assert found["network"]["median"].keys() == {"percussive", "bass", "vocals", "other"}
    assert found["medians"]["median"].keys() == {"percussive", "bass", "other"}


def test_without_singing_there_is_nothing_to_train_on(tmp_path: Path) -> None:
    sounds = stemclips.stems(2.0, 1)
    for i in range(6):
        stemclips.write(tmp_path / "tracks" / f"t{i}", {k: sounds[k] for k in ("drums", "bass", "other")})
    recordings.main([str(tmp_path / "tracks"), "--out", str(tmp_path / "pool")])
    with pytest.raises(SystemExit, match="has no vocals"):
        train.train(train.parser().parse_args([str(tmp_path / "pool"), "--out", str(tmp_path / "run"), *TINY, "--steps", "1"]))
