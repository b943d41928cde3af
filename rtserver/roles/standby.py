"""The standby: holds a second MIDI port, connected as the first, and lets go of every note the moment the midi process dies.

A new process needs 0.2 to 0.35 s before its JACK port is visible; this one is there already. It acts on death alone: a midi process that
hangs is the supervisor's to kill, and then it is dead.
"""

from __future__ import annotations

import os
import select
import time

from rtserver.errors import DeviceError
from rtserver.midi import links
from rtserver.midi.notes import NoteTable
from rtserver.midi.ports import NullOutput, Output, open_ports
from rtserver.roles.midi import CONNECTIONS, RETRY_S
from rtserver.roles.role import TURN_S
from rtserver.shared.session import PID, Session

SUFFIX = "-standby"


class Watch:
    """Waits for the end of one process: by descriptor where the system has them (Linux), else by asking whether the pid exists."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._gone = False
        self._fd = -1
        self._poll = select.poll()
        if hasattr(os, "pidfd_open"):
            try:
                self._fd = os.pidfd_open(pid)
            except ProcessLookupError:
                self._gone = True
            else:
                self._poll.register(self._fd, select.POLLIN)

    def ended(self, timeout_s: float) -> bool:
        """Whether the process has ended; waits at most `timeout_s`, and returns at once when it ends (without descriptors: within 5 ms)."""
        if self._gone:
            return True
        if self._fd >= 0:
            return bool(self._poll.poll(timeout_s * 1e3))
        until_s = time.monotonic() + timeout_s
        while time.monotonic() < until_s:
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.005)
        return False

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class StandbyRole:
    """Watches the midi process of the moment; releases what it leaves behind."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.table = NoteTable(session.block["notes"])
        self.output: Output = NullOutput()
        self._watch: Watch | None = None
        self._ended_pid = 0  # the last one that we saw end
        self._file = session.run_folder / CONNECTIONS
        self._look_s = 0.0

    def prepare(self) -> None:
        """Open the port. The midi role says why if there is none."""
        self._look()

    def turn(self) -> bool:
        """Wait for the end of the midi process, or, where none is known, for the next one."""
        if self.output.lost:
            raise DeviceError("the JACK server behind the standby's MIDI port is gone")
        self._find()
        if self._watch is None:
            self.session.waker("standby").wait(TURN_S)
        elif self._watch.ended(TURN_S):
            self._release()
            self._ended_pid = self._watch.pid
            self._watch.close()
            self._watch = None
        if time.monotonic() >= self._look_s:
            self._look()
        return True

    def close(self) -> None:
        """The midi role, ending with us, releases its own notes; if it is already dead, we do."""
        self._find()
        if self._watch is not None and self._watch.ended(0.0):
            self._release()
        self.output.close()

    def _find(self) -> None:
        """Watch the process that the table of roles names, unless it is one that we saw end."""
        pid = int(self.session.role("midi")[PID])
        if self._watch is None and pid and pid != self._ended_pid:
            self._watch = Watch(pid)

    def _release(self) -> None:
        now_ns = time.monotonic_ns()
        held = self.table.held(now_ns)
        if not held:
            return
        for message in self.table.release_all(now_ns):
            self.output.send(message)
        self.table.clear()
        self.session.count("standby", "releases", len(held))

    def _look(self) -> None:
        """Connect as the midi role's port is; on the null backend that stands in, look for something better."""
        stands_in = self.output.api == "null" and self.session.config.midi.api != "null"
        if stands_in:
            self.output, _, _ = open_ports(self.session.config, SUFFIX, with_input=False)
            stands_in = self.output.api == "null"
        if self.output.links is not None:
            names = links.load(self._file)
            if names is not None:
                self.output.links.follow(names.get("midi_out", []))
        self._look_s = time.monotonic() + (RETRY_S if stands_in else links.POLL_S)
