"""One role's process as the supervisor sees it: begun, found well or faulty, ended, begun again.

Its death is seen through its process; a hang through its heartbeat; a dead audio server through the callback counter that stands still.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

from rtserver.audio import table as t
from rtserver.roles.spares import call
from rtserver.shared.session import BEAT_NS, CLOSING, COMPILATIONS, LOCKED, MEMORY, PID, PRIORITY, RESTARTS, STARTING, STATE, UP, Session

HANG_S = 1.0  # heartbeats come every 50 ms at most; a role silent for this long is stuck, not slow
# A disk may take its time: the music does not wait for it. But notes sound on while midi is stuck.
HANG_LIMITS_S = {"recorder": 10.0, "midi": 0.5}
START_S = 120.0  # a cold kernel cache can take a minute on a slow machine
SILENT_CALLBACKS_S = 0.25  # or ten periods, if that is more: the audio server is gone
KILL_S = 0.2  # what a killed process takes to be gone, unless the kernel holds it
BACKOFF_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)  # waits before the n-th restart in a row
STEADY_S = 10.0  # up for so long, a role's failures are forgotten
SPARES = ("audio",)  # roles whose next process waits, its code loaded, for the present one's death: nothing conceals their absence
SPARE_S = 1.0  # when a role has been up for so long, its spare is made: not while everything starts


class Child:
    """One role's process and its history."""

    def __init__(self, name: str, session: Session) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.spare: subprocess.Popen[bytes] | None = None
        self.restarts = -1
        self.failures = 0
        self.due_s = 0.0  # when it may be begun again
        self.was_up = False
        self.fault = ""  # why it was killed, from then until it is gone
        self._session, self._row = session, session.role(name)
        self._started_s = 0.0
        self._callbacks = (0, time.monotonic())  # of audio: how many there were, and since when there have been no more

    @property
    def up(self) -> bool:
        """Whether it has finished preparing."""
        return int(self._row[STATE]) == UP

    def spawn(self) -> None:
        """Begin it; its spare plays, where there is one."""
        row, fd = self._row, self._session.block.fd
        self.restarts += 1
        self._started_s = time.monotonic()
        self.was_up, self.fault = False, ""
        row[STATE], row[RESTARTS], row[BEAT_NS] = STARTING, self.restarts, time.monotonic_ns()
        row[LOCKED], row[PRIORITY], row[MEMORY], row[COMPILATIONS] = 0, 0, 0, 0
        self.process = call(self.spare) or subprocess.Popen(self._command(), pass_fds=[fd], stdin=subprocess.DEVNULL)
        self.spare = None
        row[PID] = self.process.pid

    def make_spare(self) -> None:
        """Begin the process that plays when this one has died."""
        fd = self._session.block.fd
        self.spare = subprocess.Popen([*self._command(), "--spare"], pass_fds=[fd], stdin=subprocess.PIPE)

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "rtserver.roles.role", self.name, str(self._session.block.fd)]

    def lacks_spare(self, now: float) -> bool:
        """Whether it is time to make one: while there is no process, or when that has been up for a while."""
        steady = self.process is None or (self.was_up and now - self._started_s > SPARE_S)
        return self.name in SPARES and self.spare is None and steady

    def ended(self) -> str:
        """Why its process has ended: the fault it was killed for, what it says itself, or its status. Empty while it lives."""
        status = self.process.poll() if self.process is not None else None
        if status is None:
            return ""
        return self.fault or self._last_words() or f"ended with status {status}"

    def _last_words(self) -> str:
        try:
            path = self._session.last_words(self.name)
            words = path.read_text(encoding="utf-8")
            path.unlink()
        except OSError:
            return ""
        return words

    def bury(self, now: float) -> None:
        """Its process is gone; it may be begun again, the later the more often it failed."""
        self.process = None
        self._row[STATE] = STARTING
        self.due_s = now + BACKOFF_S[min(self.failures, len(BACKOFF_S) - 1)]
        self.failures += 1

    def forgive(self, now: float) -> None:
        """What has been up for long enough has not failed."""
        if self.failures and self.was_up and now - self._started_s > STEADY_S:
            self.failures = 0

    def diagnose(self, now: float, stalled_s: float) -> str:
        """Why its living process must be killed; empty if it is well. `stalled_s`: when the supervisor itself last stood still."""
        # Whoever stood still together with us has its time again to show that it lives.
        silent_s = now - max(int(self._row[BEAT_NS]) * 1e-9, stalled_s)
        if not self.up:
            return "did not start in time" if now - self._started_s > START_S else ""
        if silent_s > HANG_LIMITS_S.get(self.name, HANG_S):
            return f"no heartbeat for {silent_s:.1f} s"
        return self._callbacks_stopped(now, stalled_s) if self.name == "audio" else ""

    def _callbacks_stopped(self, now: float, stalled_s: float) -> str:
        n_callbacks, since = self._callbacks
        counted = int(self._session.block["audio.table"][t.CALLBACKS])
        if n_callbacks != counted or now - self._started_s < HANG_S or now == stalled_s:
            self._callbacks = (counted, now)
            return ""
        audio = self._session.config.audio
        limit_s = max(SILENT_CALLBACKS_S, 10 * audio.block_size / audio.sample_rate)
        return f"no callback for {now - since:.2f} s: the audio server or the device is gone" if now - since > limit_s else ""

    def kill(self, fault: str) -> None:
        """End it at once, for this reason."""
        self.fault = fault
        if self.process is not None:
            self.process.kill()

    def terminate(self) -> None:
        """Ask it to close."""
        if self.process is not None:
            self._row[STATE] = CLOSING
            self.process.terminate()

    def reap(self, until: float) -> None:
        """Wait until it has closed; then kill it."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a disk; it is gone when that answers
                self.process.wait(KILL_S)
