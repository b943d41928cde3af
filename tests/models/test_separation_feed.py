"""Analysis by torch, and mixtures that come to it through shared memory: the same as the kernels make, in order, from real processes."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")

from remixes import tiny_pool  # noqa: E402

from models.separation import feed, frames, losses, spectra, train  # noqa: E402  (needs torch)
from models.separation.network import Network  # noqa: E402

N_HOPS = 48


def example(seed: int) -> SimpleNamespace:
    """Noise that comes and goes, over tones; on both channels something else."""
    rng = np.random.default_rng(seed)
    t = np.arange(N_HOPS * 256) / 44100
    beat = rng.standard_normal((2, len(t))) * np.exp(-30.0 * (t % 0.09))
    low, high = (np.sin(2 * np.pi * hz * t + np.array([[0.0], [0.5]])) for hz in (80.0, 623.0))
    stems = (0.1 * np.stack([beat, low, high])).astype(np.float32)
    return SimpleNamespace(stems=stems, notes=np.array([[60.0, 2000.0, 9000.0, 2.0]], np.float32), has_score=True)


def endless(rng: np.random.Generator) -> Iterator[Any]:
    while True:
        yield example(int(rng.integers(1000)))


def dies(_: np.random.Generator) -> Iterator[Any]:
    raise SystemExit(7)
    yield


@pytest.mark.parametrize("stems", ["hp", "stems3", "stems4"])
@pytest.mark.parametrize("window", range(len(frames.HOPS)))
def test_torch_sees_what_the_kernels_see(stems: str, window: int) -> None:
    view = frames.View(stems, magnitude=0.5, combine=True)
    made = example(1)
    wanted = frames.Observer(view).observe(made, np.random.default_rng(0), frames.HOPS[window])
    found = spectra.observe(torch.from_numpy(made.stems)[None], torch.tensor([window]), view)
    for name, x in found.items():
        atol = {"prior": 0.02, "features": 1e-3}.get(name, 0.05)
        np.testing.assert_allclose(x[0].numpy(), wanted[name], atol=atol, rtol=1e-4, err_msg=name)


def test_the_median_is_the_median() -> None:
    values = torch.randn(17, 300)
    torch.testing.assert_close(spectra.median(list(values)), values.median(dim=0).values)


def test_mixtures_arrive_whole_in_order_and_again() -> None:
    view = frames.View("stems3", score=1.0, time=True)

    def twice() -> list[dict[str, Any]]:
        source = feed.Feed(endless, view, [0, 1, 2, 3], 2, N_HOPS // 2, 5, 2, "cpu")
        try:
            return [source.mixtures() for _ in range(4)]  # more than there are slots
        finally:
            source.close()

    first, again = twice(), twice()
    for a, b in zip(first, again, strict=True):
        assert all(torch.equal(a[k], b[k]) for k in a)
    rng = np.random.default_rng((5, 2))  # row 2 is the second one of the first process
    for i in range(4):
        made = example(int(rng.integers(1000)))
        _ = rng.random(), rng.normal(0.0, 1.0)
        window = int(rng.integers(len(frames.HOPS)))
        rounded = np.round(made.stems * feed.FULL_SCALE) / feed.FULL_SCALE
        wanted = spectra.observe(torch.from_numpy(rounded)[None].float(), torch.tensor([window]), view, torch.zeros(1))
        torch.testing.assert_close(first[i]["power"][1], wanted["power"][0], atol=1e-3, rtol=1e-4)
        assert first[i]["score"][1, -1, -1] == 1.0 and first[i]["score"][1, 20, 60 - 21] == 1.0


def test_chunks_follow_each_other_and_say_where_the_state_starts_anew() -> None:
    source = feed.Feed(endless, frames.View("hp"), [0, 1], 3, 16, 1, 1, "cpu")
    chunks = iter(source)
    made = [next(chunks) for _ in range(4)]
    source.close()
    assert [bool(b["fresh"].all()) for b in made] == [True, False, False, True]
    assert all(b["prior"].shape == (2, 16, 1025) for b in made)


def test_a_process_that_ends_is_told_of() -> None:
    source = feed.Feed(dies, frames.View(), [0], 1, 16, 1, 1, "cpu")
    with pytest.raises(SystemExit, match="ended with status 7"):
        source.mixtures()
    source.close()


@pytest.mark.parametrize("stems", ["hp", "stems3"])
def test_nothing_is_left_behind_on_the_cpu(stems: str) -> None:
    """From the feed to the optimiser's step all is on the device that was asked for.

    The device is torch's `meta`: it computes no numbers, and refuses what lies elsewhere as a GPU does.
    """
    view = frames.View(stems, magnitude=0.5, combine=True, time=True)
    network = Network(stems, 8, 2).to("meta")
    wanted = losses.Losses(train.WEIGHTS[stems], combine=0.5, time=3.0, exponent=0.5, level=0.25)
    objective = train.Objective(network, wanted, 2, "meta")
    source = feed.Feed(endless, view, [0, 1], 2, N_HOPS // 2, 1, 1, "meta")
    chunks = iter(source)
    optimiser = torch.optim.AdamW(network.parameters())
    for _ in range(2):  # a fresh state, and one that is carried on
        loss = objective(next(chunks))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        assert loss.device.type == "meta" and all(p.grad is not None for p in network.parameters())
    source.close()
    strayed = spectra.observe(torch.from_numpy(example(1).stems)[None], torch.tensor([0]), view, torch.zeros(1))
    with pytest.raises(RuntimeError, match="device"):
        objective(strayed | {"fresh": torch.ones(1, dtype=torch.bool), "score": torch.zeros(1, N_HOPS, 177)})


ORPHANS = """
import os, signal
import numpy as np
from models.separation import feed, frames
def none(_):
    while True:
        yield None
feed._Slot.fill = lambda *_: None
source = feed.Feed(none, frames.View(), [0], 1, 16, 1, 1, "cpu")
print(source._children[0].pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_trainer_that_is_killed_leaves_no_process() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHANS], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=False)
    child = int(done.stdout)
    until = time.monotonic() + 30.0
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


def test_training_with_torchs_analysis_leaves_a_checkpoint_and_no_process(tmp_path: Path) -> None:
    tiny_pool(tmp_path)
    arguments = ["--hidden", "16", "--batch", "2", "--hops", "24", "--chunks", "2", "--check", "1", "--checks", "1", "--steps", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "models.separation.train", str(tmp_path), "--out", str(tmp_path / "run"), *arguments, "--analysis", "torch"],
        cwd=Path(__file__).parents[2], env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "checkpoint.pt").is_file()


def test_a_training_that_is_over_draws_no_more(tmp_path: Path) -> None:
    tiny_pool(tmp_path)
    arguments = ["--hidden", "16", "--batch", "2", "--hops", "24", "--chunks", "2", "--check", "1", "--checks", "1", "--steps", "2"]
    train.train(train.parser().parse_args([str(tmp_path), "--out", str(tmp_path / "run"), *arguments, "--analysis", "torch"]))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("time_domain", [0.0, 3.0])
def test_a_compiled_loss_is_the_loss(time_domain: float) -> None:
    view = frames.View("stems3", combine=True, time=True)
    wanted = losses.Losses(train.WEIGHTS["stems3"], combine=0.5, time=time_domain, exponent=0.5)
    batch = spectra.observe(torch.from_numpy(example(1).stems)[None], torch.tensor([0]), view, torch.zeros(1))
    batch |= {"fresh": torch.ones(1, dtype=torch.bool), "score": torch.zeros(1, N_HOPS, 177)}
    torch.manual_seed(1)
    network = Network("stems3", 8, 2)
    plain = train.Objective(network, wanted, 1, "cpu")(batch)
    fused = train.Objective(network, wanted, 1, "cpu")
    fused._fused = fused._of_values  # what --compile compiles
    torch.testing.assert_close(fused(batch), plain)


# Shapes of the loss


def case(error: float) -> tuple[list[Any], Any, Any, Any]:
    """One bin with power 1, of which the first stem has the share `error` that masks of 0, 0 and 1 do not give it."""
    cross = torch.tensor([error, 0.0, 1.0 - error]).view(1, 1, 3, 1)
    energy = torch.tensor([error, 0.0, 1.0 - error]).view(1, 1, 3)
    masks = [torch.full((1, 1, 1), m) for m in (0.0, 0.0, 1.0)]
    return masks, torch.ones(1, 1, 1), cross, energy


def test_a_small_exponent_rewards_a_small_error_more() -> None:
    def loss(error: float, exponent: float) -> float:
        return float(losses.spectral(*case(error), losses.Losses((1.0, 0.0, 0.0), exponent=exponent)))

    for exponent in (1.0, 0.5, 0.25):
        assert loss(0.0, exponent) == pytest.approx(0.0, abs=1e-5)
    steep = [(loss(0.02, e) - loss(0.01, e)) / (loss(0.8, e) - loss(0.4, e)) for e in (1.0, 0.5, 0.25)]
    assert steep[0] == pytest.approx(0.01 / 0.4, rel=1e-3) and steep[0] < steep[1] < steep[2]


def test_at_level_1_a_quiet_stem_counts_as_much_as_a_loud_one() -> None:
    def loss(error: float, level: float) -> float:
        return float(losses.spectral(*case(error), losses.Losses((1.0, 0.0, 0.0), level=level)))

    assert loss(0.2, 0.0) == pytest.approx(0.5 * loss(0.4, 0.0), rel=1e-3)
    assert loss(0.2, 1.0) > 0.85 * loss(0.4, 1.0)
