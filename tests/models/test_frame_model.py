"""The frame model of the published benchmarks, on small piano rolls made here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")

from models.generation import evaluate as evaluation  # noqa: E402
from models.generation import frame_data, frame_evaluate, frame_marginals, frame_network, frame_tcn, frame_train  # noqa: E402  (needs torch)

Roll = np.ndarray


def roll(rng: np.random.Generator, n: int) -> Roll:
    """A triad that moves along a scale, a frame each."""
    piece = np.zeros((n, frame_data.N_KEYS), np.uint8)
    root = 30 + int(rng.integers(0, 12))
    for t in range(n):
        piece[t, [root + t % 5, root + t % 5 + 4, root + t % 5 + 7]] = 1
    return piece


@pytest.fixture(scope="module")
def benchmark_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    for split, n in zip(frame_data.SPLITS, (12, 4, 5), strict=True):
        pieces = [roll(rng, int(rng.integers(20, 40))) for _ in range(n)]
        columns[split] = np.packbits(np.concatenate(pieces), axis=1)
        columns[f"{split}_len"] = np.array([len(p) for p in pieces])
    path = tmp_path_factory.mktemp("frames") / "made.npz"
    np.savez_compressed(path, **columns)
    return path


def settings(data: Path, out: Path, *more: str) -> Any:
    tiny = ["--hidden", "24", "--layers", "1", "--dropout", "0.1", "--batch", "4", "--window", "24", "--checks", "1", "--rate", "0.02"]
    return frame_train.parser().parse_args([str(data), "--out", str(out), *tiny, *more])


@pytest.fixture(scope="module")
def trained(benchmark_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[float]]]:
    out = tmp_path_factory.mktemp("run")
    return out, frame_train.train(settings(benchmark_file, out, "--steps", "60", "--members", "2"))


def batch_of(*pieces: Roll) -> frame_data.Batch:
    return frame_data.collate([(p, *frame_data.past(p, frame_data.ages(p))) for p in pieces]).to("cpu")


def test_the_splits_come_back_as_they_were_packed(benchmark_file: Path) -> None:
    splits = frame_data.load(benchmark_file)
    assert [len(splits[s]) for s in frame_data.SPLITS] == [12, 4, 5]
    assert all(p.shape[1] == 88 and p.sum(axis=1).tolist() == [3] * len(p) for s in splits.values() for p in s)


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(SystemExit, match=r"other\.npz.*train_len"):
        frame_data.load(tmp_path / "other.npz")


def test_what_is_seen_is_past_only() -> None:
    piece = roll(np.random.default_rng(1), 40)
    changed = piece.copy()
    changed[20:] = 0
    a, b = (frame_data.past(p, frame_data.ages(p))[0] for p in (piece, changed))
    np.testing.assert_array_equal(a[:21], b[:21])
    assert (a[21:] != b[21:]).any()


def test_a_window_sees_what_lies_before_it() -> None:
    piece = roll(np.random.default_rng(1), 40)
    age = frame_data.ages(piece)
    whole, part = frame_data.past(piece, age), frame_data.past(piece, age, a=25, b=33)
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_array_equal(a[25:33], b)


def test_ages_count_frames_held() -> None:
    piece = np.zeros((6, 88), np.uint8)
    piece[[0, 1, 2, 4], 40] = 1
    assert frame_data.ages(piece)[:, 40].tolist() == [1, 2, 3, 0, 1, 0]


@given(st.integers(-30, 30), st.integers(0, 2**32 - 1))
def test_a_transposition_that_fits_comes_back(shift: int, seed: int) -> None:
    piece = (np.random.default_rng(seed).random((5, 88)) < 0.1).astype(np.uint8)
    assert frame_data.fits(piece, shift) == bool((frame_data.transpose(frame_data.transpose(piece, shift), -shift) == piece).all())


@given(st.integers(0, 2**32 - 1))
def test_the_tokens_of_a_frame_descend_and_end(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pieces = [(rng.random((int(rng.integers(1, 6)), 88)) < 0.05).astype(np.uint8) for _ in range(3)]
    batch = batch_of(*pieces)
    size = batch.real.shape[1]
    for row, piece in enumerate(pieces):
        for t, frame in enumerate(piece):
            mine = batch.tokens[batch.frame_of == row * size + t].tolist()
            assert mine == [*np.flatnonzero(frame)[::-1].tolist(), frame_data.END]
    assert len(batch.tokens) == sum(int(p.sum()) + len(p) for p in pieces)


def test_a_frame_of_the_joint_head_is_normalised() -> None:
    """With all keys but five ruled out, the 32 sets of the five have probabilities that sum to one."""
    torch.manual_seed(0)
    network = frame_network.FrameNetwork("joint", 16).eval()
    with torch.no_grad():
        network.out.bias[5 : frame_data.N_KEYS] = -1e9
    start = roll(np.random.default_rng(2), 3)
    total = 0.0
    for code in range(32):
        piece = start.copy()
        piece[2] = 0
        piece[2, [k for k in range(5) if code >> k & 1]] = 1
        total += float(torch.exp(-network.nats(batch_of(piece))[0, 2].double()).detach())
    assert total == pytest.approx(1.0, abs=1e-5)


def test_the_convolutions_see_the_past_alone_and_as_much_of_it_as_they_say() -> None:
    network = frame_tcn.FrameTcn(8, layers=3).eval()
    piece = roll(np.random.default_rng(4), 60)
    changed = piece.copy()
    changed[20] = 1 - changed[20]
    with torch.no_grad():
        a, b = (network.key_logits(frame_data.collate([(p, *frame_data.past(p, frame_data.ages(p), network.lags))]).to("cpu"))[0]
                for p in (piece, changed))  # fmt: skip
    differ = (a != b).any(-1).nonzero().flatten().tolist()
    reach = 1 + 2 * (frame_tcn.SIZE - 1) * (2**3 - 1)
    assert min(differ) == 21
    assert max(differ) == 20 + reach


def test_the_loss_falls(trained: tuple[Path, list[list[float]]]) -> None:
    for losses in trained[1]:
        assert len(losses) == 60
        assert losses[-1] < 0.8 * losses[0]


def test_the_members_differ(trained: tuple[Path, list[list[float]]]) -> None:
    a, b = frame_evaluate.members(trained[0])
    assert float((a.into.weight - b.into.weight).abs().max().detach()) > 1e-3


def test_the_same_seed_trains_the_same(benchmark_file: Path, tmp_path: Path, trained: tuple[Path, list[list[float]]]) -> None:
    again = frame_train.train(settings(benchmark_file, tmp_path, "--steps", "60"))
    assert again[0][:3] == trained[1][0][:3]


def test_helpers_draw_batches(benchmark_file: Path, tmp_path: Path) -> None:
    losses = frame_train.train(settings(benchmark_file, tmp_path, "--steps", "3", "--workers", "2"))
    assert len(losses[0]) == 3


def test_a_run_by_the_clock_ends_and_leaves_its_weights(benchmark_file: Path, tmp_path: Path) -> None:
    frame_train.train(settings(benchmark_file, tmp_path, "--minutes", "0.02"))
    assert len(frame_evaluate.members(tmp_path)) == 1


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_the_weights_of_a_mixture_look_back_only(seed: int, trust: float) -> None:
    log = np.random.default_rng(seed).normal(-5.0, 2.0, (3, 6))
    w = frame_evaluate.weights(log, trust)
    np.testing.assert_allclose(w.sum(axis=0), 1.0)
    log[:, 3:] -= 1.0 + np.arange(3)[:, None]
    np.testing.assert_allclose(frame_evaluate.weights(log, trust)[:, :4], w[:, :4])


def test_keys_that_fall_off_the_keyboard_count_as_impossible(trained: tuple[Path, list[list[float]]]) -> None:
    networks = frame_evaluate.members(trained[0])
    piece = np.zeros((4, 88), np.uint8)
    piece[2, 86] = 1
    log, _ = frame_evaluate.components(networks, [piece], [0, 3])[0]
    assert log.shape == (4, 4)  # networks x shifts, frames
    assert np.isneginf(log[[1, 3], 2]).all() and np.isfinite(log[[0, 2]]).all()
    assert np.isfinite(frame_evaluate.mix([(log, None)], 0.5)["logp"]).all()


def test_marginals_are_those_of_the_joint(trained: tuple[Path, list[list[float]]]) -> None:
    """By enumeration: of a network whose frames hold one of five keys, or two, all frames can be summed."""
    network = frame_evaluate.members(trained[0])[0]
    keys = torch.tensor([30, 34, 37, 41, 44])
    barred = torch.ones(frame_data.N_KEYS, dtype=torch.bool)
    barred[keys] = False
    with torch.no_grad():
        network.out.bias[: frame_data.N_KEYS][barred] = -1e4
    history = np.zeros((3, 88), np.uint8)
    history[0, [30, 37]] = history[1, [34, 41]] = 1
    expected, mass = np.zeros(88), 0.0
    for bits in range(32):
        piece = history.copy()
        chosen = keys[[k for k in range(5) if bits >> k & 1]].numpy()
        piece[2, chosen] = 1
        with torch.no_grad():
            p = float(network.log_joint(batch_of(piece))[0, 2].exp())
        expected[chosen] += p
        mass += p
    assert mass == pytest.approx(1.0, abs=1e-4)
    found = frame_marginals.marginals(network, batch_of(history, history[:2]), 4000)
    assert found.shape == (2, 3, 88)
    np.testing.assert_allclose(found[0, 2].numpy(), expected, atol=0.03)


def test_joint_and_bernoulli_networks_mix_key_by_key(benchmark_file: Path, tmp_path: Path, trained: tuple[Path, list[list[float]]]) -> None:
    frame_train.train(settings(benchmark_file, tmp_path, "--steps", "5", "--head", "bernoulli"))
    runs = ["--checkpoint", str(trained[0] / "member-1.pt"), str(tmp_path)]
    command = ["--model", "lstm", "--data", str(benchmark_file), *runs]
    with pytest.raises(SystemExit, match="--draws"):
        evaluation.score_lstm(evaluation.parser().parse_args(command))
    scored = evaluation.score_lstm(evaluation.parser().parse_args([*command, "--draws", "4"]))
    assert (scored["head"], scored["members"]) == ("bernoulli", 2)


@pytest.mark.parametrize(("head", "array", "shape"), [("joint", "logp", ()), ("bernoulli", "probs", (88,)), ("tcn", "probs", (88,))])
def test_predictions_are_written_for_every_frame(
    benchmark_file: Path, tmp_path: Path, head: str, array: str, shape: tuple[int, ...]
) -> None:
    frame_train.train(settings(benchmark_file, tmp_path, "--steps", "5", "--head", head))
    out = tmp_path / "pred.npz"
    command = ["--model", "lstm", "--data", str(benchmark_file), "--split", "test", "--checkpoint", str(tmp_path), "-o", str(out)]
    scored = evaluation.score_lstm(evaluation.parser().parse_args([*command, "--shifts", "1"]))
    pieces = frame_data.load(benchmark_file)["test"]
    predicted = dict(np.load(out))
    assert list(predicted) == [array]
    assert predicted[array].shape == (sum(len(p) for p in pieces), *shape)
    assert scored["low"] <= scored["nats"] <= scored["high"]
    assert scored["nats"] == pytest.approx(frame_evaluate.figure(pieces, predicted)["nats"])


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="member-0"):
        frame_evaluate.members(tmp_path)
