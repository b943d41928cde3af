"""The folder of compiled kernels: its name, what goes from it, and who may fill it."""

import fcntl
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from rtserver import kernelcache

DAY_S = 86400


def test_the_cache_is_named_after_the_sources() -> None:
    assert kernelcache.cache_folder().name == kernelcache.source_hash()


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
    removed = kernelcache.prune(caches)
    assert {folder.name for folder in removed} == {"age2", "age4"}
    assert {folder.name for folder in caches.iterdir()} == {"age0", "age1", "age3"}


def test_a_second_warm_up_waits_for_the_first(tmp_path: Path) -> None:
    code = (
        "from rtserver.kernelcache import cache_folder, warming\nprint(cache_folder(), flush=True)\nwith warming(): print('in', flush=True)"
    )
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
