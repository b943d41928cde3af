"""What goes into a zoo, by any of the three exports or rounded: whole, under a name that a manifest can hold, or not at all."""

import errno
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtserver import zoo
from rtserver.zoo.proof import proved

torch = pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")
pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): the export is not tested")

from onnxruntime import quantization  # noqa: E402  (needs onnx)

from models.export import to_toml  # noqa: E402  (needs torch)
from models.following import export as following  # noqa: E402
from models.following.network import Network as OnsetNetwork  # noqa: E402
from models.generation import export as generation  # noqa: E402
from models.generation import int8  # noqa: E402
from models.generation.network import Network as EventNetwork  # noqa: E402
from models.separation import export as separation  # noqa: E402
from models.separation.network import Network  # noqa: E402

KINDS = ("separation", "generation", "following")


def put(kind: str, folder: Path, name: str = "mine", seed: int = 0, broken: bool = False) -> None:
    torch.manual_seed(seed)
    if kind == "separation":
        network = Network("hp", 8, 1)
    elif kind == "generation":
        network = EventNetwork(8, 1)
    else:
        network = OnsetNetwork()
    if broken:
        with torch.no_grad():
            next(network.parameters()).flatten()[0] = float("nan")
    if isinstance(network, Network):
        separation.export(network, folder, name, {})
    elif isinstance(network, EventNetwork):
        generation.export(network, folder, name, {}, {})
    else:
        following.export(network, np.zeros((3, 107), np.float32), folder, {}, name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["my net", "../x", "", "a.b", "a\n", "é"])
def test_a_name_that_a_manifest_cannot_hold_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    with pytest.raises(SystemExit, match="expected letters, digits"):
        put(kind, tmp_path / "zoo", name)
    assert [p.name for p in tmp_path.rglob("*")] == ["zoo"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_zoo_that_is_not_there_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="gone: expected the folder of a zoo, there is none"):
        put(kind, tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_no_zoo_and_stays(kind: str, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(SystemExit, match="notes: expected the folder of a zoo, it is a file"):
        put(kind, tmp_path / "notes")
    assert (tmp_path / "notes").read_text() == "mine"


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_that_fails_leaves_the_zoo_as_it_was(kind: str, tmp_path: Path) -> None:
    put(kind, tmp_path)
    manifest = tmp_path / zoo.MANIFEST
    manifest.write_text(manifest.read_text() + "[broken\n")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(SystemExit, match="not valid TOML"):
        put(kind, tmp_path, seed=1)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("kind", KINDS)
def test_another_export_replaces_the_first(kind: str, tmp_path: Path) -> None:
    put(kind, tmp_path)
    before = zoo.manifest(tmp_path)
    put(kind, tmp_path, seed=1)
    assert zoo.manifest(tmp_path)["mine"]["sha256"] != before["mine"]["sha256"]
    assert {p.name for p in tmp_path.iterdir()} == {zoo.MANIFEST, "mine.golden.npz", *(entry["file"] for entry in before.values())}
    assert zoo.load_model("mine", tmp_path)


def test_rounding_that_fails_leaves_the_zoo_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put("generation", tmp_path)
    int8.add(tmp_path, "mine")
    put("generation", tmp_path, seed=1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    done, real = [], quantization.quantize_dynamic

    def round_two(model: Path, target: Path, **options: Any) -> None:
        if len(done) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(model, target, **options)
        done.append(target)

    monkeypatch.setattr(quantization, "quantize_dynamic", round_two)
    with pytest.raises(OSError, match="No space left"):
        int8.add(tmp_path, "mine")
    assert len(done) == 2
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_model_to_round_that_is_not_there_is_named(tmp_path: Path) -> None:
    put("generation", tmp_path)
    with pytest.raises(SystemExit, match=r"no model 'mime' in .*did you mean 'mine'"):
        int8.add(tmp_path, "mime")


def test_a_model_that_was_rounded_later_is_proven_like_one_that_was_rounded_at_once(tmp_path: Path) -> None:
    put("generation", tmp_path)
    later = int8.add(tmp_path, "mine")
    generation.export(EventNetwork(8, 1), tmp_path, "once", {}, {}, "int8")
    entries = zoo.manifest(tmp_path)
    assert entries[later].keys() == entries["once"].keys()
    assert {k: entries[later][k] for k in ("weights", "golden_within")} == {"weights": "int8", "golden_within": generation.CLOSE_INT8}
    assert proved(later, tmp_path) is not None


def test_a_model_that_is_rounded_is_not_rounded_again(tmp_path: Path) -> None:
    generation.export(EventNetwork(8, 1), tmp_path, "mine", {}, {}, "int8")
    with pytest.raises(SystemExit, match=r"^mine in .* has int8 weights already"):
        int8.add(tmp_path, "mine")


@pytest.mark.parametrize("kind", KINDS)
def test_a_licence_that_nobody_stated_is_not_made_up(kind: str, tmp_path: Path) -> None:
    put(kind, tmp_path)
    assert {entry["licence"] for entry in zoo.manifest(tmp_path).values()} == {"not stated"}


def test_a_model_that_is_rounded_keeps_its_licence(tmp_path: Path) -> None:
    generation.export(EventNetwork(8, 1), tmp_path, "mine", {"licence": "CC BY 4.0"}, {})
    int8.add(tmp_path, "mine")
    assert [entry["licence"] for entry in zoo.manifest(tmp_path).values()] == 6 * ["CC BY 4.0"]


@pytest.mark.parametrize(("more", "licence"), [([], "MIT"), (["--licence", "CC0 1.0"], "CC0 1.0")])
def test_a_model_of_the_zoo_that_is_exported_again_keeps_its_licence(more: list[str], licence: str, tmp_path: Path) -> None:
    separation.main(separation.parser().parse_args(["stems3", str(tmp_path), "--name", "mine", "--stems", "hp", *more]))
    assert zoo.manifest(tmp_path)["mine"]["licence"] == licence


def test_a_manifest_says_what_it_was_told() -> None:
    entries = {"a.b": {"data": 'two\nlines, "quoted", \\, \t, \x7f, é', "figures": {"5.8 ms": {"é": 1.5, "all": [1, 2]}}, "new": True}}
    assert tomllib.loads(to_toml(entries)) == entries


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_no_numbers_are_not_exported(kind: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="expected finite weights, got NaN"):
        put(kind, tmp_path, broken=True)
    assert not list(tmp_path.iterdir())


def test_outputs_that_are_no_numbers_are_far_from_the_golden_vectors(tmp_path: Path) -> None:
    put("separation", tmp_path)
    rows = dict(np.load(tmp_path / "mine.golden.npz"))
    rows["out_masks"][0] = np.nan
    assert not separation.replay(tmp_path / "mine.onnx", rows) <= separation.CLOSE


@pytest.mark.parametrize("blend", ["3", "-0.1", "nan", "much"])
def test_a_blend_that_is_no_share_is_refused(blend: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        separation.parser().parse_args(["RUN", "ZOO", "--name", "mine", "--blend", blend])
    assert "argument --blend" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "what"),
    [(None, "cannot be read: No such file"), ("", "is no JSON"), ("no JSON", "is no JSON"), ("\xff", "is no JSON")]
    + [(text, "has no figures of clips") for text in ("[]", "{}", '{"figures": 3}', '{"figures": {"musdb": {}}}')],
)
def test_figures_that_are_none_are_named_before_a_model_is_read(text: str | None, what: str, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    asked = separation.parser().parse_args(["no model", str(tmp_path), "--name", "mine", "--figures", str(path)])
    with pytest.raises(SystemExit, match=f"^--figures {re.escape(str(path))} {what}.*: expected what .*--json wrote$"):
        separation.main(asked)
