"""MIDI ports by python-rtmidi: JACK, ALSA or CoreMIDI, and a null backend that never raises.

Our ports are virtual: ``<client>:midi_out`` and ``<client>-in:midi_in``, there for any patchbay as long as the process lives. Input is
polled, or, where a process is there for it (`rtserver.midi.patchbay`), handed over by the driver's thread: JACK's then waits for the
interpreter, but nothing lies downstream of an input.

On JACK a message goes out at the start of the next period, so its arrival is quantised to the period. rtmidi's queue holds 16 kB and
loses larger messages in silence, hence `MAX_MESSAGE_SIZE`.

A process that may be killed owns one JACK client and no more: when a process with two dies, jackd waits 0.5 s for each before it serves
what they were connected to (measured, jackd 1.9.21); with one it takes some 0.02 s. Hence `rtserver.midi.sender` and
`rtserver.midi.patchbay`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from rtserver.config import Config
from rtserver.errors import DeviceError
from rtserver.midi.links import jack_client
from rtserver.midi.messages import END_OF_EXCLUSIVE, unglue

if TYPE_CHECKING:
    import jack

OUT_PORT, IN_PORT = "midi_out", "midi_in"
MAX_MESSAGE_SIZE = 4096  # bytes
SILENCE_S = 1.0  # after this long without input the relation of the driver's clock to ours is taken anew
FLUSH_S = 0.15  # three JACK periods of 2048 frames at 44.1 kHz
PATIENCE_S = 1.0  # how long a client name that is taken is waited for
ALSA_DEVICE = "/dev/snd/seq"
QUEUE_SIZE = 16384  # messages that an input holds between two looks: 1.6 s of 10 000 a second


class Output(Protocol):
    """Where MIDI messages go."""

    api: str
    name: str  # full name of the port; empty on the null backend
    errors: int  # messages refused, or failed in the driver
    complaint: str  # why, the last time
    lost: bool  # the server behind the port has gone; whoever learns of it says so here

    def send(self, *messages: bytes) -> bool:
        """Send now; never waits, never raises. False: one at least was refused or failed, and counted."""
        ...

    def close(self) -> None:
        """Let the driver take what was sent, then take the port away. At most 0.5 s."""
        ...


def refuse(message: bytes) -> str:
    """Why a message cannot be sent; empty if it can."""
    if 0 < len(message) <= MAX_MESSAGE_SIZE:
        return ""
    return f"a message of {len(message)} bytes was refused: at most {MAX_MESSAGE_SIZE} go out, larger ones get lost in the driver"


class NullOutput:
    """Counts messages and drops them."""

    def __init__(self) -> None:
        self.api = "null"
        self.name = ""
        self.errors = 0
        self.complaint = ""
        self.lost = False
        self.sent = 0

    def send(self, *messages: bytes) -> bool:
        refused = [why for message in messages if (why := refuse(message))]
        self.sent += len(messages) - len(refused)
        self.errors += len(refused)
        self.complaint = refused[-1] if refused else self.complaint
        return not refused

    def close(self) -> None:
        pass


class RtOutput:
    """A virtual port and, on systems without JACK, every destination whose name contains one of `connect` (in any case)."""

    def __init__(self, api: str, number: int, client: str, connect: list[str]) -> None:
        import rtmidi

        self.api = api
        self.name = f"{client}:{OUT_PORT}"
        self.errors = 0
        self.complaint = ""
        self.lost = False
        self._number, self._client = number, client
        self._patterns = [] if api == "jack" else [c.lower() for c in connect]  # on JACK the patchbay connects
        self._virtual: Any = rtmidi.MidiOut(rtapi=number, name=client)
        self._destinations: dict[str, Any] = {}
        self.look()
        self._virtual.open_virtual_port(OUT_PORT)

    def look(self) -> int:
        """Open the destinations that have come and let go of those that have gone; how many have come."""
        import rtmidi

        if not self._patterns:
            return 0
        # An rtmidi object that has a port open does not list ports everywhere, so a fresh one asks.
        asker = rtmidi.MidiOut(rtapi=self._number, name=f"{self._client}-look")
        names: list[str] = asker.get_ports()
        asker.delete()
        wanted = {name: i for i, name in enumerate(names) if any(p in name.lower() for p in self._patterns)}
        for name in self._destinations.keys() - wanted.keys():
            port = self._destinations.pop(name)
            with contextlib.suppress(OSError):
                port.close_port()
            port.delete()
        new = wanted.keys() - self._destinations.keys()
        for name in new:
            port = rtmidi.MidiOut(rtapi=self._number, name=self._client)
            with contextlib.suppress(OSError):  # gone again
                port.open_port(wanted[name], OUT_PORT)
                self._destinations[name] = port
        return len(new & self._destinations.keys())

    def send(self, *messages: bytes) -> bool:
        before = self.errors
        for message in messages:
            why = refuse(message) or ("the server behind the port is gone" if self.lost else "")
            if why:
                self.errors += 1
                self.complaint = why
                continue
            for port in (self._virtual, *self._destinations.values()):
                try:
                    port.send_message(message)
                except (OSError, ValueError) as error:  # rtmidi's errors are OSErrors; a malformed message is a ValueError
                    self.errors += 1
                    self.complaint = str(error)
        return self.errors == before

    def close(self) -> None:
        if not self.lost:
            time.sleep(FLUSH_S)
        for port in (self._virtual, *self._destinations.values()):
            if self.lost:
                keep_for_ever(port)
            else:
                port.close_port()
                port.delete()
        self._destinations.clear()


class Ender:
    """Ends, on JACK, system exclusive messages that were begun and never ended: a cable pulled, a period lost.

    rtmidi takes all that comes after for more of them, and its port hears nothing any more. A lone F7 from a port of our own ends them.
    """

    def __init__(self, api: int, client: str) -> None:
        import rtmidi

        self.name = f"{client}:{OUT_PORT}"
        self._port = rtmidi.MidiOut(rtapi=api, name=client)
        self._port.open_virtual_port(OUT_PORT)

    def end(self) -> None:
        """End what is open, on every input that is connected."""
        self._port.send_message(bytes((END_OF_EXCLUSIVE,)))

    def close(self) -> None:
        """Take the port away."""
        self._port.close_port()
        self._port.delete()


class Input:
    """A virtual input port. It is polled, unless it is given a `wake` to call, in the driver's thread, when something has come."""

    def __init__(self, api: int, client: str, wake: Callable[[], None] | None = None) -> None:
        import rtmidi

        self._port = rtmidi.MidiIn(rtapi=api, name=client, queue_size_limit=QUEUE_SIZE)
        self._port.ignore_types(sysex=False, timing=False, active_sense=True)
        self._came: deque[tuple[int, bytes]] = deque(maxlen=QUEUE_SIZE)  # where we are woken
        self._wake = wake
        if wake is not None:
            self._port.set_callback(self._take)
        self._port.open_virtual_port(IN_PORT)
        self._driver_ns = 0  # sum of the driver's time differences
        self._offset_ns: int | None = None

    def _take(self, got: tuple[list[int], float], _data: object) -> None:
        """In the driver's thread."""
        self._came.append((time.monotonic_ns(), bytes(got[0])))
        if self._wake is not None:
            self._wake()

    def receive(self) -> list[tuple[int, bytes]]:
        """What has come in since the last call: (arrival on CLOCK_MONOTONIC in ns, message).

        Where it is polled, the driver measures the time between messages. We know that each arrived before now, so the least
        ``now - driver time`` seen is the closest to the truth; it is taken anew after `SILENCE_S` for drivers whose clock is not ours.
        """
        messages = [(at_ns, one) for at_ns, data in self._drain() for one in unglue(data)]
        return [message for message in messages if message[1] != bytes((END_OF_EXCLUSIVE,))]

    def _drain(self) -> list[tuple[int, bytes]]:
        if self._wake is not None:
            return [self._came.popleft() for _ in range(len(self._came))]
        messages: list[tuple[int, bytes]] = []
        while len(messages) < QUEUE_SIZE and (got := self._port.get_message()) is not None:
            data, after_s = got
            self._driver_ns += round(after_s * 1e9)
            offset_ns = time.monotonic_ns() - self._driver_ns
            if self._offset_ns is None or after_s > SILENCE_S:
                self._offset_ns = offset_ns
            self._offset_ns = min(self._offset_ns, offset_ns)
            messages.append((self._driver_ns + self._offset_ns, bytes(data)))
        return messages

    def close(self) -> None:
        """Take the port away."""
        if self._wake is not None:
            self._port.cancel_callback()
        self._port.close_port()
        self._port.delete()


def client_name(config: Config, port: str = "") -> str:
    """Name of the client that owns a port; all begin alike."""
    name = config.midi.client_name or f"{config.name}-midi"
    return f"{name}-{port}" if port else name


def find_api(config: Config) -> tuple[str, str]:
    """Which MIDI system to use: "jack", "alsa", "coremidi" or "null".

    Where "null" has to stand in, the second value says why and what to do. Takes some 30 ms where JACK is asked for.
    """
    asked = config.midi.api
    if asked == "null":
        return "null", ""
    try:
        import rtmidi  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        return "null", "python-rtmidi is not installed: notes go nowhere; install it or set midi.api = 'null'"
    reasons: list[str] = []
    if asked in ("auto", "jack"):
        probe = jack_client(f"{client_name(config)}-probe")
        if probe is not None:
            probe.close()
            return "jack", ""
        reasons.append(f"no JACK server answers as {os.environ.get('JACK_DEFAULT_SERVER', 'default')!r}")
    native = "coremidi" if sys.platform == "darwin" else "alsa"
    if asked in ("auto", native):
        if native != "alsa" or os.path.exists(ALSA_DEVICE):
            return native, ""
        reasons.append(f"{ALSA_DEVICE} is missing (modprobe snd-seq)")
    why = " and ".join(reasons) or f"midi.api = {asked!r} does not exist on this system"
    return "null", f"{why}: notes go nowhere until it is there; start jackd, or set midi.api = 'null'"


def rtmidi_api(api: str) -> int:
    """rtmidi's number of an API of ours."""
    import rtmidi

    return {"jack": rtmidi.API_UNIX_JACK, "alsa": rtmidi.API_LINUX_ALSA, "coremidi": rtmidi.API_MACOSX_CORE}[api]


def open_output(api: str, client: str, connect: list[str]) -> RtOutput:
    """Open a port of `client`, on JACK in some 0.2 s. Raises `DeviceError` with the reason where the system refuses it."""
    try:
        if api == "jack":
            return _open_jack(client)
        return RtOutput(api, rtmidi_api(api), client, connect)
    except OSError as error:
        raise DeviceError(f"{api} refuses the MIDI port {client}:{OUT_PORT} ({error})") from None


def _open_jack(client: str) -> RtOutput:
    """JACK adds a number to a client name that is taken, and rtmidi does not tell: a probe looks which port is new."""
    probe = jack_client(f"{client}-probe")
    if probe is None:
        raise OSError("no JACK server answers")
    try:
        until_s = time.monotonic() + PATIENCE_S
        while True:
            while f"{client}:{OUT_PORT}" in (before := _midi_ports(probe)) and time.monotonic() < until_s:
                time.sleep(0.02)  # a predecessor that was killed is being cleared away
            output = RtOutput("jack", rtmidi_api("jack"), client, [])
            appeared = sorted(_midi_ports(probe) - before, key=len)
            names = [name for name in appeared if re.fullmatch(rf"{re.escape(client)}(-\d+)?:{OUT_PORT}", name)]
            if not names:
                break
            # JACK forgets a client's ports before its name: a number that nobody's port explains is gone a moment later.
            if f"{client}:{OUT_PORT}" in {names[0], *before} or time.monotonic() > until_s:
                output.name = names[0]
                return output
            output.close()
            time.sleep(0.02)
    finally:
        probe.close()
    raise OSError("it did not appear")


def _midi_ports(client: jack.Client) -> set[str]:
    return {p.name for p in client.get_ports(is_midi=True)}


def jack_has(port: str) -> bool:
    """Whether a JACK server answers and has a port of this name."""
    probe = jack_client("rtserver-probe")
    if probe is None:
        return False
    found = port in _midi_ports(probe)
    probe.close()
    return found


def keep_for_ever(thing: object) -> None:
    """One reference more than Python knows of: what belonged to a JACK server that has gone crashes when it is destroyed."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
