"""What to mend before the show. Every check runs with nothing else running, and says what was found and what to do about it."""

from __future__ import annotations

import math
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import msgspec

from rtserver.config import Config
from rtserver.devices import Devices, find
from rtserver.errors import DeviceError

State = Literal["ok", "warn", "fail"]

MARKS: dict[State, str] = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}
PRIORITY = 50  # what the engine asks for, see `roles.role.CAST`
LOCKED_BYTES = 256 << 20  # the roles' shared block, their stacks and their kernels
FREE_BYTES = 1 << 30  # an hour of events is some 10 MB, an hour of a stereo output in float32 1.3 GB
SMALL_GCD = 32  # below this, cutting blocks into hops costs nearly a block and a hop of latency


class Check(msgspec.Struct, frozen=True):
    """One thing looked at. `remedy` is empty where nothing needs doing."""

    name: str
    state: State
    found: str
    remedy: str = ""


def examine(config: Config) -> list[Check]:
    """All checks for a configuration."""
    return [
        _platform(),
        *_devices(config.audio.block_size),
        realtime_priority(),
        locked_memory(),
        kernel_cache(),
        block_and_hop(config.audio.block_size, _hop_size(config)),
        *ports(config),
        disk(Path(config.wire.record or ".")),
    ]


def describe(checks: Iterable[Check]) -> str:
    """`checks` for people."""
    lines: list[str] = []
    for check in checks:
        lines.append(f"{MARKS[check.state]}  {check.name}: {check.found}")
        if check.remedy:
            lines.append(f"      → {check.remedy}")
    return "\n".join(lines)


def _platform() -> Check:
    if sys.platform == "linux":
        return Check("system", "ok", f"Linux, {os.cpu_count()} processors")
    return Check("system", "warn", sys.platform, "rtserver is tested on Linux; elsewhere the roles wake each other by polling")


def _devices(block_size: int) -> list[Check]:
    try:
        return list(devices(find(), block_size))
    except DeviceError as error:
        return [Check("audio devices", "fail", str(error), "restart the audio server, then run this again")]


def devices(found: Devices, block_size: int) -> Iterable[Check]:
    """What the list of devices says."""
    if not found.portaudio:
        yield Check("PortAudio", "fail", found.error, "install it: apt-get install libportaudio2 (macOS: brew install portaudio)")
    else:
        yield Check(
            "PortAudio", "ok", f"{found.portaudio.split(',')[0].removeprefix('PortAudio ')}, host APIs {', '.join(found.hosts) or 'none'}"
        )
        if found.native_callback:
            yield Check("native callback", "ok", "this sounddevice takes a C callback")
        else:
            yield Check("native callback", "fail", "this sounddevice takes no C callback", "install the version that rtserver asks for")
    duplex = [d for d in found.audio if d.n_inputs and d.n_outputs]
    if duplex:
        yield Check("audio devices", "ok", f"{len(found.audio)}, of which {len(duplex)} with inputs and outputs")
    else:
        remedy = "plug in an interface, or start JACK (jackd -d alsa; without hardware: jackd -d dummy)"
        yield Check("audio devices", "fail", f"{len(found.audio)}, none with both inputs and outputs", remedy)
    jack = found.jack
    if jack.running:
        mode = "real-time" if jack.realtime else "not real-time"
        state, remedy = ("ok", "") if jack.realtime else ("warn", "start jackd with -R where real-time priority is allowed")
        if jack.block_size != block_size:
            state, remedy = "warn", f"set audio.block_size to its period (it is {block_size}): else blocks come in bursts, and some late"
        yield Check("JACK", state, f"{jack.server!r} at {jack.sample_rate} Hz, period {jack.block_size}, {mode}", remedy)
    else:
        yield Check("JACK", "warn", f"server {jack.server!r}: {jack.error}", "start it, or name another in JACK_DEFAULT_SERVER")
    usable = [api.name for api in found.midi if not api.error]
    if usable:
        yield Check("MIDI", "ok", ", ".join(usable))
    else:
        why = "; ".join(f"{api.name}: {api.error}" for api in found.midi) or "python-rtmidi cannot be loaded"
        yield Check(
            "MIDI", "warn", f"no MIDI system ({why}); notes go to the null backend", "start JACK, or load the kernel's snd-seq module"
        )


def realtime_priority() -> Check:
    """Whether SCHED_FIFO is granted, tried on this process and taken back."""
    if not hasattr(os, "sched_setscheduler"):
        return Check("real-time priority", "warn", "this system has no SCHED_FIFO", "use audio.spare_blocks = 2 or more")
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError:
        remedy = f"add '@audio - rtprio {PRIORITY + 20}' to /etc/security/limits.d/audio.conf and join the group audio, or spare_blocks = 2"
        return Check("real-time priority", "warn", f"SCHED_FIFO {PRIORITY} is refused", remedy)
    os.sched_setscheduler(0, policy, parameter)
    return Check("real-time priority", "ok", f"SCHED_FIFO {PRIORITY} is granted")


def locked_memory() -> Check:
    """How much memory may be locked against being swapped out."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit == resource.RLIM_INFINITY or limit >= LOCKED_BYTES:
        return Check("locked memory", "ok", "unlimited" if limit == resource.RLIM_INFINITY else f"{limit >> 20} MB")
    remedy = "add '@audio - memlock unlimited' to /etc/security/limits.d/audio.conf; it matters where the machine swaps"
    return Check("locked memory", "warn", f"at most {limit >> 10} kB", remedy)


def kernel_cache() -> Check:
    """Whether the first start will have to compile."""
    from rtserver.kernels import cache_folder

    folder = cache_folder()
    n_kernels = len(list(folder.rglob("*.nbi")))
    if n_kernels:
        return Check("kernel cache", "ok", f"warm: {n_kernels} kernels in {folder}")
    return Check(
        "kernel cache",
        "warn",
        f"cold: {folder}",
        "the first start compiles for up to a minute; `python -m rtserver.preflight --warm` does it beforehand",
    )


def _hop_size(config: Config) -> int:
    from rtserver.separation.graph import preset

    return preset(config.separation.preset).hop_size


def block_and_hop(block_size: int, hop_size: int) -> Check:
    """Whether device blocks and hops fit: cutting one into the other costs B + H − gcd(B, H) frames."""
    gcd = math.gcd(block_size, hop_size)
    found = f"blocks of {block_size}, hops of {hop_size}, greatest common divisor {gcd}"
    if gcd >= min(block_size, hop_size, SMALL_GCD):
        return Check("block and hop", "ok", found)
    cost = block_size + hop_size - gcd
    return Check("block and hop", "warn", f"{found}: {cost} frames of latency", "take a power of two as audio.block_size")


def ports(config: Config) -> Iterable[Check]:
    """Whether the wire's endpoints are free."""
    if not config.wire.enabled:
        yield Check("wire", "ok", "switched off")
        return
    for name in ("control", "events", "bulk"):
        endpoint = str(getattr(config.wire, name))
        if not endpoint.startswith("tcp://"):
            yield Check(f"wire.{name}", "ok", endpoint)
            continue
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that a closed server still holds for a minute is free
            try:
                probe.bind((host, int(port)))
            except (OSError, ValueError, OverflowError) as error:
                remedy = f"end the other server (another rtserver?) or set wire.{name} to another port"
                yield Check(f"wire.{name}", "fail", f"{endpoint}: {error}", remedy)
            else:
                yield Check(f"wire.{name}", "ok", f"{endpoint} is free")


def disk(folder: Path, usage: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free) -> Check:
    """Room for recordings in `folder`, or in the nearest folder above it that exists."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = usage(there)
    if not os.access(there, os.W_OK):
        return Check("disk", "fail", f"{there} is not writable", "set wire.record to a folder that is")
    if free < FREE_BYTES:
        return Check("disk", "warn", f"{free >> 20} MB free in {there}", "make room before recording")
    return Check("disk", "ok", f"{free / (1 << 30):.1f} GB free in {there}")
