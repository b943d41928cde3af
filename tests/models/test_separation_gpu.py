"""Training on a GPU, and with what torch compiles, is training on a processor, but for rounding."""

import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")

from remixes import tiny_pool  # noqa: E402

from models.separation import train  # noqa: E402  (needs torch)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU: training on one is not tested")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler: what torch compiles is not tested")

ARGUMENTS = ["--hidden", "16", "--batch", "4", "--hops", "24", "--chunks", "2", "--workers", "2", "--analysis", "torch"]
ARGUMENTS += ["--check", "1", "--checks", "2", "--steps", "6"]


def losses(folder: Path, *arguments: str) -> list[float]:
    return train.train(train.parser().parse_args([str(folder), *ARGUMENTS, *arguments]))


@needs_gpu
def test_the_losses_are_those_of_a_processor(tmp_path: Path) -> None:
    tiny_pool(tmp_path)
    wanted = losses(tmp_path, "--out", str(tmp_path / "cpu"))
    found = losses(tmp_path, "--out", str(tmp_path / "gpu"), "--device", "cuda")
    assert len(wanted) == 6
    np.testing.assert_allclose(found, wanted, rtol=0.02)


@needs_compiler
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_compiled_they_are_the_same(device: str, tmp_path: Path) -> None:
    tiny_pool(tmp_path)
    plain = losses(tmp_path, "--out", str(tmp_path / "plain"), "--device", device)
    compiled = losses(tmp_path, "--out", str(tmp_path / "compiled"), "--device", device, "--compile")
    assert len(plain) == 6
    np.testing.assert_allclose(compiled, plain, rtol=0.02)


@needs_gpu
def test_a_run_goes_on_from_its_checkpoint_and_on_a_processor(tmp_path: Path) -> None:
    tiny_pool(tmp_path)
    run = ["--out", str(tmp_path / "run")]
    losses(tmp_path, *run, "--device", "cuda")
    assert len(losses(tmp_path, *run, "--device", "cuda", "--resume", "--steps", "8")) == 2
    assert len(losses(tmp_path, *run, "--resume", "--steps", "9")) == 1
