"""The cache of kernels: one warm-up fills it, nothing is compiled after it, and what is stale goes."""

import fcntl
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from rtserver import kernels

DAY_S = 86400

# What a show does, in a process of its own: everything at every rate of the warm-up, mono and stereo, while settings change.
SHOWS = """
import tempfile
from pathlib import Path
import numpy as np
from rtserver import kernels
from rtserver.config import parse
from rtserver.demo import SCORE
from rtserver.dsp.hpss import MASK_PARAMETERS, PRESETS
from rtserver.render import Stepper

SETTINGS = {"mask": ("hard", "soft"), "exponent": (1.0, 3.5), "margin_harmonic": (1.0, 2.0), "margin_percussive": (4.0, 1.0)}
assert SETTINGS.keys() == set(MASK_PARAMETERS)
n_hops = 0
for sample_rate in (44100, 48000, 96000):
    for preset in PRESETS:
        for n_channels in (1, 2):
            channels = list(range(1, n_channels + 1))
            outputs = {part: {"source": part, "channels": channels} for part in ("harmonic", "percussive", "residual")}
            show = {
                "audio": {"sample_rate": sample_rate},
                "separation": {"preset": preset, "margin_harmonic": 1.5},
                "inputs": {"main": {"channels": channels}},
                "outputs": outputs,
                "score": {"file": str(SCORE)},
            }
            with tempfile.TemporaryDirectory() as folder:
                stepper = Stepper(parse(show), Path(folder))
                (lane,) = stepper.lanes
                for i in range(200):
                    for name, values in SETTINGS.items():
                        lane.graph.set("hpss", name, values[i % 2])
                    x = np.full((stepper.plan.block_size, n_channels), 0.1 * (-1) ** i, np.float32)
                    stepper.exchange(x, np.zeros((len(x), n_channels), np.float32))
                    stepper.work()
                n_hops += lane.position // lane.hop_size
print("hops", n_hops)
print("compiled", kernels.compilations())
kernels.numba.njit("float64(float64)")(lambda x: x + 1)
print("counted", kernels.compilations())
"""


def python(*arguments: str, cache: Path) -> str:
    """What a process with its own cache folder prints."""
    done = subprocess.run(
        [sys.executable, *arguments], env=os.environ | {"XDG_CACHE_HOME": str(cache)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_after_the_warm_up_nothing_is_compiled_whatever_is_played_and_set(tmp_path: Path) -> None:
    python("-m", "rtserver.preflight", "--warm", cache=tmp_path)
    said = dict(line.split() for line in python("-c", SHOWS, cache=tmp_path).splitlines())
    assert int(said["hops"]) > 1000
    assert int(said["compiled"]) == 0
    assert int(said["counted"]) == 1


def test_a_process_that_computes_does_not_load_scipy() -> None:
    """numba would, for a BLAS that nobody uses; and whoever needs scipy afterwards still gets it."""
    code = "import sys, rtserver.roles.engine, rtserver.roles.audio; print('scipy' in sys.modules); import scipy.linalg"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_cache_is_named_after_the_sources() -> None:
    assert kernels.cache_folder().name == kernels.source_hash()
    assert os.environ["NUMBA_CACHE_DIR"] == str(kernels.cache_folder())


@pytest.fixture
def caches(tmp_path: Path) -> Path:
    """Five caches, one a day."""
    for age in range(5):
        folder = tmp_path / f"age{age}"
        folder.mkdir()
        (folder / "kernel.nbi").touch()
        (folder / "lock").touch()
        os.utime(folder / "lock", (1e9 - age * 0.9 * DAY_S,) * 2)
    return tmp_path


def test_stale_caches_go_but_the_two_last_used_and_those_of_the_last_day_stay(caches: Path) -> None:
    (caches / "age4" / "kernel.nbi").touch()  # what lies in it does not count
    os.utime(caches / "age3" / "lock", (1e9 - 0.95 * DAY_S,) * 2)
    removed = kernels.prune(caches)
    assert {folder.name for folder in removed} == {"age2", "age4"}
    assert {folder.name for folder in caches.iterdir()} == {"age0", "age1", "age3"}


def test_a_second_warm_up_waits_for_the_first(tmp_path: Path) -> None:
    code = "from rtserver import kernels\nprint(kernels.cache_folder(), flush=True)\nwith kernels.warming(): print('in', flush=True)"
    command = [sys.executable, "-c", code]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    folder = Path(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()[0])
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as second:
            assert second.stdout is not None
            assert second.stdout.readline().decode().strip() == str(folder)
            assert select.select([second.stdout], [], [], 0.3)[0] == []
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert second.stdout.readline() == b"in\n"
