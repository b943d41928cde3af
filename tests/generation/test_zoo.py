"""The loader of the zoo refuses everything that is not the model of the manifest."""

import shutil
from pathlib import Path

import pytest

from rtserver import zoo
from rtserver.errors import ModelError
from rtserver.generation.performer import Performer


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    folder = tmp_path / "zoo"
    shutil.copytree(zoo.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    return folder


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / zoo.MANIFEST
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("name", zoo.manifest())
def test_every_model_of_the_manifest_is_what_it_says(name: str) -> None:
    path, entry = zoo.load_model(name)
    assert path.exists()
    assert entry["licence"]


def test_every_file_of_the_zoo_belongs_to_a_model() -> None:
    files = {entry["file"] for entry in zoo.manifest().values()}
    assert {p.name for p in zoo.FOLDER.glob("*.onnx")} == files


def test_the_card_says_what_the_manifest_says() -> None:
    entry = zoo.manifest()["performer"]
    card = (zoo.FOLDER / entry["card"]).read_text()
    for task, scores in ((k.removeprefix("nats_"), s) for k, s in entry.items() if k.startswith("nats_")):
        assert " | ".join([f"`{task}`", *(f"{scores[head]:.3f}" for head in ("dt", "pitch", "duration", "note"))]) in card
    assert entry["training"] in card and entry["data"] in card and entry["split"] in card


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="did you mean 'performer'"):
        zoo.load_model("preformer")


def test_one_altered_byte_is_refused(copied: Path) -> None:
    path = copied / "performer.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="expected sha256"):
        Performer(folder=copied)


def test_a_file_that_is_no_model_is_refused(copied: Path) -> None:
    path = copied / "performer.onnx"
    edit(copied, zoo.sha256_of(path), zoo.sha256_of(copied / zoo.MANIFEST))
    shutil.copy(copied / zoo.MANIFEST, path)
    edit(copied, zoo.manifest(copied)["performer"]["sha256"], zoo.sha256_of(path))
    with pytest.raises(ModelError, match="cannot be read as an ONNX model"):
        zoo.load_model("performer", copied)


def test_shapes_that_differ_from_the_manifest_are_refused(copied: Path) -> None:
    edit(copied, "dt_logits = ", "dt_odds = ")
    with pytest.raises(ModelError, match="dt_logits"):
        zoo.load_model("performer", copied)


def test_the_wrong_model_under_the_right_name_is_refused(copied: Path) -> None:
    """The pitch head where the step should be: a sound file, of another shape than the manifest's."""
    (copied / "performer.onnx").write_bytes((copied / "performer-pitch.onnx").read_bytes())
    entries = zoo.manifest(copied)
    edit(copied, entries["performer"]["sha256"], entries["performer-pitch"]["sha256"])
    with pytest.raises(ModelError, match="not those of the manifest"):
        Performer(folder=copied)


def test_a_model_of_another_kind_is_refused(copied: Path) -> None:
    edit(copied, 'kind = "note_events"', 'kind = "separator"')
    with pytest.raises(ModelError, match="of kind 'separator'"):
        Performer(folder=copied)


def test_a_model_of_another_vocabulary_is_refused(copied: Path) -> None:
    edit(copied, "hidden_size = ", "hidden_size = 1")
    with pytest.raises(ModelError, match="another vocabulary"):
        Performer(folder=copied)


def test_a_missing_file_is_refused(copied: Path) -> None:
    (copied / "performer.onnx").unlink()
    with pytest.raises(ModelError, match="is missing"):
        zoo.load_model("performer", copied)


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"manifest\.toml is missing"):
        zoo.load_model("performer", tmp_path)


def test_a_broken_manifest_is_refused(copied: Path) -> None:
    (copied / zoo.MANIFEST).write_text("[performer\n")
    with pytest.raises(ModelError, match="not valid TOML"):
        zoo.load_model("performer", copied)


def test_an_incomplete_entry_is_refused(copied: Path) -> None:
    edit(copied, "sha256 = ", "sha1 = ")
    with pytest.raises(ModelError, match="lacks sha256"):
        zoo.load_model("performer", copied)
