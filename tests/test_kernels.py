"""Kernels: one warm-up compiles them all, and nothing is compiled after it."""

import os
import subprocess
import sys
from pathlib import Path

from rtserver import kernelcache, kernels

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
cases = [(rate, preset, "hpss") for rate in (44100, 48000, 96000) for preset in PRESETS]
cases += [(rate, preset, "kam") for rate in (44100, 48000) for preset in PRESETS]
for sample_rate, preset, method in cases:
    for n_channels in (1, 2):
        channels = list(range(1, n_channels + 1))
        outputs = {part: {"source": part, "channels": channels} for part in ("harmonic", "percussive", "residual")}
        show = {
            "audio": {"sample_rate": sample_rate},
            "separation": {"preset": preset, "margin_harmonic": 1.5, "method": method},
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


def test_numba_keeps_them_in_the_folder_of_the_cache() -> None:
    assert str(kernelcache.cache_folder()) == kernels.numba.config.CACHE_DIR
