"""MIDI ports by python-rtmidi: JACK, ALSA or CoreMIDI, and a null backend that never raises.

Our ports are virtual: ``<client>:midi_out`` and ``<client>-in:midi_in``, there for any patchbay as long as the process lives. Nothing here
calls Python from a driver's thread: input is polled, so there is no callback to take off before a port is closed.

On JACK a message goes out at the start of the next period, so its arrival is quantised to the period. rtmidi's queue holds 16 kB and
loses larger messages in silence, hence `MAX_MESSAGE_SIZE`.

A process that may be killed owns one JACK client and no more: when a process with two dies, jackd waits 0.5 s for each before it serves
what they were connected to (measured, jackd 1.9.21); with one it takes some 0.02 s. Hence `rtserver.midi.patchbay`.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Protocol

from rtserver.config import Config
from rtserver.midi.links import jack_client

if TYPE_CHECKING:
    import jack
    import rtmidi

OUT_PORT, IN_PORT = "midi_out", "midi_in"
MAX_MESSAGE_SIZE = 4096  # bytes
SILENCE_S = 1.0  # after this long without input the relation of the driver's clock to ours is taken anew
FLUSH_S = 0.15  # three JACK periods of 2048 frames at 44.1 kHz
ALSA_DEVICE = "/dev/snd/seq"


class Output(Protocol):
    """Where MIDI messages go."""

    api: str
    name: str  # full name of the port; empty on the null backend
    errors: int  # messages refused, or failed in the driver
    lost: bool  # the server behind the port has gone; whoever learns of it says so here

    def send(self, message: bytes) -> bool:
        """Send now; never waits, never raises. False: refused or failed, and counted."""
        ...

    def close(self) -> None:
        """Let the driver take what was sent, then take the port away. At most 0.3 s."""
        ...


class NullOutput:
    """Counts messages and drops them."""

    def __init__(self) -> None:
        self.api = "null"
        self.name = ""
        self.errors = 0
        self.lost = False
        self.sent = 0

    def send(self, message: bytes) -> bool:
        accepted = 0 < len(message) <= MAX_MESSAGE_SIZE
        self.sent += accepted
        self.errors += not accepted
        return accepted

    def close(self) -> None:
        pass


class RtOutput:
    """A virtual port and, on systems without JACK, every destination opened by name."""

    def __init__(self, api: str, name: str, ports: list[rtmidi.MidiOut]) -> None:
        self.api = api
        self.name = name
        self.errors = 0
        self.lost = False
        self._ports = ports

    def send(self, message: bytes) -> bool:
        if not 0 < len(message) <= MAX_MESSAGE_SIZE or self.lost:
            self.errors += 1
            return False
        try:
            for port in self._ports:
                port.send_message(message)
        except (OSError, ValueError):  # rtmidi's errors are OSErrors; a malformed message is a ValueError
            self.errors += 1
            return False
        return True

    def close(self) -> None:
        if not self.lost:
            time.sleep(FLUSH_S)
        for port in self._ports:
            if self.lost:
                keep_for_ever(port)
            else:
                port.close_port()
                port.delete()
        self._ports.clear()


class Input:
    """A virtual input port, polled."""

    def __init__(self, api: int, client: str) -> None:
        import rtmidi

        self._port = rtmidi.MidiIn(rtapi=api, name=client)
        self._port.ignore_types(sysex=True, timing=False, active_sense=True)
        self._port.open_virtual_port(IN_PORT)
        self._driver_ns = 0  # sum of the driver's time differences
        self._offset_ns: int | None = None

    def receive(self) -> list[tuple[int, bytes]]:
        """What has come in since the last call: (arrival on CLOCK_MONOTONIC in ns, message).

        The driver measures the time between messages. We know that each arrived before now, so the least ``now - driver time`` seen is
        the closest to the truth; it is taken anew after `SILENCE_S` for drivers whose clock is not ours.
        """
        messages: list[tuple[int, bytes]] = []
        while (got := self._port.get_message()) is not None:
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
        self._port.close_port()
        self._port.delete()


def client_name(config: Config) -> str:
    """Name of the midi role's client."""
    return config.midi.client_name or f"{config.name}-midi"


def open_output(config: Config, suffix: str = "") -> tuple[Output, str]:
    """Open the output that `config` asks for, under the client name + `suffix`.

    Returns the output and, where the null backend had to stand in, a line that says why and what to do. Takes about 0.2 s on JACK.
    """
    midi = config.midi
    if midi.api == "null":
        return NullOutput(), ""
    try:
        import rtmidi
    except ImportError:
        return NullOutput(), "python-rtmidi is not installed: notes go nowhere; install it or set midi.api = 'null'"
    client = f"{client_name(config)}{suffix}"
    reasons: list[str] = []
    if midi.api in ("auto", "jack"):
        probe = jack_client(f"{client}-probe")
        if probe is None:
            reasons.append(f"no JACK server answers as {os.environ.get('JACK_DEFAULT_SERVER', 'default')!r}")
        else:
            try:
                return _open_jack(probe, client), ""
            except OSError as error:
                reasons.append(f"JACK refuses a port ({error})")
            finally:
                probe.close()
    native, api = ("coremidi", rtmidi.API_MACOSX_CORE) if sys.platform == "darwin" else ("alsa", rtmidi.API_LINUX_ALSA)
    if midi.api in ("auto", native):
        if native == "alsa" and not os.path.exists(ALSA_DEVICE):
            reasons.append(f"{ALSA_DEVICE} is missing (modprobe snd-seq)")
        else:
            try:
                return RtOutput(native, f"{client}:{OUT_PORT}", open_by_name(api, client, midi.connect)), ""
            except OSError as error:
                reasons.append(f"{native} refuses a port ({error})")
    why = " and ".join(reasons) or f"midi.api = {midi.api!r} does not exist on this system"
    return NullOutput(), f"{why}: notes go nowhere until it is there; start jackd, or set midi.api = 'null'"


def _open_jack(probe: jack.Client, client: str) -> RtOutput:
    """JACK adds a number to a client name that is taken, and rtmidi does not tell: the probe looks which port is new."""
    import rtmidi

    def names() -> set[str]:
        return {p.name for p in probe.get_ports(is_midi=True)}

    before = names()
    port = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name=client)
    port.open_virtual_port(OUT_PORT)
    for name in sorted(names() - before):
        if re.fullmatch(rf"{re.escape(client)}(-\d+)?:{OUT_PORT}", name):
            return RtOutput("jack", name, [port])
    raise OSError(f"{client}:{OUT_PORT} did not appear")


def jack_has(port: str) -> bool:
    """Whether a JACK server answers and has a port of this name."""
    probe = jack_client("rtserver-probe")
    if probe is None:
        return False
    found = any(p.name == port for p in probe.get_ports(is_midi=True))
    probe.close()
    return found


def open_by_name(api: int, client: str, patterns: list[str]) -> list[rtmidi.MidiOut]:
    """A virtual port, and a port connected to every destination whose name contains one of `patterns` (in any case)."""
    import rtmidi

    virtual = rtmidi.MidiOut(rtapi=api, name=client)
    destinations = virtual.get_ports()
    virtual.open_virtual_port(OUT_PORT)
    ports = [virtual]
    for number, destination in enumerate(destinations):
        if any(p.lower() in destination.lower() for p in patterns):
            port = rtmidi.MidiOut(rtapi=api, name=client)
            port.open_port(number, OUT_PORT)
            ports.append(port)
    return ports


def open_input(config: Config, api: str) -> Input | None:
    """The input beside an output on ALSA or CoreMIDI; None on the null backend. On JACK the patchbay process has it."""
    if api not in ("alsa", "coremidi"):
        return None
    import rtmidi

    return Input(rtmidi.API_LINUX_ALSA if api == "alsa" else rtmidi.API_MACOSX_CORE, f"{client_name(config)}-in")


def keep_for_ever(thing: object) -> None:
    """One reference more than Python knows of: what belonged to a JACK server that has gone crashes when it is destroyed."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
