"""A JACK server for the demonstration: the one that runs, if it has the channels, or a private one on the dummy driver."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rtserver.errors import DeviceError

RATE = 48000
PERIOD = 256  # frames: 5.3 ms; the private server keeps it with real-time priority, and mostly without
CHANNELS = 4  # three stems and a monitor; the tape machine records as many, so the server needs them both ways


def _ignore(_message: str) -> None:
    """JACK's own messages: that no server runs is an answer here, not an error."""


@dataclass(frozen=True)
class Stage:
    """A JACK server to play on: what it is, in words, and its period in frames."""

    words: str
    period: int


def _look(name: str | None) -> tuple[int, int] | None:
    """(channels both ways, period) of a JACK server at our rate; None if none answers."""
    import jack

    client: Any = None
    quiet: Any = jack
    quiet.set_error_function(_ignore)
    quiet.set_info_function(_ignore)
    try:
        client = jack.Client("rtserver-probe", no_start_server=True, servername=name)
        if client.samplerate != RATE:
            return None
        ins = client.get_ports(is_physical=True, is_audio=True, is_output=True)
        outs = client.get_ports(is_physical=True, is_audio=True, is_input=True)
        return min(len(ins), len(outs)), int(client.blocksize)
    except (jack.JackOpenError, OSError):
        return None
    finally:
        if client is not None:
            client.close()


def _realtime_allowed() -> bool:
    probe = [sys.executable, "-c", "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))"]
    return subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 0


@contextmanager
def jack_server() -> Generator[Stage]:
    """Provide JACK to this process and its children. Raises `DeviceError` with the remedy."""
    found = _look(None)
    if found is not None and found[0] >= CHANNELS:
        yield Stage(f"the JACK server that runs, period {found[1]}", found[1])
        return
    if shutil.which("jackd") is None:
        raise DeviceError("no JACK server runs and jackd is not installed: apt-get install jackd2")
    name = f"rtserver-demo-{os.getuid()}"
    command = ["jackd", "-n", name, *(("--realtime", "-P80") if _realtime_allowed() else ("--no-realtime",))]
    command += ["-d", "dummy", "-r", str(RATE), "-p", str(PERIOD), "-C", str(CHANNELS), "-P", str(CHANNELS)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    before = {key: os.environ.get(key) for key in ("JACK_DEFAULT_SERVER", "JACK_NO_START_SERVER")}
    try:
        until = time.monotonic() + 10.0
        while _look(name) is None:
            if server.poll() is not None or time.monotonic() > until:
                raise DeviceError(f"the private JACK server {name!r} does not start; does one of that name still run?")
            time.sleep(0.05)
        os.environ.update(JACK_DEFAULT_SERVER=name, JACK_NO_START_SERVER="1")
        yield Stage(f"a private JACK server ({name}, dummy driver: nothing is heard), period {PERIOD}", PERIOD)
    finally:
        server.terminate()
        try:
            server.wait(3.0)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
