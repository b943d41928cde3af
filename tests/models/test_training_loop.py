"""What every training run has in common: its processes, its checkpoint, its options."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")

from remixes import tiny_pool  # noqa: E402  (needs torch)

from models import loop  # noqa: E402
from models.separation import train  # noqa: E402

ROOT = Path(__file__).parents[2]
TINY = ["--hidden", "16", "--batch", "2", "--hops", "24", "--chunks", "2", "--check", "1", "--checks", "1", "--workers", "1"]
FAILS = """
from models import loop
stream = loop.prefetch(lambda _: iter(int, 1), 1)
next(stream)
raise RuntimeError("amiss")
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pool(tmp_path_factory.mktemp("pool"))


def test_an_error_ends_the_processes_that_draw() -> None:
    done = subprocess.run([sys.executable, "-c", FAILS], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1 and done.stderr.endswith("RuntimeError: amiss\n")


def test_batches_come_in_turn_whoever_draws_them() -> None:
    def draw(worker: int):
        for i in range(1000):
            yield worker, i

    stream = loop.prefetch(draw, 2)
    assert [next(stream) for _ in range(4)] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    stream.close()


def test_a_process_that_ended_is_told_and_not_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    def draw(worker: int):
        yield worker
        raise SystemExit("nothing is left")

    stream = loop.prefetch(draw, 1)
    assert next(stream) == 0
    with pytest.raises(SystemExit, match="ended with status 1"):
        next(stream)
    assert "nothing is left" in capfd.readouterr().err


def test_a_trainer_whose_group_is_asked_to_end_writes_its_checkpoint(pool: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "models.separation.train", str(pool), "--out", str(tmp_path), *TINY, "--steps", "100000"]
    trainer = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL, start_new_session=True
    )
    log, until = tmp_path / "train.log", time.monotonic() + 120.0
    while not (log.exists() and "loss" in log.read_text()) and time.monotonic() < until:
        time.sleep(0.1)
    os.killpg(trainer.pid, signal.SIGTERM)
    try:
        assert trainer.wait(60.0) == 128 + signal.SIGTERM
    finally:
        trainer.kill()
    assert loop.read(tmp_path / "checkpoint.pt")["step"] >= 20


def run(pool: Path, out: Path, *more: str) -> None:
    train.train(train.parser().parse_args([str(pool), "--out", str(out), *TINY, "--workers", "0", "--steps", "1", *more]))


@pytest.fixture(scope="module")
def trained(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    run(pool, out)
    return out


def test_a_checkpoint_that_is_there_is_not_replaced(pool: Path, trained: Path) -> None:
    before = (trained / "checkpoint.pt").read_bytes()
    with pytest.raises(SystemExit, match=r"checkpoint\.pt is there and would be replaced: --resume goes on from it"):
        run(pool, trained)
    assert (trained / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "told"), [("--hidden=8", "hidden 16, asked for is hidden 8"), ("--layers=1", "layers 2"), ("--stems=hp", "stems stems3")]
)
def test_another_network_than_the_checkpoints_is_named(pool: Path, trained: Path, more: str, told: str) -> None:
    with pytest.raises(SystemExit, match=told):
        run(pool, trained, "--resume", more)


def test_a_checkpoint_of_something_else_is_named(pool: Path, tmp_path: Path) -> None:
    torch.save({"network": {}}, tmp_path / "checkpoint.pt")
    for more in (["--resume"], ["--out", str(tmp_path / "new"), "--start", str(tmp_path)]):
        with pytest.raises(SystemExit, match=r"checkpoint\.pt is no checkpoint of a run, it has no average"):
            run(pool, tmp_path, *more)


def test_a_file_cannot_be_out(pool: Path, tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(SystemExit, match="is a file, expected a folder"):
        run(pool, tmp_path / "run")


@pytest.mark.parametrize(
    "option",
    [
        *(f"--{name}=0" for name in ("batch", "hops", "chunks", "hidden", "layers", "steps", "check", "checks", "threads")),
        "--workers=-1", "--seed=-1", f"--seed={10**30}", "--rate=0", "--rate=nan", "--rate=inf", "--minutes=0", "--time=-1", "--combine=-1",
        "--exponent=0", "--magnitude=2", "--level=-0.1", "--score=1.5", "--average=1.1", "--decay=x", "--device=gpu", "--device=cuda:",
        "--device=cuda:99",
    ],
)  # fmt: skip
def test_an_option_that_makes_no_sense_is_named(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        train.parser().parse_args(["POOL", "--out", "RUN", option])
    name, value = option.split("=")
    last = capsys.readouterr().err.splitlines()[-1]
    assert refused.value.code == 2 and f"argument {name}: " in last and value in last


def test_short_excerpts_are_counted_at_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_pool(tmp_path)
    for i in (1, 4):
        np.save(tmp_path / f"made_{i}_drums.npy", np.load(tmp_path / f"made_{i}_drums.npy")[:, :4410])
    run(tmp_path, tmp_path / "run")
    told = capsys.readouterr().out
    assert "of train that are left out, shorter than 0.30 s: 1\n" in told
    assert "of validation that are left out, shorter than 4.91 s: 1\n" in told
