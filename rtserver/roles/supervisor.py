"""The supervisor: spawns the roles, watches them, kills what hangs, starts again what died, ends everything in good order.

It imports no numba and opens no device. A role's death is seen through its process; a hang through its heartbeat; a dead audio server
through the callback counter that stands still.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rtserver.audio import table as t
from rtserver.audio.journal import unfinished, unread
from rtserver.errors import ConfigError
from rtserver.events import Command, Device
from rtserver.events import Role as RoleEvent
from rtserver.plan import open_session
from rtserver.preflight import Prepared, preflight
from rtserver.roles.decks import Decks, roles_of
from rtserver.roles.locking import memory_of
from rtserver.roles.spares import call, dismiss
from rtserver.shared.session import (
    BEAT_NS,
    CLOSING,
    COMPILATIONS,
    DECK_ROLES,
    LOCKED,
    MEMORY,
    PID,
    PRIORITY,
    RESTARTS,
    STARTING,
    STATE,
    UP,
    Session,
)
from rtserver.show import Song

TURN_S = 0.02
PREFIX = "rtserver-"  # of run folders; the supervisor's pid follows
HANG_S = 1.0  # heartbeats come every 50 ms at most; a role silent for this long is stuck, not slow
# A disk may take its time: the music does not wait for it. But notes sound on while midi is stuck.
HANG_LIMITS_S = {"recorder": 10.0, "midi": 0.5}
STALL_S = 0.2  # a turn of our own that took this long: the whole machine stood still, and every heart with it
START_S = 120.0  # a cold kernel cache can take a minute on a slow machine
SILENT_CALLBACKS_S = 0.25  # or ten periods, if that is more: the audio server is gone
DISMISS_S = 0.2  # what the roles of a song that has ended have to close; they have nothing to finish
CLOSE_S, CLOSE_LAST_S = 1.2, 0.7  # what roles have to close before they are killed: together under 2 s
KILL_S = 0.2  # what a killed process takes to be gone, unless the kernel holds it
BACKOFF_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)  # waits before the n-th restart in a row
WEIGH_S = 1.0  # the memory of one role is looked at, which takes some milliseconds
STEADY_S = 10.0  # up for so long, a role's failures are forgotten
MAX_DETAIL_SIZE = 120  # bytes
SPARES = ("audio",)  # roles whose next process waits, its code loaded, for the present one's death: nothing conceals their absence
SPARE_S = 1.0  # when a role has been up for so long, its spare is made: not while everything starts


@dataclass
class Child:
    """One role's process and its history."""

    name: str
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    failures: int = 0
    restarts: int = -1
    due_s: float = 0.0
    was_up: bool = False
    fault: str = ""  # why it was killed, from then until it is gone
    spare: subprocess.Popen[bytes] | None = None


class Supervisor:
    """Holds one session of the server.

    Parameters
    ----------
    setlist : list of Prepared
        The songs of the show, from the preflight. The first one plays at once.
    run_folder : Path
        Private folder of the session.
    read_show : callable, optional
        Reads the show anew, for ``reload``. Raises `ConfigError`.
    """

    def __init__(self, setlist: list[Prepared], run_folder: Path, read_show: Callable[[], list[Song]] | None = None) -> None:
        first = setlist[0]
        config = first.song.config
        audio = config.audio
        device = (
            max(audio.input_channels, *(s.plan.device_in for s in setlist)),
            max(audio.output_channels, *(s.plan.device_out for s in setlist)),
        )
        self.session: Session = open_session(first.setup(run_folder), first.plan, device)
        self.table = self.session.block["audio.table"]
        self.plan = first.plan
        self._read_show = read_show
        # Whoever silences notes comes first, whoever makes them later, and sound last, when there is someone to process it.
        names = ["cables", "standby", "midi", *roles_of(first)]
        if config.recording.folder:
            names.insert(0, "recorder")  # up before the first sound
        if config.wire.enabled:
            names.append("gateway")
        if config.metrics.port and metrics_available():
            names.append("metrics")
        self.children = {name: Child(name) for name in (*names, "audio")}
        self._callbacks = (0, time.monotonic())
        self._turned_s = time.monotonic()
        self._stalled_s = 0.0  # when we ourselves last stood still
        self.decks = Decks(self.session, setlist, run_folder, spawn=self._begin, end=self._end, up=self._all_up)
        self.stopping = False
        self._begun = False
        self._weigh_s, self._weighed = 0.0, 0

    def start(self) -> None:
        """Spawn all roles; audio waits until the engine is up, so that the first sound is already served."""
        for child in self.children.values():
            if child.name != "audio":
                self._spawn(child)

    def _spawn(self, child: Child) -> None:
        row = self.session.role(child.name)
        fd = self.session.block.fd
        child.restarts += 1
        child.started_s = time.monotonic()
        child.was_up, child.fault = False, ""
        row[STATE], row[RESTARTS], row[BEAT_NS] = STARTING, child.restarts, time.monotonic_ns()
        row[LOCKED], row[PRIORITY], row[MEMORY], row[COMPILATIONS] = 0, 0, 0, 0
        command = [sys.executable, "-m", "rtserver.roles.role", child.name, str(fd)]
        child.process = call(child.spare) or subprocess.Popen(command, pass_fds=[fd], stdin=subprocess.DEVNULL)
        child.spare = None
        row[PID] = child.process.pid

    def _make_spare(self, child: Child) -> None:
        fd = self.session.block.fd
        command = [sys.executable, "-m", "rtserver.roles.role", child.name, str(fd), "--spare"]
        child.spare = subprocess.Popen(command, pass_fds=[fd], stdin=subprocess.PIPE)

    def turn(self) -> bool:
        """Look after every role once, waiting at most `TURN_S`. False when the session is to end."""
        self.session.waker("supervisor").wait(TURN_S)
        for event in self.session.receive("supervisor"):
            if isinstance(event, Command):
                self._obey(event)
            elif isinstance(event, Device):
                self._hasten()
        now = time.monotonic()
        if now - self._turned_s > STALL_S:
            self._stalled_s = now
        for child in list(self.children.values()):
            self._look_after(child, now)
        self._begun = self._begun or self.ready
        if self._begun:
            self.decks.turn()
        if now >= self._weigh_s:
            self._weigh_s = now + WEIGH_S
            self._weigh()
        self._turned_s = time.monotonic()
        return not self.stopping

    def _hasten(self) -> None:
        """The audio server has come back, or another: whoever waits to be started again need not wait."""
        for child in self.children.values():
            child.due_s, child.failures = 0.0, 0

    def _obey(self, command: Command) -> None:
        if command.name == "quit":
            self.stopping = True
        elif command.name == "song":
            self.decks.order(str(command.value), command.frame)
        elif command.name == "reload":
            self.reload()

    def reload(self) -> None:
        """Read the show anew and change to it without a gap; what is wrong in it is told, and leaves what plays untouched."""
        if self._read_show is None:
            self.decks.refuse("reload", "the server was started without a configuration file")
            return
        try:
            self.decks.reload(self._read_show())
        except ConfigError as error:
            self.decks.refuse("reload", str(error))

    def _begin(self, names: list[str]) -> None:
        """Start roles beside those that run."""
        for name in names:
            self.children[name] = Child(name)
            self._spawn(self.children[name])

    def _end(self, names: list[str]) -> None:
        """End roles that are not needed any more."""
        children = [self.children.pop(name) for name in names if name in self.children]
        for child in children:
            if child.process is not None:
                self.session.role(child.name)[STATE] = CLOSING
                child.process.terminate()
            dismiss(child.spare)
        self._reap(children, time.monotonic() + DISMISS_S)

    def _weigh(self) -> None:
        """Note how much memory one role takes; the others have their turns."""
        name = list(self.children)[self._weighed % len(self.children)]
        self._weighed += 1
        row = self.session.role(name)
        if self.up(name):
            row[MEMORY] = memory_of(int(row[PID])).get("pss", 0)

    def _look_after(self, child: Child, now: float) -> None:
        if child.process is None:
            too_early = child.name == "audio" and child.restarts < 0 and not self.up("engine")
            if now >= child.due_s and not too_early:
                self._spawn(child)
            elif child.name in SPARES and child.spare is None:
                self._make_spare(child)  # it loads while it waits
            return
        status = child.process.poll()
        if status is not None:
            self._bury(child, now, child.fault or self._why(child.name, status))
            return
        if child.fault:
            return  # killed, but it waits for a disk that does not answer: we do not
        if self.up(child.name) and not child.was_up:
            child.was_up = True
            self._tell(child, "restarted" if child.restarts else "up", "")
        if child.failures and child.was_up and now - child.started_s > STEADY_S:
            child.failures = 0
        if child.was_up and child.name in SPARES and child.spare is None and now - child.started_s > SPARE_S:
            self._make_spare(child)
        fault = self._fault(child, now)
        if fault:
            child.fault = fault
            child.process.kill()

    def _why(self, name: str, status: int) -> str:
        """What an ended role says itself, or its status."""
        try:
            path = self.session.last_words(name)
            words = path.read_text(encoding="utf-8")
            path.unlink()
        except OSError:
            return f"ended with status {status}"
        return words

    def _fault(self, child: Child, now: float) -> str:
        """Why a living role must be killed; empty if it is well."""
        row = self.session.role(child.name)
        # Whoever stood still together with us has its time again to show that it lives.
        silent_s = now - max(int(row[BEAT_NS]) * 1e-9, self._stalled_s)
        if not self.up(child.name):
            return "did not start in time" if now - child.started_s > START_S else ""
        if silent_s > HANG_LIMITS_S.get(child.name, HANG_S):
            return f"no heartbeat for {silent_s:.1f} s"
        if child.name == "audio":
            callbacks, since = self._callbacks
            if callbacks != int(self.table[t.CALLBACKS]) or now - child.started_s < HANG_S or now == self._stalled_s:
                self._callbacks = (int(self.table[t.CALLBACKS]), now)
            else:
                audio = self.session.config.audio
                limit = max(SILENT_CALLBACKS_S, 10 * audio.block_size / audio.sample_rate)
                if now - since > limit:
                    return f"no callback for {now - since:.2f} s: the audio server or the device is gone"
        return ""

    def _bury(self, child: Child, now: float, why: str) -> None:
        child.process = None
        self.session.role(child.name)[STATE] = STARTING
        child.due_s = now + BACKOFF_S[min(child.failures, len(BACKOFF_S) - 1)]
        child.failures += 1
        self._tell(child, "down", why)

    def _tell(self, child: Child, state: str, detail: str) -> None:
        frame = self.session.frame
        pid = child.process.pid if child.process else 0
        short = detail.encode()[:MAX_DETAIL_SIZE].decode(errors="ignore")  # a longer event would not fit into its ring
        self.session.emit("supervisor", RoleEvent(frame, frame, child.name, state, pid, max(child.restarts, 0), short))
        if state != "up":
            print(f"rtserver: {child.name} {state}{': ' + detail if detail else ''}", file=sys.stderr, flush=True)

    def up(self, name: str) -> bool:
        """Whether a role has finished preparing."""
        return int(self.session.role(name)[STATE]) == UP

    def _all_up(self, names: list[str]) -> bool:
        return all(self.up(name) for name in names)

    @property
    def ready(self) -> bool:
        """Whether audio flows, and every role is up but those of a song that waits."""
        idle = self.decks.idle.suffix
        waiting = {role + idle for role in DECK_ROLES}
        return int(self.table[t.CALLBACKS]) > 0 and all(self.up(name) for name in self.children if name not in waiting)

    def close(self) -> None:
        """End all roles: notes and audio first; then those who let go of what is left and tell of it. What does not close is killed."""
        self.decks.close()
        last = [child for child in self.children.values() if child.name in ("standby", "gateway", "recorder")]
        first = [child for child in self.children.values() if child not in last]
        for children, limit_s in ((first, CLOSE_S), (last, CLOSE_LAST_S)):
            for child in children:
                if child.process is not None:
                    self.session.role(child.name)[STATE] = CLOSING
                    child.process.terminate()
            self._reap(children, time.monotonic() + limit_s)
            if children is first:
                self._tell_the_rest()
        for child in self.children.values():
            dismiss(child.spare)

    def _tell_the_rest(self) -> None:
        """What the mixer did after the engine had gone."""
        for deck in self.decks.decks:
            if deck.song is not None:
                outputs = list(deck.song.song.config.outputs)
                for event in (*unread(self.session.block, deck.number, outputs), *unfinished(self.session.block, deck.number, outputs)):
                    self.session.emit("supervisor", event)

    def _reap(self, children: list[Child], until: float) -> None:
        for child in children:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a disk; it is gone when that answers
                    child.process.wait(KILL_S)


def metrics_available() -> bool:
    """Whether the extra is installed; says so where it is not: a show goes on without metrics."""
    if importlib.util.find_spec("prometheus_client") is not None:
        return True
    print("rtserver: metrics.port is set, but prometheus-client is missing: pip install 'rtserver[metrics]'", file=sys.stderr, flush=True)
    return False


def _sweep() -> None:
    """Remove the run folders of servers that were killed: nothing in them is of use to anybody."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            shutil.rmtree(folder, ignore_errors=True)


def run(songs: list[Song], on_turn: Callable[[Supervisor], bool] | None = None, read_show: Callable[[], list[Song]] | None = None) -> int:
    """Run a server until SIGINT, SIGTERM, a client's ``quit``, or `on_turn` returns False. SIGHUP reads the show anew.

    Returns the exit code.
    """
    stop = reload = False

    def handler(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stop
        stop = True

    def on_hangup(_signal: int, _frame: FrameType | None) -> None:
        nonlocal reload
        reload = True

    signal.signal(signal.SIGHUP, on_hangup)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)
    _sweep()
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-") as folder:
        supervisor = Supervisor(preflight(songs, Path(folder)), Path(folder), read_show)
        try:
            supervisor.start()
            while not stop and supervisor.turn():
                if reload:
                    reload = False
                    supervisor.reload()
                if on_turn is not None and not on_turn(supervisor):
                    break
        finally:
            supervisor.close()
    return 0
