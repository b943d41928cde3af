"""What every training run has in common: its processes, its checkpoint, its options."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")

from remixes import tiny_pool  # noqa: E402  (needs torch)

from models import loop  # noqa: E402

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
    def draw(worker: int):  # noqa: ANN202
        for i in range(1000):
            yield worker, i

    stream = loop.prefetch(draw, 2)
    assert [next(stream) for _ in range(4)] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    stream.close()


def test_a_process_that_ended_is_told_and_not_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    def draw(worker: int):  # noqa: ANN202
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
