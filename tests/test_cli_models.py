"""rtserver models: what networks there are, whether they are what they say, how long they take."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from separators import make

from rtserver import cli, zoo
from rtserver.separation.model import read_model
from rtserver.separation.network import Heard, SeparationNetwork

WHOLE = [name for name, entry in zoo.manifest().items() if "part_of" not in entry]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): no model can be built to be loaded")
    return make(tmp_path / "mine", "mine", facts={"golden": "mine.golden.npz", "golden_within": 1e-4})


def prove(path: Path, off: float = 0.0) -> None:
    """Leave golden vectors beside a model."""
    network, rng = SeparationNetwork(read_model(str(path))), np.random.default_rng(0)
    rows: dict[str, list[np.ndarray]] = {"in_features": [], "in_prior": [], "out_masks": []}
    for _ in range(4):
        heard = Heard(rng.random(440).astype(np.float32), rng.random(1025).astype(np.float32))
        network.run(0, heard)
        for name, x in (("in_features", heard.features), ("in_prior", heard.prior), ("out_masks", network.masks + np.float32(off))):
            rows[name].append(x.copy())
    np.savez(path.with_suffix(".golden.npz"), **{name: np.stack(x) for name, x in rows.items()})


def renamed(path: Path, place: Path, names: dict[str, str]) -> Path:
    """A copy of a network with other names of values."""
    import onnx

    network = onnx.load(str(path))
    for end in (*network.graph.input, *network.graph.output):
        end.name = names.get(end.name, end.name)
    for node in network.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]
    onnx.save(network, str(place))
    return place


def said(capsys: pytest.CaptureFixture[str], code: int, *argv: object) -> str:
    assert cli.main([str(a) for a in argv]) == code
    return capsys.readouterr().out


def test_list_tells_of_every_file_of_the_zoo(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(said(capsys, 0, "models", "list", "--json"))
    assert [row["name"] for row in rows] == list(zoo.manifest())
    assert all(row["bytes"] > 0 and row["kind"] and row["licence"] for row in rows)
    lines = said(capsys, 0, "models", "list").splitlines()
    assert [line.split()[0] for line in lines] == list(zoo.manifest())


def test_what_rtserver_brings_is_proved(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(said(capsys, 0, "models", "verify", "--json"))
    assert [row["name"] for row in rows] == WHOLE
    assert all(row["ok"] and row["difference"] < 0.2 for row in rows)


def test_a_model_of_ones_own_is_proved_by_its_golden_vectors(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prove(mine)
    assert re.match(r"ok    mine: largest difference", said(capsys, 0, "models", "verify", mine))


def test_a_model_that_computes_something_else_fails_with_1(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prove(mine, off=0.01)
    (row,) = json.loads(said(capsys, 1, "models", "verify", mine, "--json"))
    assert not row["ok"] and "by 0.01, expected at most 0.0001" in row["detail"]


def test_golden_vectors_of_another_shape_fail_with_1(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(mine.with_suffix(".golden.npz"), out_masks=np.zeros((2, 2, 1025), np.float32))
    assert "FAIL  mine: " in said(capsys, 1, "models", "verify", mine)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x93NUMPY"])
def test_golden_vectors_that_are_damaged_fail_with_1(content: bytes, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine.with_suffix(".golden.npz").write_bytes(content)
    assert re.search(r"^FAIL  mine: .*mine\.golden\.npz cannot be read: ", said(capsys, 1, "models", "verify", mine))


@pytest.mark.parametrize("masks", [np.zeros((2, 3), np.float32), np.full((2, 2, 1025), "x")])
def test_golden_vectors_of_other_shapes_or_types_fail_with_1(masks: np.ndarray, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"in_features": np.zeros((2, 440), np.float32), "in_prior": np.zeros((2, 1025), np.float32)}
    np.savez(mine.with_suffix(".golden.npz"), out_masks=masks, **rows)
    assert "has other arrays than a model of kind 'separation' expects" in said(capsys, 1, "models", "verify", mine)


@pytest.mark.parametrize("n_masks", [1, 9])
def test_golden_vectors_of_unequal_length_fail_with_1(n_masks: int, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"in_features": np.zeros((2, 440), np.float32), "in_prior": np.zeros((2, 1025), np.float32)}
    np.savez(mine.with_suffix(".golden.npz"), out_masks=np.zeros((n_masks, 2, 1025), np.float32), **rows)
    assert "expected as many rows in every array" in said(capsys, 1, "models", "verify", mine)


def test_golden_vectors_without_rows_prove_nothing(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = {"in_features": (0, 440), "in_prior": (0, 1025), "out_masks": (0, 2, 1025)}
    np.savez(mine.with_suffix(".golden.npz"), **{name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    assert "which proves nothing" in said(capsys, 1, "models", "verify", mine)


def test_a_network_that_gives_nan_is_not_proved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): no model can be built to be loaded")
    path = make(tmp_path / "mine", "mine", poison=True, facts={"golden": "mine.golden.npz"})
    rows = {"in_features": np.ones((2, 440), np.float32), "in_prior": np.zeros((2, 1025), np.float32)}
    np.savez(path.with_suffix(".golden.npz"), out_masks=np.zeros((2, 2, 1025), np.float32), **rows)
    assert "what is no finite number" in said(capsys, 1, "models", "verify", path)


def test_a_model_of_no_known_kind_is_not_proved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): no model can be built to be loaded")
    path = make(tmp_path / "mine", "mine", facts={"kind": None})
    assert "'mine': no way is known to step a model of kind ''" in said(capsys, 1, "models", "verify", path)


def test_bench_times_the_network_and_whole_hops(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, 0, "models", "bench", mine, "--runs", "5", "--json"))
    assert list(found["mine"]) == ["network", "hop, preset stage", "hop, preset default"]
    assert all(0 < row["p50_us"] <= row["p99_us"] <= row["max_us"] for row in found["mine"].values())


def test_bench_times_every_network_that_rtserver_brings(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(json.loads(said(capsys, 0, "models", "bench", "--runs", "2", "--json"))) == WHOLE


def test_what_describe_prints_is_the_manifest_that_is_missing(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tomllib.loads((mine.parent / zoo.MANIFEST).read_text())["mine"]
    text = said(capsys, 0, "models", "describe", mine, "--stems", "drums,bass,other")
    (mine.parent / zoo.MANIFEST).write_text(text)
    assert read_model(str(mine)).stems == ("drums", "bass", "other")
    found = tomllib.loads(text)["mine"]
    assert {key: found[key] for key in ("file", "sha256", "kind", "inputs", "outputs")} == {
        key: before[key] for key in ("file", "sha256", "kind", "inputs", "outputs")
    }


@pytest.mark.parametrize("name", ["mine.v2", "my net", 'so "called"', "é\\"])
@pytest.mark.parametrize("state", ["/lstm/h", "h:0", "h.1", "h"])
def test_what_describe_prints_is_read_whatever_the_names(name: str, state: str, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = renamed(mine, mine.parent / f"{name}.onnx", {"h": state, "h_out": f"{state}_out"})
    (path.parent / zoo.MANIFEST).write_text(said(capsys, 0, "models", "describe", path, "--stems", "drums,bass,other"))
    read = read_model(str(path))
    assert (read.name, list(read.states)) == (name, [state])


@pytest.mark.parametrize(
    ("stems", "rates", "complaint"),
    [
        ("drums,other", "44100", "--stems: expected 3 names, of the 2 masks of "),
        ("a,b,c,d", "44100", "got 4: a, b, c, d"),
        ("a,b,c", "44.1k", "--rates: expected whole numbers of Hz"),
        ("a,b,dry", "44100", "no stem can be called 'dry'"),
    ],
)
def test_describe_prints_nothing_that_would_be_refused(
    stems: str, rates: str, complaint: str, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["models", "describe", str(mine), "--stems", stems, "--rates", rates]) > 0
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert not printed.out


@pytest.mark.parametrize("action", ["verify", "bench"])
def test_an_unknown_model_is_one_line(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["models", action, "nothing"])
    said = capsys.readouterr()
    assert code == 1
    assert "no model 'nothing'" in said.out + said.err
