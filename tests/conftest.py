"""Fixtures that several test folders share: a private JACK server on its dummy driver, and a stage for the midi roles."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import machine
import pytest
from _pytest.runner import runtestprotocol

from rtserver.config import Config, Midi
from rtserver.events import Command, Note
from rtserver.shared.memory import Layout
from rtserver.shared.session import PID, STARTING, STATE, UP, Session, Setup

hypothesis.settings.register_profile("patient", deadline=None)  # a busy machine stands still for as long as it likes
hypothesis.settings.load_profile("patient")

_libc = ctypes.CDLL(None)

LIVE = ("faults", "live", "midi")  # folders whose tests run in real time
TRIES = 3
_repeated: list[str] = []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """A test in real time that fails while the machine stood still, for as long as loses sound or notes, is tried again, twice at most.

    One that fails on a machine that ran has failed. Every repetition is told at the end.
    """
    if Path(item.path).parent.name not in LIVE:
        return None
    watch = machine.watch()
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for n in range(1, TRIES + 1):
        since_s = time.monotonic()
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        if n == TRIES or not any(report.failed for report in reports) or (longest_s := watch.longest_s(since_s)) < machine.LONG_S:
            break
        lines = [line for report in reports if report.failed for line in report.longreprtext.splitlines()]
        why = next((line.removeprefix("E").strip() for line in lines if line.startswith("E")), "")
        _repeated.append(f"{item.nodeid} failed while the machine stood still for {longest_s:.2f} s: {why}")
        item.session._setupstate.teardown_exact(item.session)  # type: ignore[arg-type]  # with new fixtures, those of its module too
        item._initrequest()  # type: ignore[attr-defined]
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what was tried again and why."""
    if _repeated:
        terminalreporter.section("tried again")
        for line in _repeated:
            terminalreporter.line(line)


def pytest_unconfigure() -> None:
    machine.close()


SLOTS = 4  # test runs of this checkout that may go on side by side; JACK allows eight servers on a machine
JACK_PERIOD = 1024  # frames: long enough that a loaded machine keeps up
JACK_RATE = 48000


@pytest.fixture(autouse=True, scope="session")
def runtime_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Servers under test say that they are there in a folder of their own, not in the user's."""
    folder = tmp_path_factory.mktemp("runtime")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        yield folder


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


def _may_run_realtime() -> bool:
    probe = [sys.executable, "-c", "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))"]
    return subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 0


@contextlib.contextmanager
def running_jackd(period: int = JACK_PERIOD) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A jackd of its own (dummy driver, 8 in, 8 out, 48 kHz); name and process. Skips where jackd is missing."""
    if shutil.which("jackd") is None:
        pytest.skip("jackd is not installed (Debian: apt-get install jackd2)")
    import jack

    name, lock = _claim_name()
    # With real-time priority, where it is allowed, the server keeps its periods even if the machine is busy with something else.
    command = [
        "jackd",
        "-n",
        name,
        *(("--realtime", "-P80") if _may_run_realtime() else ("--no-realtime",)),  # above the roles, as on a stage
        "-d",
        "dummy",
        "-r",
        str(JACK_RATE),
        "-p",
        str(period),
        "-C",
        "8",
        "-P",
        "8",
    ]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=_die_with_parent)  # noqa: PLW1509 (one system call)
        try:
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
            yield name, server
        finally:
            server.terminate()
            try:
                server.wait(5.0)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            os.close(lock)


@pytest.fixture(scope="session")
def jack_server() -> Iterator[str]:
    """The name of a jackd that runs for the whole test run; skips where jackd is missing.

    ``JACK_DEFAULT_SERVER`` and ``JACK_NO_START_SERVER`` are set for as long as it lives, for this process and its children.
    Import sounddevice after asking for it: PortAudio looks for JACK when it is loaded.
    """
    before = {key: os.environ.get(key) for key in ("JACK_DEFAULT_SERVER", "JACK_NO_START_SERVER")}
    with running_jackd() as (name, _server):
        os.environ.update(JACK_DEFAULT_SERVER=name, JACK_NO_START_SERVER="1")
        try:
            yield name
        finally:
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value


class MidiStage:
    """A session with real midi and standby processes, and a synth that writes down what it hears. We are its supervisor and its clock."""

    def __init__(self, run_folder: Path, midi: Midi, environment: dict[str, str] | None = None) -> None:
        layout = Layout()
        Session.declare(layout, n_in=1, n_out=2, n_features=208)
        self.session = Session.create(layout, Setup(config=Config(name="rtstest", midi=midi), run_folder=str(run_folder)))
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.heard: list[tuple[int, bytes]] = []  # (CLOCK_MONOTONIC ns, message)
        self._environment = os.environ | (environment or {})
        self._next_id = 0
        self._synth: Any = None

    def run_clock(self) -> None:
        """Frame 0 is now, 48 kHz."""
        self.session.clock.publish(0.0, time.monotonic(), JACK_RATE, 0.0)

    def listen(self, name: str = "rtstest-synth") -> None:
        """Open a JACK input port that stamps what it hears."""
        import rtmidi

        self._synth = rtmidi.MidiIn(rtapi=rtmidi.API_UNIX_JACK, name=name)
        self._synth.ignore_types(sysex=False, timing=False, active_sense=False)
        self._synth.set_callback(lambda got, _: self.heard.append((time.monotonic_ns(), bytes(got[0]))))
        self._synth.open_virtual_port("in")

    def start(self, role: str) -> subprocess.Popen[str]:
        """Spawn a role as the supervisor does, and wait until it is up."""
        fd = self.session.block.fd
        command = [sys.executable, "-m", "rtserver.roles.role", role, str(fd)]
        process = subprocess.Popen(command, pass_fds=[fd], stderr=subprocess.PIPE, text=True, env=self._environment)
        row = self.session.role(role)
        row[STATE], row[PID] = STARTING, process.pid
        self.processes[role] = process
        self.wait(lambda: row[STATE] == UP or process.poll() is not None, 20.0)
        assert process.poll() is None, process.communicate()[1]
        return process

    def play(self, in_s: float, pitch: int, duration_s: float = 0.1, velocity: int = 80, channel: int = 0) -> Note:
        """Send a note, as the performer does, that is due in `in_s` seconds."""
        self._next_id += 1
        frame = round(self.session.clock.frame_at(time.monotonic() + in_s))
        note = Note(frame, frame, self._next_id, pitch, velocity, round(duration_s * JACK_RATE), channel)
        assert self.session.emit("performer", note, "midi")
        return note

    def command(self, name: str, value: str | None = None) -> None:
        """Send a command, as the gateway does."""
        assert self.session.emit("gateway", Command(0, 0, name, value), "midi")

    def notes(self) -> list[tuple[bool, int]]:
        """What was heard of notes: (on, pitch) in order. A note-off comes three times; what ends nothing is left out."""
        notes: list[tuple[bool, int]] = []
        sounding: set[tuple[int, int]] = set()
        for _, m in list(self.heard):
            key = (m[0] & 0x0F, m[1] if len(m) > 1 else 0)
            if m[0] & 0xF0 == 0x90:
                sounding.add(key)
                notes.append((True, key[1]))
            elif m[0] & 0xF0 == 0x80 and key in sounding:
                sounding.remove(key)
                notes.append((False, key[1]))
        return notes

    def messages(self) -> list[bytes]:
        """What was heard."""
        return [m for _, m in list(self.heard)]

    def wait(self, condition: Callable[[], object], timeout_s: float = 10.0) -> bool:
        """Wait until `condition` holds; False after `timeout_s`."""
        until_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until_s:
                return False
            time.sleep(0.005)
        return True

    def close(self) -> None:
        """End the roles and the synth."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.communicate(timeout=10.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        if self._synth is not None:
            self._synth.cancel_callback()
            self._synth.close_port()
            self._synth.delete()


@pytest.fixture(scope="session")
def midi_stage() -> type[MidiStage]:
    """How to set a stage for the midi roles; the caller closes it."""
    return MidiStage


@pytest.fixture(scope="session")
def own_jackd() -> Callable[[], contextlib.AbstractContextManager[tuple[str, subprocess.Popen[bytes]]]]:
    """How to run a jackd that a test may kill."""
    return running_jackd
