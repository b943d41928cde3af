"""A keyboard and an ear on JACK, to the frame, in a process of its own: the interpreter of whoever uses it disturbs neither.

Run as a program with the name of a client, it reads lines of messages in hex, apart by spaces, and sends those of a line together at the
start of the next period. It writes a line of all that it has sent or heard: ``out`` or ``in``, the JACK frame, the time of that frame by
JACK's clock, when the period was worked on (both CLOCK_MONOTONIC in nanoseconds), the message. It passes on any bytes, MIDI or not. It ends
with its standard input.
"""

from __future__ import annotations

import ctypes
import os
import select
import subprocess
import sys
import threading
import time
from collections import deque
from typing import NamedTuple

LOOK_S = 0.002


class Stamped(NamedTuple):
    """A message and the JACK frame at which it passed."""

    frame: int
    at_ns: int  # the time of that frame by JACK's smoothed clock, on CLOCK_MONOTONIC
    worked_ns: int  # when that period was worked on: a server that is late leaves it behind `at_ns`
    data: bytes


class JackMidi:
    """The process as its user sees it: ports ``NAME:out`` and ``NAME:in``."""

    def __init__(self, name: str) -> None:
        self.sent: list[Stamped] = []
        self.heard: list[Stamped] = []
        command = [sys.executable, __file__, name]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", f"{name} finds no JACK server"
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, *messages: bytes) -> None:
        """Let them go out together at the start of the next period. An empty message is refused by JACK: leave it out."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(m.hex() for m in messages).encode() + b"\n")
        self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """To kill it: a cable that is pulled."""
        return self._process.pid

    def close(self) -> None:
        """Take the ports away; nothing is said of keys that are down."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._process.wait(10.0)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            where, frame, at_ns, worked_ns, data = line.split()
            stamped = Stamped(int(frame), int(at_ns), int(worked_ns), bytes.fromhex(data.decode()))
            (self.sent if where == b"out" else self.heard).append(stamped)


def run(name: str) -> None:
    """The process itself."""
    import jack

    lib = ctypes.CDLL("libjack.so.0")
    lib.jack_get_time.restype = lib.jack_frames_to_time.restype = ctypes.c_uint64
    lib.jack_frames_to_time.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    client = jack.Client(name, no_start_server=True)
    pointer = int(jack._ffi.cast("uintptr_t", client._ptr))
    ear, mouth = client.midi_inports.register("in"), client.midi_outports.register("out")
    waiting: deque[bytes] = deque()
    passed: deque[tuple[str, int, int, bytes]] = deque()

    @client.set_process_callback
    def process(_frames: int) -> None:
        mouth.clear_buffer()
        start, now_ns = client.last_frame_time, time.monotonic_ns()
        for offset, data in ear.incoming_midi_events():
            passed.append(("in", start + offset, now_ns, bytes(data)))
        while waiting:
            message = waiting.popleft()
            try:
                mouth.write_midi_event(0, message)
            except jack.JackErrorCode:  # does not fit into what is left of the period's buffer: the next one takes it
                if message is not None and len(message) < 4096:
                    waiting.appendleft(message)
                break
            passed.append(("out", start, now_ns, message))

    client.activate()
    print("ready", flush=True)
    buffered = b""
    while True:
        if select.select([0], [], [], LOOK_S)[0]:
            data = os.read(0, 1 << 16)
            if not data:
                break
            *lines, buffered = (buffered + data).split(b"\n")
            waiting.extend(bytes.fromhex(word.decode()) for line in lines for word in line.split())
        out = ""
        # JACK's clock need not be CLOCK_MONOTONIC. Whoever is interrupted between the two sees less than there is.
        apart_ns = max(time.monotonic_ns() - lib.jack_get_time() * 1000 for _ in range(3))
        while passed:
            where, frame, worked_ns, message = passed.popleft()
            at_ns = lib.jack_frames_to_time(pointer, frame & 0xFFFFFFFF) * 1000 + apart_ns
            out += f"{where} {frame} {at_ns} {worked_ns} {message.hex()}\n"
        if out:
            sys.stdout.write(out)
            sys.stdout.flush()
    os._exit(0)  # without saying good-bye: as a cable that is pulled


if __name__ == "__main__":
    run(sys.argv[1])
