"""Memory that stays, in a process of its own: locking this one would change what other tests measure."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rtserver.roles import locking

LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 20, 1 << 20)); "


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="mlockall is asked for on Linux")
def test_what_is_locked_is_what_is_there_and_no_more() -> None:
    if not locking.unlimited():
        pytest.skip("RLIMIT_MEMLOCK is limited here: nothing is locked")
    code = """
import os, mmap
from rtserver.roles.locking import lock_memory, memory_of
reserved = mmap.mmap(-1, 256 << 20)  # never touched
before = memory_of(os.getpid())
held = lock_memory()
after = memory_of(os.getpid())
print(held, after["locked"] > 0, after["rss"] - before["rss"] < 16 << 20)
"""
    assert run(code) == "True True True"


def test_below_a_limit_nothing_is_locked() -> None:
    assert run("from rtserver.roles import locking; locking.unlimited = lambda: False; print(locking.lock_memory())") == "False"


def test_a_limit_without_the_privilege_is_seen() -> None:
    code = LIMITED + "from rtserver.roles import locking; locking._capable = lambda _: False; print(locking.unlimited())"
    assert run(code) == "False"


def test_memory_is_told_in_bytes() -> None:
    if sys.platform != "linux":
        pytest.skip("smaps_rollup is Linux's")
    memory = locking.memory_of(os.getpid())
    assert 1 << 20 < memory["pss"] <= memory["rss"]
    assert 1 << 20 < memory["anonymous"] <= memory["rss"]


def test_a_process_that_has_gone_takes_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert locking.memory_of(process.pid) == {}
