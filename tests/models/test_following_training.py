"""The training side of the onset network, from a few seconds of sound to a model that the follower runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtserver import zoo
from rtserver.following.onsetnet import MODEL, N_AGES, OnsetNetwork

torch = pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")
pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): the export is not tested")

from renderings import render, write_notes  # noqa: E402

from models.following import export, train  # noqa: E402  (needs torch)
from models.following.network import Network  # noqa: E402

SMALL = ("12", "3", "12", "3", "8", "12")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    notes = write_notes(folder / "notes")
    render(notes, folder / "train")
    render(notes, folder / "valid", "--validation", "--seed", "2")
    return folder


def settings(folder: Path, out: Path, *more: str) -> Any:
    return train.parser().parse_args(
        [
            str(folder / "train"),
            str(folder / "valid"),
            "--out",
            str(out),
            "--batch",
            "4",
            "--chunk",
            "50",
            "--sizes",
            *SMALL,
            "--rate",
            "0.02",
            *more,
        ]
    )


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    out = tmp_path_factory.mktemp("run")
    return out, train.train(settings(folder, out, "--steps", "60"))


def test_ages_count_from_the_hop_of_the_onset() -> None:
    spectra = np.zeros((20, 107), np.float16)
    _, ages, sounds = train.labelled(spectra, np.array([[0.057, 0.12, 60.0, 80.0, 0.0]]))
    assert ages[:, 39].tolist() == [N_AGES] * 5 + list(range(N_AGES)) + [N_AGES] * 5
    assert np.flatnonzero(sounds[:, 39]).tolist() == list(range(5, 13))
    assert (np.delete(ages, 39, axis=1) == N_AGES).all()


def test_no_renderings_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"models\.following\.corpus"):
        train.Renderings(tmp_path)


def test_a_batch_has_eight_hops_before_those_that_are_judged(folder: Path) -> None:
    data = train.Renderings(folder / "train")
    hop = int(data.first[1]) + 100
    batch = data.batch(np.array([data.first[1], hop]), 5)
    assert batch["spectra"].shape == (2, train.CONTEXT + 5, 107)
    assert not batch["spectra"][0, : train.CONTEXT].any(), "before a rendering there is silence"
    np.testing.assert_array_equal(batch["spectra"][1].numpy(), data.spectra[hop - train.CONTEXT : hop + 5].float().numpy())
    np.testing.assert_array_equal(batch["age"][1].numpy(), data.ages[hop : hop + 5].numpy())


def test_a_stream_goes_on_where_it_was_and_forgets_only_where_it_begins_anew(folder: Path) -> None:
    data = train.Renderings(folder / "train")
    network = Network((8, 2, 8, 2, 4, 8))
    streams = train.Streams(data, 3, 100, np.random.default_rng(0))
    remembered = tuple(torch.ones_like(x) for x in network.silence(3))
    batch, state = streams.next(remembered)
    assert not any(x.any() for x in state), "at first all begin"
    for _ in range(8):
        following, state = streams.next(remembered)
        for i in range(3):
            goes_on = torch.equal(following["spectra"][i, : train.CONTEXT], batch["spectra"][i, -train.CONTEXT :])
            assert goes_on == bool(state[0][0, i].all()) == bool(state[1].view(3, -1)[i].all())
        batch = following


def test_whole_and_hop_by_hop_are_the_same(folder: Path) -> None:
    network = Network((8, 2, 8, 2, 4, 8))
    spectra = torch.rand(2, train.CONTEXT + 12, 107)
    with torch.no_grad():
        whole, _ = network(spectra, network.silence(2))
        state, steps = network.silence(2), []
        for n in range(12):
            logits, state = network(spectra[:, n : n + train.CONTEXT + 1], state)
            steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-4, rtol=1e-4)


def test_what_it_learned_is_worth_something(folder: Path, trained: tuple[Path, list[float]]) -> None:
    data = train.Renderings(folder / "train")
    network, _ = train.restore(trained[0] / "checkpoint.pt")
    assert len(trained[1]) == 60
    assert train.evaluate(network, data)["nats"] < 0.95 * train.evaluate(Network(network.sizes), data)["nats"]


def test_resume_goes_on_from_the_checkpoint(folder: Path, trained: tuple[Path, list[float]], tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes((trained[0] / "checkpoint.pt").read_bytes())
    train.train(settings(folder, tmp_path, "--steps", "3", "--resume"))
    before, after = (train.restore(path / "checkpoint.pt") for path in (trained[0], tmp_path))
    assert after[1]["step"] == 63
    assert json.loads((tmp_path / "train.log").read_text().splitlines()[-1])["step"] == 63
    moved = [float((a - b).detach().abs().max()) for a, b in zip(after[0].parameters(), before[0].parameters(), strict=True)]
    assert 0.0 < max(moved) < 0.2, "it went on from where it was, not from new weights"


def test_what_is_exported_computes_what_torch_computes(folder: Path, trained: tuple[Path, list[float]], tmp_path: Path) -> None:
    network, _ = train.restore(trained[0] / "checkpoint.pt")
    spectra = train.Renderings(folder / "valid").spectra[40:60].numpy()
    assert export.export(network, spectra, tmp_path, {"data": "made here"}) <= 1e-3
    assert zoo.manifest(tmp_path)[MODEL]["data"] == "made here"
    live = OnsetNetwork(folder=tmp_path)
    for spectrum, nats in zip(*export.golden(network, spectra).values(), strict=True):
        live.process(spectrum)
        np.testing.assert_allclose(live.nats, nats, atol=1e-3)
