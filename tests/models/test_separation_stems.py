"""The folder of samples: what is read, what is held out, what is said when something is missing."""

import json
import shutil
from pathlib import Path

import pytest
from stemsfolder import write_folder

from models.separation.stems import STEMS, read_stems


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("stems"))


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(folder, tmp_path / "stems")


def test_training_and_validation_share_no_sample_and_no_song(folder: Path) -> None:
    train, validation = read_stems(folder, "train"), read_stems(folder, "validation")
    assert not {s.path for s in train.samples} & {s.path for s in validation.samples}
    assert not set(train.songs) & set(validation.songs)
    assert len(train.songs) + len(validation.songs) == 12


def test_what_the_folder_keeps_for_its_own_clips_is_never_read(folder: Path) -> None:
    for split in ("train", "validation"):
        stems = read_stems(folder, split)
        assert "piano/dev.flac" not in {s.path for s in stems.samples}
        assert "midi/12.mid" not in stems.songs


def test_something_of_each_stem_is_held_out(folder: Path) -> None:
    stems = read_stems(folder, "validation")
    assert {s.stem for s in stems.samples if s.collection != "loops"} == set(STEMS)
    assert {s.articulation for s in stems.samples if s.collection == "loops"} == {"arovane_beat_c", "ambi_swoosh"}


def test_all_mixes_of_a_hit_are_on_one_side(folder: Path) -> None:
    """A hit in another mix is the same performance."""
    held = {(s.instrument, s.take) for s in read_stems(folder, "validation").samples if s.collection == "muldjord"}
    assert held == {("kick", 2), ("snare", 2), ("hihat", 2)}


@pytest.mark.parametrize("file", ["manifest.csv", "splits.json"])
def test_a_missing_file_is_named(own: Path, file: str) -> None:
    (own / file).unlink()
    with pytest.raises(SystemExit, match=file):
        read_stems(own, "train")


def test_a_missing_column_is_named(own: Path) -> None:
    manifest = own / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("velocity_low", "velocity"))
    with pytest.raises(SystemExit, match="velocity_low"):
        read_stems(own, "train")


def test_splits_of_another_form_are_told(own: Path) -> None:
    (own / "splits.json").write_text(json.dumps({"train": []}))
    with pytest.raises(SystemExit, match=r"midi\.train"):
        read_stems(own, "train")


def test_an_unknown_split_is_told(folder: Path) -> None:
    with pytest.raises(SystemExit, match="validation"):
        read_stems(folder, "dev")


def test_a_sample_that_is_not_there_is_named(own: Path) -> None:
    stems = read_stems(own, "train")
    (own / stems.samples[0].path).unlink()
    with pytest.raises(SystemExit, match=Path(stems.samples[0].path).name):
        stems.audio(stems.samples[0])
