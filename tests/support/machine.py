"""When the machine itself stood still, as processes see it that do nothing but sleep and look at the clock.

What a test promises in seconds holds of a machine that runs. A virtual one is taken off its processors now and then, for a tenth of a
second or for one: a period of JACK is lost, a note falls due meanwhile. `Watch` knows when that was; a test then allows for it, or is tried
again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

LEAST_S = 0.01  # shorter is how any scheduler is late
LONG_S = 0.02  # a period of JACK in these tests: from here on sound and notes are lost, whatever the server does
LOOK_S = 0.004

# Above the roles, so that a role that takes the processor for itself is not excused; below JACK, as the roles are.
CODE = f"""
import os, sys, time
processor, parent = map(int, sys.argv[1:])
os.sched_setaffinity(0, [processor])
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(75))
except OSError:
    pass
last_s = time.monotonic()
while os.getppid() == parent:
    time.sleep({LOOK_S})
    now_s = time.monotonic()
    if now_s - last_s > {LEAST_S}:
        print(last_s, now_s, flush=True)
    last_s = now_s
"""


class Watch:
    """Looks on from a process on every processor, and from a thread of this process, whose stamps tests go by."""

    def __init__(self) -> None:
        self._stalls: list[list[tuple[float, float]]] = [[]]  # of each who looks on: (from, to), seconds of CLOCK_MONOTONIC
        self._looked_s = time.monotonic()
        self._stop = False
        self.processes: list[subprocess.Popen[str]] = []
        processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        for processor in processors:
            command = [sys.executable, "-S", "-E", "-c", CODE, str(processor), str(os.getpid())]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self.processes.append(process)
            self._stalls.append([])
            threading.Thread(target=self._read, args=(process, self._stalls[-1]), daemon=True).start()
        threading.Thread(target=self._look, args=(self._stalls[0],), daemon=True).start()

    @staticmethod
    def _read(process: subprocess.Popen[str], stalls: list[tuple[float, float]]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            from_s, to_s = map(float, line.split())
            stalls.append((from_s, to_s))

    def _look(self, stalls: list[tuple[float, float]]) -> None:
        while not self._stop:
            time.sleep(LOOK_S)
            now_s = time.monotonic()
            if now_s - self._looked_s > LEAST_S:
                stalls.append((self._looked_s, now_s))
            self._looked_s = now_s

    def _lengths(self, since_s: float, until_s: float, ours: bool) -> list[list[float]]:
        time.sleep(3 * LOOK_S)  # what has just been seen comes by pipe
        seen = [list(stalls) for stalls in self._stalls[0 if ours or not self.processes else 1 :]]
        return [[min(b, until_s) - max(a, since_s) for a, b in stalls if b > since_s and a < until_s] for stalls in seen]

    def total_s(self, since_s: float, until_s: float = float("inf"), ours: bool = True) -> float:
        """Seconds that the processor which stood still most has stood still since then; `ours`: or this process."""
        return max(sum(lengths) for lengths in self._lengths(since_s, until_s, ours))

    def longest_s(self, since_s: float, until_s: float = float("inf"), ours: bool = True) -> float:
        """The longest standstill of any processor since then, 0 if there was none; `ours`: or of this process."""
        return max((length for lengths in self._lengths(since_s, until_s, ours) for length in lengths), default=0.0)

    def close(self) -> None:
        self._stop = True
        for process in self.processes:
            process.kill()
            process.wait()


_watch: Watch | None = None


def watch() -> Watch:
    """The one of this test run; it looks on from the first call on."""
    global _watch  # noqa: PLW0603 (one for a process, as the machine is one)
    if _watch is None:
        _watch = Watch()
    return _watch


def close() -> None:
    """Nobody looks on any more."""
    global _watch  # noqa: PLW0603
    if _watch is not None:
        _watch.close()
        _watch = None
