"""MIDI ports by python-rtmidi: JACK, ALSA or CoreMIDI, and a null backend that never raises.

Our ports are virtual: ``<client>:midi_out`` and ``<client>-in:midi_in``, there for any patchbay as long as the process lives. Nothing here
calls Python from a driver's thread: input is polled, so there is no callback to take off before a port is closed.

On JACK a message goes out at the start of the next period, so arrival is quantised to the period; a constant delay is added by
nobody. rtmidi's queue holds 16 kB and loses larger messages in silence, hence `MAX_MESSAGE_SIZE`.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Protocol

from rtserver.config import Config
from rtserver.midi.links import Links, jack_client

if TYPE_CHECKING:
    import jack
    import rtmidi

OUT_PORT, IN_PORT = "midi_out", "midi_in"
MAX_MESSAGE_SIZE = 4096  # bytes
SILENCE_S = 1.0  # after this long without input the relation of the driver's clock to ours is taken anew
ALSA_DEVICE = "/dev/snd/seq"


class Output(Protocol):
    """Where MIDI messages go."""

    api: str
    errors: int  # messages refused, or failed in the driver
    links: Links | None  # on JACK only

    def send(self, message: bytes) -> bool:
        """Send now; never waits, never raises. False: refused or failed, and counted."""
        ...

    @property
    def lost(self) -> bool:
        """Whether the server behind the port has gone."""
        ...

    def close(self, flush: bool = True) -> None:
        """Let the driver take what was sent (if `flush`; at most 0.2 s), then take the port away."""
        ...


class NullOutput:
    """Counts messages and drops them."""

    lost = False

    def __init__(self) -> None:
        self.api = "null"
        self.links: Links | None = None
        self.errors = 0
        self.sent = 0

    def send(self, message: bytes) -> bool:
        accepted = 0 < len(message) <= MAX_MESSAGE_SIZE
        self.sent += accepted
        self.errors += not accepted
        return accepted

    def close(self, flush: bool = True) -> None:
        pass


class Server:
    """The JACK server behind the ports of one process, and whether it is still there."""

    def __init__(self, client: jack.Client) -> None:
        self.client = client
        self.gone = False
        client.set_shutdown_callback(self._on_shutdown)

    def _on_shutdown(self, _status: object, _reason: str) -> None:
        self.gone = True

    @property
    def period_s(self) -> float:
        """Seconds from one JACK period to the next."""
        return self.client.blocksize / self.client.samplerate

    def close(self) -> None:
        """Leave. What belongs to a server that has gone is never freed: libjack crashes when it is."""
        if self.gone:
            _keep_for_ever(self.client)
        else:
            self.client.close()


class RtOutput:
    """A virtual port, and on systems without JACK also every destination opened by name."""

    def __init__(self, api: str, ports: list[rtmidi.MidiOut], server: Server | None = None, links: Links | None = None) -> None:
        self.api = api
        self.errors = 0
        self.links = links
        self._ports = ports
        self._server = server

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

    @property
    def lost(self) -> bool:
        return self._server is not None and self._server.gone

    def close(self, flush: bool = True) -> None:
        if flush and not self.lost:
            time.sleep(min(0.2, 3 * self._server.period_s if self._server else 0.01))
        for port in self._ports:
            _close(port, self.lost)
        self._ports.clear()
        if self._server:
            self._server.close()


class Input:
    """A virtual input port, polled."""

    def __init__(self, port: rtmidi.MidiIn, server: Server | None = None, links: Links | None = None) -> None:
        self.links = links
        self._port = port
        self._server = server
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

    @property
    def connected(self) -> bool:
        """Whether something may send to this port (only JACK tells; elsewhere it may always)."""
        return self.links is None or bool(self.links.connected)

    def close(self) -> None:
        """Take the port away."""
        _close(self._port, self._server is not None and self._server.gone)


def client_name(config: Config) -> str:
    """Name of the midi role's client."""
    return config.midi.client_name or f"{config.name}-midi"


def open_ports(config: Config, suffix: str = "", with_input: bool = True) -> tuple[Output, Input | None, str]:
    """Open the output (and input) that `config` asks for, under the client name + `suffix`.

    Returns the output, the input (None on the null backend) and, where the null backend had to stand in, a line that says why and what
    to do. Takes about 0.3 s on JACK.
    """
    midi = config.midi
    if midi.api == "null":
        return NullOutput(), None, ""
    try:
        import rtmidi
    except ImportError:
        return NullOutput(), None, "python-rtmidi is not installed: notes go nowhere; install it or set midi.api = 'null'"
    name = client_name(config)
    if midi.api in ("auto", "jack"):
        client = jack_client(f"{name}{suffix}-links")
        if client is not None:
            server = Server(client)
            try:
                return (*_open_jack(server, name, suffix, midi.connect, with_input), "")
            except OSError as error:
                server.close()
                return NullOutput(), None, f"JACK answers but refuses a port ({error}): notes go nowhere"
    native, api = ("coremidi", rtmidi.API_MACOSX_CORE) if sys.platform == "darwin" else ("alsa", rtmidi.API_LINUX_ALSA)
    why = f"no JACK server answers as {os.environ.get('JACK_DEFAULT_SERVER', 'default')!r}" if midi.api in ("auto", "jack") else ""
    if midi.api in ("auto", native):
        if native == "alsa" and not os.path.exists(ALSA_DEVICE):
            why += f"{' and ' if why else ''}{ALSA_DEVICE} is missing (modprobe snd-seq)"
        else:
            try:
                out = RtOutput(native, open_native(api, f"{name}{suffix}", midi.connect))
                source = _open_input(api, f"{name}{suffix}-in") if with_input else None
                return out, Input(source) if source else None, ""
            except OSError as error:
                why += f"{' and ' if why else ''}{native} refuses a port ({error})"
    why = why or f"midi.api = {midi.api!r} does not exist on this system"
    return NullOutput(), None, f"{why}: notes go nowhere until it is there; start jackd, or set midi.api = 'null'"


def _open_jack(server: Server, name: str, suffix: str, patterns: list[str], with_input: bool) -> tuple[RtOutput, Input | None]:
    import rtmidi

    def names() -> set[str]:
        return {p.name for p in server.client.get_ports(is_midi=True)}

    def own(before: set[str], client: str, port: str) -> str:
        # JACK adds a number to a client name that is taken, and rtmidi does not tell: look which port is new.
        for found in sorted(names() - before):
            if re.fullmatch(rf"{re.escape(client)}(-\d+)?:{port}", found):
                return found
        raise OSError(f"{client}:{port} did not appear")

    before = names()
    out = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name=f"{name}{suffix}")
    out.open_virtual_port(OUT_PORT)
    links = Links(server.client, own(before, f"{name}{suffix}", OUT_PORT), True, patterns, exclude=name)
    output = RtOutput("jack", [out], server, links)
    if not with_input:
        return output, None
    before = names()
    source = _open_input(rtmidi.API_UNIX_JACK, f"{name}{suffix}-in")
    return output, Input(source, server, Links(server.client, own(before, f"{name}{suffix}-in", IN_PORT), False, exclude=name))


def open_native(api: int, client: str, patterns: list[str]) -> list[rtmidi.MidiOut]:
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


def _open_input(api: int, client: str) -> rtmidi.MidiIn:
    import rtmidi

    port = rtmidi.MidiIn(rtapi=api, name=client)
    port.ignore_types(sysex=True, timing=False, active_sense=True)
    port.open_virtual_port(IN_PORT)
    return port


def _close(port: rtmidi.MidiOut | rtmidi.MidiIn, server_gone: bool) -> None:
    if server_gone:
        _keep_for_ever(port)
    else:
        port.close_port()
        port.delete()


def _keep_for_ever(thing: object) -> None:
    """One reference more than Python knows of, so that the destructor never runs."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
