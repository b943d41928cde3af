"""The machine by itself, before any server runs: priority, memory, processors, clock, compiled kernels."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from rtserver.operations.report import Check
from rtserver.roles.locking import unlimited

PRIORITY = 50  # what the engine asks for, see `roles.role.CAST`
LIMITS = "/etc/security/limits.d/audio.conf"
CPUS = Path("/sys/devices/system/cpu")
CLOCK_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
FAST_CLOCKS = ("tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page")  # read without asking the kernel: 20 to 50 ns


def machine() -> list[Check]:
    """All of them."""
    return [system(), realtime_priority(), locked_memory(), *governors(), clock_source(), kernel_cache()]


def system() -> Check:
    """Operating system and number of processors."""
    n_processors = os.cpu_count() or 1
    found = f"{sys.platform}, {n_processors} processors"
    if sys.platform != "linux":
        return Check("system", "warn", found, "rtserver is tested on Linux; elsewhere the roles wake each other by polling", "Linux")
    if n_processors < 2:
        return Check("system", "warn", found, "callback and engine take turns: use audio.spare_blocks = 2 or more", "2 processors")
    return Check("system", "ok", found)


def realtime_priority() -> Check:
    """Whether SCHED_FIFO is granted, tried on this process and taken back."""
    name, expected = "real-time priority", f"SCHED_FIFO {PRIORITY}, RLIMIT_RTPRIO at least {PRIORITY + 20}"
    if not hasattr(os, "sched_setscheduler"):
        return Check(name, "warn", "this system has no SCHED_FIFO", "use audio.spare_blocks = 2 or more", expected)
    import resource

    limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError:
        remedy = f"add '@audio - rtprio 95' to {LIMITS}, join the group audio and log in again; or audio.spare_blocks = 2"
        return Check(name, "warn", f"SCHED_FIFO {PRIORITY} is refused, RLIMIT_RTPRIO is {limit}", remedy, expected)
    os.sched_setscheduler(0, policy, parameter)
    by = "by privilege" if limit < PRIORITY else f"RLIMIT_RTPRIO is {limit}"
    return Check(name, "ok", f"SCHED_FIFO {PRIORITY} is granted ({by})", expected=expected)


def locked_memory() -> Check:
    """Whether the roles may keep their memory from being swapped out. They do so without a limit only, see `roles.locking`."""
    import resource

    if unlimited():
        return Check("locked memory", "ok", "as much as is asked for", expected="unlimited")
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    remedy = f"add '@audio - memlock unlimited' to {LIMITS} and log in again; it matters where the machine swaps"
    return Check("locked memory", "warn", f"RLIMIT_MEMLOCK is {limit >> 10} kB: nothing is locked", remedy, "unlimited")


def governors(cpus: Path = CPUS) -> Iterable[Check]:
    """Whether processors slow down between blocks. Nothing is said where the system does not tell, as in most virtual machines."""
    found = {path.read_text().strip() for path in sorted(cpus.glob("cpu[0-9]*/cpufreq/scaling_governor"))}
    if found and found != {"performance"}:
        remedy = "cpupower frequency-set -g performance"
        yield Check("frequency scaling", "warn", f"governor {', '.join(sorted(found))}", remedy, "governor performance")
    elif found:
        yield Check("frequency scaling", "ok", "governor performance", expected="governor performance")


def clock_source(path: Path = CLOCK_SOURCE) -> Check:
    """Whether reading the clock is cheap: the callback, the engine and every node do."""
    try:
        found = path.read_text().strip()
    except OSError:
        return Check("clock", "ok", "the system does not say where it takes the time from")
    expected = f"one of {', '.join(FAST_CLOCKS)}"
    if found in FAST_CLOCKS:
        return Check("clock", "ok", found, expected=expected)
    remedy = "slow, often chosen because the processor's own was found unsteady: see `dmesg | grep -i clocksource`; boot with tsc=reliable"
    return Check("clock", "warn", found, remedy, expected)


def kernel_cache() -> Check:
    """Whether the first start will have to compile."""
    from rtserver.kernelcache import cache_folder

    folder = cache_folder()
    n_kernels = len(list(folder.rglob("*.nbi")))
    if n_kernels:
        return Check("kernel cache", "ok", f"warm: {n_kernels} kernels in {folder}", expected="warm")
    remedy = "the first start compiles for up to a minute; `python -m rtserver.preflight --warm` does it beforehand"
    return Check("kernel cache", "warn", f"cold: {folder}", remedy, "warm")
