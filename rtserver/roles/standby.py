"""The standby: holds one more MIDI port, connected to whatever the others are, and lets go of every note the moment midi dies.

A new process needs 0.2 to 0.35 s before its JACK port is visible; this one is there already. It watches the midi process and its senders.
A midi process that hangs is the supervisor's to kill; until then the standby ends the notes that have outlived their end.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Collection

from rtserver.config.midi import ports_of
from rtserver.errors import DeviceError
from rtserver.midi import links
from rtserver.midi.messages import note_off, silence
from rtserver.midi.notes import NoteTable
from rtserver.midi.patchbay import STANDBY
from rtserver.midi.ports import OUT_PORT, NullOutput, Output, client_name, find_api, jack_has, open_output
from rtserver.roles.role import TURN_S
from rtserver.shared.session import PID, Session

REPEATS = 4  # times that a release is sent again, `TURN_S` apart: jackd loses what is sent while it clears away the dead client
RETRY_S = 2.0  # how often a null backend that stands in for a missing one looks whether it has come
OVERDUE_NS = 120_000_000  # a note-off this late is not coming soon: midi sends them within 8 ms (worst of 500 on a busy machine)
SETTLED_S = 1.0  # after a death, when jackd may be asked whether our own port still stands


class Watch:
    """One process and its end: by descriptor where the system has them (Linux), else by asking whether the pid exists."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.fd = -1
        self._gone = False
        if hasattr(os, "pidfd_open"):
            try:
                self.fd = os.pidfd_open(pid)
            except ProcessLookupError:
                self._gone = True

    def ended(self) -> bool:
        """Whether the process has ended."""
        if self._gone:
            return True
        if self.fd >= 0:
            poll = select.poll()
            poll.register(self.fd, select.POLLIN)
            return bool(poll.poll(0))
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def close(self) -> None:
        """Give the descriptor back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def first_ended(watches: Collection[Watch], timeout_s: float) -> Watch | None:
    """One of the processes that has ended. Waits at most `timeout_s`, and returns at once when one ends (without descriptors: in 5 ms)."""
    until_s = time.monotonic() + timeout_s
    while True:
        ended = next((watch for watch in watches if watch.ended()), None)
        left_s = until_s - time.monotonic()
        if ended is not None or left_s <= 0:
            return ended
        if watches and all(watch.fd >= 0 for watch in watches):
            poll = select.poll()
            for watch in watches:
                poll.register(watch.fd, select.POLLIN)
            poll.poll(left_s * 1e3)
        else:
            time.sleep(min(left_s, 0.005 if watches else left_s))


class StandbyRole:
    """Watches the midi process of the moment and its senders; releases what they leave behind."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.tables = [NoteTable(cells) for cells in session.block["notes.ports"]]
        self.output: Output = NullOutput()
        self._watches: dict[int, Watch] = {}
        self._ended: set[int] = set()  # those that we saw end
        self._messages: list[bytes] = []
        self._repeats = 0
        self._overdue: set[tuple[int, int]] = set()
        self._look_s = 0.0

    def prepare(self) -> None:
        """Open the port. The midi role says why if there is none, and its patchbay connects ours to whatever its own are connected to."""
        self.session.block["counters.standby"][:] = 0
        self._open()

    def turn(self) -> bool:
        """Wait for the end of one of the processes, or, where none is known, for the next one."""
        self._find()
        ended = first_ended(self._watches.values(), TURN_S)
        if ended is not None:
            self._release(clear=ended.pid == int(self.session.role("midi")[PID]))
            self._ended.add(ended.pid)
            self._watches.pop(ended.pid).close()
            self._look_s = time.monotonic() + SETTLED_S
        if self._repeats:
            self._repeats -= 1
            self._send()
        elif self._look_s and time.monotonic() >= self._look_s:
            self._look_s = 0.0
            self._look()
        else:
            self._release_overdue()
        return True

    def close(self) -> None:
        """The midi role, ending with us, releases its own notes; if it is already dead, we do."""
        self._find()
        if first_ended(self._watches.values(), 0.0) is not None:
            self._release(clear=True)
        for _ in range(self._repeats):
            time.sleep(TURN_S)
            self._send()
        self.output.close()

    def _find(self) -> None:
        """Watch the processes that the shared block names, unless we saw them end."""
        named = {int(self.session.role("midi")[PID]), *(int(pid) for pid in self.session.block["midi.senders"])} - {0}
        for pid in named - self._watches.keys() - self._ended:
            self._watches[pid] = Watch(pid)
        self._ended &= named

    def _release(self, clear: bool) -> None:
        """Release what the tables hold; `clear` them if nobody else writes them any more."""
        held = {key for table in self.tables for key in table.held()}
        if not held:
            return
        self._messages = [*(note_off(*key) for key in sorted(held)), *silence()]
        self._send()
        self._repeats = REPEATS
        if clear:
            for table in self.tables:
                table.clear()
            self.session.block["notes"][:] = 0
        self.session.count("standby", "releases", len(held))

    def _release_overdue(self) -> None:
        """A midi process that lives and hangs leaves notes behind their end: let go of these, and of these alone."""
        now_ns = time.monotonic_ns()
        overdue = {key for table in self.tables for key in table.overdue(now_ns, OVERDUE_NS)}
        self._messages = [note_off(*key) for key in sorted(overdue)]
        self._send()
        self.session.count("standby", "overdue", len(overdue - self._overdue))
        self._overdue = overdue

    def _send(self) -> None:
        if self._messages:
            self.output.send(*self._messages)

    def _open(self) -> None:
        config = self.session.config
        api, _ = find_api(config)
        self.output = NullOutput()
        if api != "null":
            with contextlib.suppress(DeviceError):
                connect = [name for port in ports_of(config).values() for name in port.connect]
                self.output = open_output(api, client_name(config, "standby"), connect)
        if self.output.api == "jack":
            links.save(self.session.run_folder / STANDBY, {OUT_PORT: [self.output.name]})
        elif self.output.api == "null" and config.midi.api != "null":
            self._look_s = time.monotonic() + RETRY_S

    def _look(self) -> None:
        """After a death: was it jackd's? On the null backend that stands in: is there something better by now?"""
        if self.output.api == "null":
            self._open()
        elif self.output.api == "jack" and not jack_has(self.output.name):
            self.output.lost = True
            raise DeviceError("the JACK server behind the standby's MIDI port is gone; it opens again when MIDI is back")
