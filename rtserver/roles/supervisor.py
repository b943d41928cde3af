"""The supervisor: spawns the roles, watches them, kills what hangs, starts again what died, ends everything in good order.

It imports no numba and opens no device. How a dead or a stuck role is known: `rtserver.roles.child`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from rtserver.audio import table as t
from rtserver.errors import ConfigError
from rtserver.events import Command, Device
from rtserver.events import Role as RoleEvent
from rtserver.plan import open_session
from rtserver.preflight import Prepared, preflight
from rtserver.roles.child import Child
from rtserver.roles.decks import Decks, roles_of, tell_exit
from rtserver.roles.locking import memory_of
from rtserver.roles.spares import dismiss
from rtserver.shared.session import DECK_ROLES, MEMORY, PID, STATE, UP, Session
from rtserver.show import Song

TURN_S = 0.02
PREFIX = "rtserver-"  # of run folders; the supervisor's pid follows
STALL_S = 0.2  # a turn of our own that took this long: the whole machine stood still, and every heart with it
DISMISS_S = 0.2  # what the roles of a song that has ended have to close; they have nothing to finish
CLOSE_S, CLOSE_LAST_S = 1.2, 0.7  # what roles have to close before they are killed: together under 2 s
WEIGH_S = 1.0  # the memory of one role is looked at, which takes some milliseconds
MAX_DETAIL_SIZE = 120  # bytes


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
        self.children = {name: Child(name, self.session) for name in (*names, "audio")}
        self._turned_s = time.monotonic()
        self._stalled_s = 0.0  # when we ourselves last stood still
        self.decks = Decks(self.session, setlist, run_folder, spawn=self._begin, end=self._end, up=self._all_up)
        self.stopping = False
        self._begun = False
        self._weigh_s, self._weighed = 0.0, 0

    def start(self) -> None:
        """Spawn all roles; audio waits until engine and separator are up, so that the first sound is already served."""
        for child in self.children.values():
            if child.name != "audio":
                child.spawn()

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
            self.children[name] = Child(name, self.session)
            self.children[name].spawn()

    def _end(self, names: list[str]) -> None:
        """End roles that are not needed any more."""
        children = [self.children.pop(name) for name in names if name in self.children]
        for child in children:
            child.terminate()
            dismiss(child.spare)
        _reap(children, DISMISS_S)

    def _weigh(self) -> None:
        """Note how much memory one role takes; the others have their turns."""
        name = list(self.children)[self._weighed % len(self.children)]
        self._weighed += 1
        row = self.session.role(name)
        if self.up(name):
            row[MEMORY] = memory_of(int(row[PID])).get("pss", 0)

    def _look_after(self, child: Child, now: float) -> None:
        if child.process is None:
            makers = [name for name in ("engine", "separator") if name in self.children]
            too_early = child.name == "audio" and child.restarts < 0 and not self._all_up(makers)
            if now >= child.due_s and not too_early:
                child.spawn()
            elif child.lacks_spare(now):
                child.make_spare()  # it loads while it waits
            return
        why = child.ended()
        if why:
            child.bury(now)
            tell_exit(self.session, child.name)
            self._tell(child, "down", why)
            return
        if child.fault:
            return  # killed, but it waits for a disk that does not answer: we do not
        if child.up and not child.was_up:
            child.was_up = True
            self._tell(child, "restarted" if child.restarts else "up", "")
        child.forgive(now)
        if child.lacks_spare(now):
            child.make_spare()
        fault = child.diagnose(now, self._stalled_s)
        if fault:
            child.kill(fault)

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
                child.terminate()
            _reap(children, limit_s)
            if children is first:
                self.decks.tell_rest()
        for child in self.children.values():
            dismiss(child.spare)


def _reap(children: list[Child], limit_s: float) -> None:
    """Wait until all have closed, `limit_s` at most; kill those that have not."""
    until = time.monotonic() + limit_s
    for child in children:
        child.reap(until)


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
