"""The whole recipe as one command, in small: samples in, models out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import stemclips
from stemsfolder import write_folder

from rtserver import zoo

pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")
pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): the export is not tested")

from models.separation import recipe, recordings

SMALL = ["--hidden=16", "--hops=24", "--chunks=2", "--check=1", "--checks=1"]


def cook(stems: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    sizes = ["--pool-minutes", "2", "--processes", "1", "--batch", "2", "--workers", "1"]
    return subprocess.run(
        [sys.executable, "-m", "models.separation.recipe", str(stems), "--out", str(out), *sizes, *more, *SMALL],
        cwd=Path(__file__).parents[2], env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def stems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("stems"))


def test_samples_become_models_and_a_second_run_goes_on(stems: Path, tmp_path: Path) -> None:
    first = cook(stems, tmp_path, "--steps", "2")
    assert first.returncode == 0, first.stderr
    entries = zoo.manifest(tmp_path / "zoo")
    assert set(entries) == {"stems3", "stems3-int8", "hp", "hp-int8"}
    assert all(entry["blend"] == 0.1 for entry in entries.values())
    assert all(
        entry["licence"] == "not stated" and "Samples: drums/muldjord (licence not stated)" in entry["data"] for entry in entries.values()
    )
    made = (tmp_path / "pool" / "excerpts.jsonl").stat().st_mtime_ns
    again = cook(stems, tmp_path, "--steps", "3")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "pool" / "excerpts.jsonl").stat().st_mtime_ns == made
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "train.log").read_text().splitlines()]
    assert steps[0] == 2 and steps[-1] == 3


def test_two_stems_of_a_model_that_is_there(stems: Path, tmp_path: Path) -> None:
    done = cook(stems, tmp_path, "--minutes", "0.02", "--start", "stems3", "--stems", "hp", "--licence", "CC0 1.0")
    assert done.returncode == 0, done.stderr
    entries = zoo.manifest(tmp_path / "zoo")
    assert set(entries) == {"hp", "hp-int8"}
    assert all(entry["training"].endswith(", from stems3") for entry in entries.values())
    assert all(entry["licence"] == "CC0 1.0" and zoo.manifest()["stems3"]["data"] in entry["data"] for entry in entries.values())


def before_the_pool(out: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> str:
    """What the recipe ends with that may not make a pool."""
    monkeypatch.setattr(recipe.pool, "main", lambda _: sys.exit("it makes the pool"))
    with pytest.raises(SystemExit) as stopped:
        recipe.cook(*recipe.parser().parse_known_args(["STEMS", "--out", str(out), "--batch", "2", "--workers", "1", *SMALL, *more]))
    return str(stopped.value)


def test_a_pool_that_vanished_is_named(stems: Path, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "whole").touch()
    done = cook(stems, tmp_path, "--steps", "2")
    assert done.returncode == 1 and "remove the folder" in done.stderr


@pytest.mark.parametrize(
    "more", ["--nope", "--batch=3 --workers=2", "--device=cuda:99", "--start=nope", "--clips=nowhere", "--steps=0", "--blend=2"]
)
def test_what_is_wrong_is_said_before_the_pool_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    assert before_the_pool(tmp_path / "out", monkeypatch, *more.split()) != "it makes the pool"
    assert not (tmp_path / "out").exists()


def test_clips_that_cannot_be_measured_are_named_before_the_pool_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = stemclips.write(tmp_path / "clips" / "made_a", {"bass": stemclips.stems(1.0, 0)["bass"]})
    told = before_the_pool(tmp_path / "out", monkeypatch, "--clips", str(tmp_path / "clips"))
    assert told.startswith(f"{clip}: expected drums")


def test_that_samples_have_no_vocals_is_said_before_the_pool_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = before_the_pool(tmp_path, monkeypatch, "--stems", "stems4")
    assert told.startswith(
        f"STEMS: samples have no vocals, which four stems need: import tracks that have them into {tmp_path / 'pool'} first"
    )


def test_tracks_that_were_imported_before_bring_vocals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(2):  # one is for validation
        stemclips.write(tmp_path / "tracks" / f"t{i}", stemclips.stems(2.0, i))
    recordings.main([str(tmp_path / "tracks"), "--out", str(tmp_path / "pool")])
    assert before_the_pool(tmp_path, monkeypatch, "--stems", "stems4") == "it makes the pool"
