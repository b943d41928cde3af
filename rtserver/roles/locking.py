"""Memory that is never swapped out, and how much of it there is.

A page that the system has taken back costs a disk access the next time it is touched: milliseconds in which an engine does nothing.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4  # Linux, <sys/mman.h>
CAP_IPC_LOCK = 14


def unlimited() -> bool:
    """Whether this process may lock as much as it likes."""
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        return True
    return _capable(CAP_IPC_LOCK)


def lock_memory() -> bool:
    """Keep in memory every page of this process that is there or will be (`mlockall`). False where that is refused.

    Pages are locked when they are first touched (MCL_ONFAULT), so that what was only reserved, by numba or ONNX Runtime, takes no memory:
    the process is no larger than before. Below an unlimited RLIMIT_MEMLOCK nothing is locked at all: once the limit is reached, every
    further allocation would fail, and a role that dies is worse than one that waits for a page.
    """
    if sys.platform != "linux" or not unlimited():
        return False
    try:
        return ctypes.CDLL(None, use_errno=True).mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0
    except (AttributeError, OSError):
        return False


def memory_of(pid: int) -> dict[str, int]:
    """What a process takes, in bytes: ``rss`` (shared pages in full), ``pss`` (divided by those who share them), ``anonymous``, ``locked``,
    ``swapped``.

    Anonymous is what the process has allocated for itself, and what can leak. ``pss`` also changes when another program that has the same
    libraries in memory comes or goes.

    Empty where the system does not tell. Reading it makes the kernel walk the page tables, some milliseconds for a large process: not for
    the fast lane.
    """
    wanted = {"Rss:": "rss", "Pss:": "pss", "Anonymous:": "anonymous", "Locked:": "locked", "Swap:": "swapped"}
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return {}
    rows = (line.split() for line in lines)
    return {wanted[row[0]]: int(row[1]) << 10 for row in rows if row and row[0] in wanted}


def _capable(capability: int) -> bool:
    """Whether this process has one of the kernel's capabilities."""
    try:
        lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
    except OSError:
        return False
    held = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
    return bool(held >> capability & 1)
