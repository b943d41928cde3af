"""Fixtures that several test folders share: a private JACK server on its dummy driver."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_libc = ctypes.CDLL(None)

SLOTS = 4  # test runs of this checkout that may go on side by side; JACK allows eight servers on a machine
JACK_PERIOD = 1024  # frames: long enough that a loaded machine keeps up
JACK_RATE = 48000


def _claim_name() -> tuple[str, int]:
    """A server name that no other test run holds, and the descriptor whose lock says so.

    Names are few and used again and again: a jackd that is killed hard leaves its name taken until a server of that name starts.
    """
    checkout = hashlib.sha256(str(Path(__file__).parent).encode()).hexdigest()[:6]
    for slot in range(SLOTS):
        name = f"rtstest-{checkout}-{slot}"
        fd = os.open(Path(tempfile.gettempdir()) / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
        else:
            return name, fd
    pytest.skip(f"{SLOTS} test runs of this checkout already hold a JACK server each")


def _die_with_parent() -> None:
    """Runs in the child: a test run that is killed must not leave its server behind (PR_SET_PDEATHSIG)."""
    _libc.prctl(1, signal.SIGTERM)


@pytest.fixture(scope="session")
def jack_server() -> Iterator[str]:
    """The name of a running jackd (dummy driver, 2 in, 2 out, 48 kHz, period `JACK_PERIOD`); skips where jackd is missing.

    ``JACK_DEFAULT_SERVER`` and ``JACK_NO_START_SERVER`` are set for as long as it lives, for this process and its children.
    Import sounddevice after asking for it: PortAudio looks for JACK when it is loaded.
    """
    if shutil.which("jackd") is None:
        pytest.skip("jackd is not installed (Debian: apt-get install jackd2)")
    import jack

    name, lock = _claim_name()
    before = {key: os.environ.get(key) for key in ("JACK_DEFAULT_SERVER", "JACK_NO_START_SERVER")}
    command = ["jackd", "-n", name, "--no-realtime", "-d", "dummy", "-r", str(JACK_RATE), "-p", str(JACK_PERIOD), "-C", "2", "-P", "2"]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=_die_with_parent)  # noqa: PLW1509 (one system call)
        try:
            os.environ.update(JACK_DEFAULT_SERVER=name, JACK_NO_START_SERVER="1")
            jack.set_error_function(lambda _: None)
            jack.set_info_function(lambda _: None)
            until_s = time.monotonic() + 10.0
            while True:
                try:
                    jack.Client("rtstest-probe", no_start_server=True, servername=name).close()
                    break
                except jack.JackOpenError:
                    if server.poll() is not None or time.monotonic() > until_s:
                        log.seek(0)
                        pytest.fail(f"jackd {name} does not answer:\n{log.read().decode(errors='replace')}")
                    time.sleep(0.05)
            yield name
        finally:
            server.terminate()
            try:
                server.wait(5.0)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value
            os.close(lock)
