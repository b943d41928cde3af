"""The shape of every role: prepare, turn after turn with a heartbeat, close. One process each.

``python -m rtserver.roles.role NAME FD`` attaches to the session behind the inherited descriptor FD and runs until SIGTERM, until its
`turn` says so, or until the supervisor is gone. With ``--spare`` it loads the role's code and then waits for a line on its standard input:
what takes longest at a restart is done before it is needed.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Protocol

from rtserver.errors import RtserverError
from rtserver.roles.locking import lock_memory
from rtserver.shared.session import COMPILATIONS, LOCKED, PRIORITY, SECOND, STATE, UP, Session

TURN_S = 0.05  # a turn waits at most this long, so that heartbeats come at least 20 times a second

# Which class plays which role, and with which real-time priority it asks to be run (0: none).
CAST: dict[str, tuple[str, str, int]] = {
    "audio": ("rtserver.roles.audio", "AudioRole", 0),  # the callback's thread gets its priority from the audio system
    "engine": ("rtserver.roles.engine", "EngineRole", 50),
    "separator": ("rtserver.roles.separator", "SeparatorRole", 48),  # what it makes is due within a few hops
    "follower": ("rtserver.roles.follower", "FollowerRole", 40),
    "performer": ("rtserver.roles.performer", "PerformerRole", 40),
    "midi": ("rtserver.roles.midi", "MidiRole", 45),
    "standby": ("rtserver.roles.standby", "StandbyRole", 45),
    "cables": ("rtserver.roles.cables", "CablesRole", 0),
    "gateway": ("rtserver.roles.gateway", "GatewayRole", 0),
    "recorder": ("rtserver.roles.recorder", "RecorderRole", 0),
    "metrics": ("rtserver.roles.metrics", "MetricsRole", 0),
}


class Role(Protocol):
    """What a role's class provides. Made with the session; nothing heavy happens before `prepare`."""

    def prepare(self) -> None:
        """Load, open, warm up. May take seconds."""
        ...

    def turn(self) -> bool:
        """Wait at most `TURN_S` for something to do and do it. False ends the role."""
        ...

    def close(self) -> None:
        """Leave nothing sounding, open or half-written. Must end within a second."""
        ...


def realtime(priority: int) -> bool:
    """Ask for SCHED_FIFO. False where the system refuses: everything still works, with more slack needed."""
    if not priority or not hasattr(os, "sched_setscheduler"):
        return False
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError:
        return False
    return True


def play(name: str, session: Session, stopping: Callable[[], bool]) -> None:
    """Run the role `name` until it, its signal or its supervisor ends it."""
    module, cls, priority = CAST[name.removesuffix(SECOND)]
    role: Role = getattr(importlib.import_module(module), cls)(session)
    session.beat(name)
    role.prepare()
    row = session.role(name)
    row[PRIORITY] = priority if realtime(priority) else 0
    gc.collect()
    gc.freeze()
    row[LOCKED] = bool(priority or name == "audio") and lock_memory()
    kernels = sys.modules.get("rtserver.kernels")  # where it is not loaded, nothing can compile
    if kernels is not None:
        kernels.on_compile(lambda: row.__setitem__(COMPILATIONS, row[COMPILATIONS] + 1))
    row[STATE] = UP
    supervisor = session.block.creator
    try:
        while not stopping() and os.getppid() == supervisor:
            session.beat(name)
            if not role.turn():
                break
    finally:
        role.close()


def main() -> int:
    """Entry point of a role's process."""
    name, fd = sys.argv[1], int(sys.argv[2])
    stopped = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    if sys.argv[3:] == ["--spare"]:
        importlib.import_module(CAST[name][0])
        if not sys.stdin.buffer.readline():  # the supervisor needs us no more, or is gone
            return 0
    session = Session.attach(fd, deck=int(name.endswith(SECOND)))
    try:
        play(name, session, lambda: stopped)
    except RtserverError as error:
        print(f"rtserver {name}: {error}", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):  # the session's folder goes with the supervisor
            session.last_words(name).write_text(str(error), encoding="utf-8")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
