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
from rtserver.midi.patchbay import STANDBY
from rtserver.midi.ports import OUT_PORT, NullOutput, Output, jack_has, open_output
from rtserver.roles.role import TURN_S
from rtserver.shared.session import PID, Session

SUFFIX = "-standby"
REPEATS = 4  # times that a release is sent again, `TURN_S` apart: jackd loses what is sent while it clears away the dead client
RETRY_S = 2.0  # how often a null backend that stands in for a missing one looks whether it has come
SETTLED_S = 1.0  # after a death, when jackd may be asked whether our own port still stands


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
        self._messages: list[bytes] = []
        self._repeats = 0
        self._look_s = 0.0

    def prepare(self) -> None:
        """Open the port. The midi role says why if there is none, and its patchbay connects ours as its own."""
        self.session.block["counters.standby"][:] = 0
        self._open()

    def turn(self) -> bool:
        """Wait for the end of the midi process, or, where none is known, for the next one."""
        self._find()
        if self._watch is None:
            time.sleep(TURN_S)
        elif self._watch.ended(TURN_S):
            self._release()
            self._ended_pid = self._watch.pid
            self._watch.close()
            self._watch = None
            self._look_s = time.monotonic() + SETTLED_S
        if self._repeats:
            self._repeats -= 1
            self._send()
        elif self._look_s and time.monotonic() >= self._look_s:
            self._look_s = 0.0
            self._look()
        return True

    def close(self) -> None:
        """The midi role, ending with us, releases its own notes; if it is already dead, we do."""
        self._find()
        if self._watch is not None and self._watch.ended(0.0):
            self._release()
        for _ in range(self._repeats):
            time.sleep(TURN_S)
            self._send()
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
        self._messages = self.table.release_all(now_ns)
        self._send()
        self._repeats = REPEATS
        self.table.clear()
        self.session.count("standby", "releases", len(held))

    def _send(self) -> None:
        for message in self._messages:
            self.output.send(message)

    def _open(self) -> None:
        self.output, _ = open_output(self.session.config, SUFFIX)
        if self.output.api == "jack":
            links.save(self.session.run_folder / STANDBY, {OUT_PORT: [self.output.name]})
        elif self.output.api == "null" and self.session.config.midi.api != "null":
            self._look_s = time.monotonic() + RETRY_S

    def _look(self) -> None:
        """After a death: was it jackd's? On the null backend that stands in: is there something better by now?"""
        if self.output.api == "null":
            self._open()
        elif self.output.api == "jack" and not jack_has(self.output.name):
            self.output.lost = True
            raise DeviceError("the JACK server behind the standby's MIDI port is gone; it opens again when MIDI is back")
