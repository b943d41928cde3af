"""The sender: a process that owns one MIDI output port and sends what the midi role tells it.

It has one JACK client and nothing else to do, so the death of the midi role disturbs no MIDI system: the sender finds its socket closed,
lets go of what it has sounding, and leaves in peace. If a sender itself dies, the standby releases.

Packets to it hold messages, each after its length (two bytes, little end first); ``quit`` ends it. It answers ``ready NAME``,
``error WHY``, ``made`` for a new connection (on ALSA and CoreMIDI; on JACK the patchbay makes them), and ``beat`` twenty times a second:
a sender that is silent hangs, and the midi role ends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import msgspec

from rtserver.errors import DeviceError
from rtserver.midi.messages import NOTE_OFF, NOTE_ON, note_off, silence
from rtserver.midi.ports import RtOutput, open_output, refuse

QUIT = b"quit"
PRIORITY = 46  # one above the midi role: it sends at once what it is told
MAX_PACKET_SIZE = 16384  # bytes; a panic has 1 kB
READY_S = 10.0
LOOK_S = 1.0  # how often ALSA and CoreMIDI are looked at for destinations that have come or gone
REPEATS, REPEAT_S = 4, 0.05  # times that a release is sent again, and how far apart
CLOSE_S = 2.0  # what closing a port may take
BEAT_S = 0.05
KILL_S = 0.2  # what a killed process takes to be gone, unless the kernel holds it


class Orders(msgspec.Struct, frozen=True):
    """What the midi role hands over on the command line, as JSON."""

    api: str
    client: str
    connect: list[str]


class Sender:
    """The process as the midi role sees it: an `rtserver.midi.ports.Output`. Call `ready` before anything is sent."""

    def __init__(self, orders: Orders) -> None:
        self.api = orders.api
        self.name = ""
        self.errors = 0
        self.complaint = ""
        self.lost = False
        self.heard_ns = 0  # the last sign of life
        self._made = False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "rtserver.midi.sender", msgspec.json.encode(orders).decode(), str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def ready(self, timeout_s: float = READY_S) -> None:
        """Wait until the port is open. Raises `DeviceError` if it cannot be opened."""
        self._socket.settimeout(timeout_s)
        try:
            word, _, rest = self._socket.recv(1024).decode().partition(" ")
        except OSError as error:
            word, rest = "", f"the MIDI sender did not answer ({error})"
        self._socket.setblocking(False)
        if word != "ready":
            self._process.kill()
            self._process.wait()
            raise DeviceError(rest or "the MIDI sender ended while it opened its port")
        self.name = rest
        self.heard_ns = time.monotonic_ns()

    def listen(self, now_ns: int) -> None:
        """Take what the process has said up to now."""
        with contextlib.suppress(OSError):
            while word := self._socket.recv(64):
                self.heard_ns = now_ns
                self._made |= word == b"made"

    def made(self) -> bool:
        """Whether the port has got a new connection since the last call."""
        made, self._made = self._made, False
        return made

    def kill(self) -> None:
        """End a process that hangs; whoever watches it (the standby) releases what it leaves."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_S)

    def send(self, *messages: bytes) -> bool:
        sendable = [message for message in messages if not (why := refuse(message)) or self._fail(why)]
        ok = len(sendable) == len(messages)
        while sendable:
            packet = b""
            while sendable and len(packet) + 2 + len(sendable[0]) <= MAX_PACKET_SIZE:
                message = sendable.pop(0)
                packet += len(message).to_bytes(2, "little") + message
            try:
                self._socket.send(packet)
            except BlockingIOError:
                ok = self._fail("the MIDI sender takes no more: messages were left out")
            except OSError as error:
                ok = self._fail(f"the MIDI sender has gone ({error})")
        return ok

    def quit(self) -> None:
        """Ask the process to end; `close` waits for it."""
        with contextlib.suppress(OSError):
            self._socket.send(QUIT)

    def close(self) -> None:
        if self.lost:
            self._process.kill()
        self.quit()
        try:
            self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()

    def _fail(self, why: str) -> bool:
        self.errors += 1
        self.complaint = why
        return False


def unpack(packet: bytes) -> list[bytes]:
    """The messages in a packet."""
    messages: list[bytes] = []
    while len(packet) > 2:
        end = 2 + int.from_bytes(packet[:2], "little")
        messages.append(packet[2:end])
        packet = packet[end:]
    return messages


class Desk:
    """The process's insides: sends, and remembers what sounds."""

    def __init__(self, output: RtOutput, orders: socket.socket) -> None:
        self.output = output
        self.orders = orders
        self.sounding: set[tuple[int, int]] = set()

    def run(self) -> None:
        """Until told to quit, or until the midi role has gone."""
        self.orders.settimeout(BEAT_S)
        beat_s, look_s = 0.0, time.monotonic() + LOOK_S
        while True:
            with contextlib.suppress(TimeoutError):
                packet = self.orders.recv(MAX_PACKET_SIZE)
                if packet in (b"", QUIT):
                    self.release(REPEATS if packet == b"" else 1)
                    return
                self.send(unpack(packet))
            now_s = time.monotonic()
            if now_s >= beat_s:
                beat_s = now_s + BEAT_S
                self.tell(b"beat")
            if self.output.api != "jack" and now_s >= look_s:  # there the patchbay does
                look_s = now_s + LOOK_S
                if self.output.look():
                    self.tell(b"made")

    def tell(self, word: bytes) -> None:
        """Say something to the midi role, which may hang: that is not waited for."""
        with contextlib.suppress(OSError):
            self.orders.send(word, socket.MSG_DONTWAIT)

    def send(self, messages: list[bytes]) -> None:
        """Send, and note what begins and ends."""
        self.output.send(*messages)
        for message in messages:
            kind, key = message[0] & 0xF0, (message[0] & 0x0F, message[1] if len(message) > 1 else 0)
            if kind == NOTE_ON:
                self.sounding.add(key)
            elif kind == NOTE_OFF:
                self.sounding.discard(key)

    def release(self, repeats: int) -> None:
        """Let go of everything, and that again: JACK loses messages when it is late."""
        messages = [*(note_off(*key) for key in sorted(self.sounding)), *silence()]
        for repeat in range(1 + repeats):
            if repeat:
                time.sleep(REPEAT_S)
            self.output.send(*messages)


def main() -> int:
    """Entry point of the process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they may reach the whole group; the midi role decides
    orders = msgspec.json.decode(sys.argv[1], type=Orders)
    with socket.socket(fileno=int(sys.argv[2])) as told:
        try:
            output = open_output(orders.api, orders.client, orders.connect)
        except DeviceError as error:
            told.send(f"error {error}".encode()[:1024])
            return 1
        with contextlib.suppress(OSError, AttributeError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        told.send(f"ready {output.name}".encode())
        Desk(output, told).run()
        # Closing a client hangs for ever if jackd dies meanwhile, and nobody may be left to kill us.
        threading.Timer(CLOSE_S, os._exit, (0,)).start()
        output.close()
        os._exit(0)  # without destructors: they crash where the server is gone


if __name__ == "__main__":
    sys.exit(main())
