"""A local MIDI port, as the program that plays on it sees it: behind a guardian, which survives it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

GUARDIAN = Path(__file__).parent / "guardian.py"
READY_S = 10.0  # a busy machine starts an interpreter slowly
HANG_S = 1.0  # the guardian says ten times a second that it lives
AGAIN_S = 1.0  # after it has ended another is tried so much later; at once, if it had been there for longer
BEAT_S = 0.05  # it lets go of everything when it hears nothing for 0.2 s
ATOMIC = 512  # bytes that a pipe takes whole or not at all, everywhere


class PortError(Exception):
    """The port cannot be opened; the text says why and what to do."""


class Port:
    """A MIDI port of this machine. Any thread may send; one calls `turn` again and again.

    Parameters
    ----------
    api : str
        "auto" (JACK where it runs, else the system's own), "jack", "alsa" or "coremidi".
    client : str
        What the port's owner is called; the port itself is ``midi_out``.
    destination : str
        Part of the name of the port to send to, in any case; it is waited for and found again. Empty: our port is there for any patchbay.
    """

    def __init__(self, api: str = "auto", client: str = "play_midi", destination: str = "") -> None:
        self._command = [sys.executable, str(GUARDIAN), api, client, destination]
        self._destination = destination
        self.lost = 0  # times that the port, its guardian or its destination went away
        self.reason = ""  # why, the last time
        self.connected = ""  # the destination, while it is there
        self.ready = False
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()
        self._held = b""
        self._sounding: set[tuple[int, int]] = set()
        self._left: set[tuple[int, int]] = set()  # what sounded when the port went
        self._heard_s = self._beat_s = self._again_s = self._began_s = 0.0

    @property
    def pid(self) -> int:
        """Of the guardian; 0 if there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def plays(self) -> bool:
        """Whether what is sent goes anywhere, as far as is known here."""
        return self.ready and (not self._destination or bool(self.connected))

    def open(self) -> None:
        """Open it for the first time. Raises `PortError`."""
        self._spawn()
        until_s = time.monotonic() + READY_S
        while not self.ready and self._process is not None:
            if time.monotonic() > until_s:
                self._end("the MIDI port did not open in time")
            self._read(time.monotonic())
            time.sleep(0.005)
        if not self.ready:
            raise PortError(self.reason)

    def turn(self, now_s: float) -> bool:
        """Say that we live, hear what the guardian says, start another if it has ended. False if what sounded is lost from view.

        To be called twenty times a second.
        """
        with self._lock:
            before = self.lost
            if self._process is None:
                if now_s >= self._again_s:
                    self._spawn()
            else:
                self._read(now_s)
                if self._process is not None and now_s - self._heard_s > (HANG_S if self.ready else READY_S):
                    self._end(f"the guardian of the MIDI port hung for {now_s - self._heard_s:.1f} s")
                if now_s >= self._beat_s:
                    self._write(b"\0")
            return self.lost == before

    def send(self, messages: list[bytes]) -> None:
        """Send now. While the port is gone, messages are dropped."""
        with self._lock:
            packet = b""
            for message in messages:
                kind, key = message[0] & 0xF0, (message[0] & 0x0F, message[1])
                (self._sounding.add if kind == 0x90 and message[2] else self._sounding.discard)(key)
                if len(packet) + len(message) + 1 > ATOMIC:
                    self._write(packet)
                    packet = b""
                packet += bytes([len(message)]) + message
            if packet:
                self._write(packet)

    def close(self) -> None:
        """Let go of everything and take the port away; half a second."""
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()  # it lets go and leaves
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(2.0)
            self._end("", count=False)

    def _spawn(self) -> None:
        # In a session of its own, so that what is sent to our whole group does not reach it; without our errors: libjack is talkative.
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, bufsize=0
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        os.set_blocking(self._process.stdout.fileno(), False)
        self._held, self._heard_s, self._beat_s = b"", time.monotonic(), 0.0
        self._began_s = self._heard_s

    def _read(self, now_s: float) -> None:
        assert self._process is not None and self._process.stdout is not None
        while self._process is not None:
            try:
                data = os.read(self._process.stdout.fileno(), 65536)
            except BlockingIOError:
                return
            if not data:
                self._end(self.reason if not self.ready and self.reason else "the MIDI system behind the port has gone")
                return
            self._heard_s = now_s
            *lines, self._held = (self._held + data).split(b"\n")
            for line in lines:
                word, _, rest = line.decode(errors="replace").partition(" ")
                self._take(word, rest)

    def _take(self, word: str, rest: str) -> None:
        if word == "ready":
            self.ready, self.reason = True, ""
            if not self._destination:
                self._let_go()
        elif word == "error":
            self.reason = rest
        elif word == "connected":
            self.connected, self.reason = rest, ""
            self._let_go()
        elif word == "gone":
            self.lost += 1
            self._left |= self._sounding
            self.connected, self.reason = "", f"the port {rest} has gone"

    def _let_go(self) -> None:
        """What sounded on a port that went may sound still on the one that has come."""
        left, self._left = self._left - self._sounding, set()
        self.send([bytes((0x80 | channel, pitch, 0)) for channel, pitch in sorted(left)])

    def _write(self, data: bytes) -> None:
        if self._process is None or self._process.stdin is None:
            return
        try:
            os.write(self._process.stdin.fileno(), data)
            self._beat_s = time.monotonic() + BEAT_S
        except BlockingIOError:
            self._end("the guardian of the MIDI port takes no more")
        except OSError:
            pass  # it has ended: what it said last is read next

    def _end(self, why: str, count: bool = True) -> None:
        process, self._process = self._process, None
        was_ready = self.ready
        self.lost += count and was_ready
        self._left |= self._sounding
        self.ready, self.connected, self.reason = False, "", why
        now_s = time.monotonic()
        self._again_s = now_s if was_ready and now_s - self._began_s > AGAIN_S else now_s + AGAIN_S
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
