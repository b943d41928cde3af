"""The guardian: a process that owns a local MIDI port, sends what it is told, and lets go of everything when nobody tells it any more.

    python guardian.py API CLIENT [DESTINATION]

It reads frames from its standard input, each a byte with the length of a MIDI message and the message; a length of 0 is a sign of life.
When its input closes, whatever killed the writer, it lets go of all that sounds and leaves; after `HANG_S` without a frame it lets go, and
goes on. It says on its standard output, a line each: ``ready PORT`` or ``error WHY`` first, then ``connected NAME``, ``gone NAME``, and
``beat`` ten times a second. Needs python-rtmidi. Run by `rtclient.port`; nothing here imports the rest of the package.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from typing import Any

HANG_S = 0.2  # so long without a sign of life, and it is let go of: within 0.3 s for the ear, with our own looking and the driver
BEAT_S = 0.1
LOOK_S = 0.5  # how often destinations are looked for
REPEATS, REPEAT_S = 4, 0.05  # JACK loses messages when it is late, so a release is sent again
FLUSH_S = 0.15  # three JACK periods of 2048 frames at 44.1 kHz: the driver takes what was sent before the port goes
PRIORITY = 46
NAMES = {"jack": "API_UNIX_JACK", "alsa": "API_LINUX_ALSA", "coremidi": "API_MACOSX_CORE"}


class Refused(Exception):
    """The port cannot be opened, and why."""


def find_api(asked: str) -> str:
    """Which MIDI system: what is asked for, or with ``auto`` JACK, ALSA or CoreMIDI, as there is. Raises `Refused` with the remedy."""
    reasons: list[str] = []
    native = "coremidi" if sys.platform == "darwin" else "alsa"
    if asked in ("auto", "jack"):
        try:
            _made("jack", "probe").delete()
            return "jack"
        except Refused as error:
            reasons.append(str(error))
    if asked in ("auto", native):
        if native != "alsa" or os.path.exists("/dev/snd/seq"):
            return native
        reasons.append("/dev/snd/seq is missing (modprobe snd-seq)")
    why = " and ".join(reasons) or f"there is no {asked} on this system"
    raise Refused(f"no MIDI system: {why}; start jackd, or choose another with --api")


def _made(api: str, client: str) -> Any:
    try:
        import rtmidi
    except ImportError:
        raise Refused("python-rtmidi is not installed: pip install python-rtmidi") from None
    number = getattr(rtmidi, NAMES[api])
    if number not in rtmidi.get_compiled_api():
        raise Refused(f"this python-rtmidi knows no {api}")
    try:
        return rtmidi.MidiOut(rtapi=number, name=client)
    except (OSError, RuntimeError):
        if api == "jack":
            raise Refused(f"no JACK server answers as {os.environ.get('JACK_DEFAULT_SERVER', 'default')!r}") from None
        raise Refused(f"{api} refuses a client") from None


class JackWatch:
    """Learns that the JACK server has gone, which rtmidi does not tell: a client without ports, by libjack itself."""

    NO_START = 1

    def __init__(self, name: str) -> None:
        self.gone = False
        self._told = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._shutdown)
        try:
            jack = ctypes.CDLL("libjack.0.dylib" if sys.platform == "darwin" else "libjack.so.0")
        except OSError:
            return
        jack.jack_client_open.restype = ctypes.c_void_p
        client = jack.jack_client_open(name.encode(), self.NO_START, None)
        if client:
            jack.jack_on_shutdown(ctypes.c_void_p(client), self._told, None)

    def _shutdown(self, _: object) -> None:
        self.gone = True


class Guardian:
    """The port and what sounds on it.

    Parameters
    ----------
    api, client : str
        As `find_api` says; the name of our client.
    destination : str
        Part of the name of a port to send to, in any case. Empty: a port of our own, for any patchbay.
    """

    def __init__(self, api: str, client: str, destination: str) -> None:
        self._api, self._client, self._destination = api, client, destination.lower()
        self._port = _made(api, client)
        self._connected = ""
        self.sounding: set[tuple[int, int]] = set()
        self._channels: set[int] = set()  # that were ever played on
        self.watch = JackWatch(f"{client}-watch") if api == "jack" else None
        if not destination:
            self._port.open_virtual_port("midi_out")

    def look(self) -> None:
        """Connect to the destination if it has come; say so if it has gone."""
        if not self._destination:
            return
        names: list[str] = self._port.get_ports()
        if self._connected and self._connected not in names:
            say(f"gone {self._connected}")
            self._connected = ""
            self._port.close_port()
        if not self._connected:
            index = next((i for i, name in enumerate(names) if self._destination in name.lower()), None)
            if index is not None:
                with contextlib.suppress(OSError, RuntimeError):  # gone again
                    self._port.open_port(index, "midi_out")
                    self._connected = names[index]
                    say(f"connected {self._connected}")
                    self.release()  # it may have come back with what sounded when it went

    def send(self, message: bytes) -> None:
        """Send, and note what begins and ends. What a port that is gone does not take is dropped."""
        kind, channel = message[0] & 0xF0, message[0] & 0x0F
        if kind == 0x90 and len(message) == 3 and message[2]:
            self.sounding.add((channel, message[1]))
            self._channels.add(channel)
        elif kind in (0x80, 0x90) and len(message) == 3:
            self.sounding.discard((channel, message[1]))
        self._put(message)

    def release(self) -> None:
        """Let go of everything: a note-off each, then sustain up, all notes off, all sound off on the channels that we played on."""
        for channel, pitch in sorted(self.sounding):
            self._put(bytes((0x80 | channel, pitch, 0)))
        for channel in sorted(self._channels):
            for controller in (64, 123, 120):
                self._put(bytes((0xB0 | channel, controller, 0)))

    def _put(self, message: bytes) -> None:
        if not self._destination or self._connected:
            with contextlib.suppress(OSError, RuntimeError, ValueError):
                self._port.send_message(message)

    def close(self) -> None:
        """Let go of everything, several times, and take the port away."""
        for repeat in range(1 + REPEATS):
            if repeat:
                time.sleep(REPEAT_S)
            self.release()
        time.sleep(FLUSH_S)
        if self.watch is None or not self.watch.gone:  # closing what belonged to a server that has gone crashes
            self._port.close_port()
            self._port.delete()


def say(line: str) -> None:
    """Tell whoever started us, who may hang: that is not waited for."""
    with contextlib.suppress(OSError):
        os.write(1, f"{line}\n".encode())


def run(guardian: Guardian) -> None:
    """Until the input closes or the MIDI system goes."""
    held = b""
    heard_s, beat_s, look_s, silent = time.monotonic(), 0.0, 0.0, False
    while guardian.watch is None or not guardian.watch.gone:
        now_s = time.monotonic()
        if now_s >= beat_s:
            beat_s = now_s + BEAT_S
            say("beat")
        if now_s >= look_s:
            look_s = now_s + LOOK_S
            guardian.look()
        if not select.select([0], [], [], BEAT_S / 2)[0]:
            if not silent and time.monotonic() - heard_s > HANG_S:
                silent = True
                guardian.release()
                guardian.sounding.clear()
            continue
        data = os.read(0, 65536)
        if not data:
            return
        heard_s, silent = time.monotonic(), False
        held += data
        while held and len(held) > held[0]:
            message, held = held[1 : 1 + held[0]], held[1 + held[0] :]
            if message:
                guardian.send(message)


def main() -> int:
    """Entry point of the process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they may reach the whole group; the closing of our input decides
    os.set_blocking(1, False)
    api, client, destination = (*sys.argv[1:], "")[:3]
    try:
        guardian = Guardian(find_api(api), client, destination)
    except Refused as error:
        say(f"error {error}")
        return 1
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    say("ready")
    run(guardian)
    signal.setitimer(signal.ITIMER_REAL, 3.0)  # closing a client may hang for ever, and nobody may be left to kill us
    guardian.close()
    os._exit(0)  # without destructors: they crash where the server is gone


if __name__ == "__main__":
    sys.exit(main())
