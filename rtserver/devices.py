"""Which audio devices and MIDI ports there are, asked in a process that is thrown away.

PortAudio freezes its list of devices when it is loaded, and asking it can hang where an audio server has died: so
``python -m rtserver.devices`` asks, prints JSON and ends, and the caller waits for so long and no longer.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
from typing import Any

import msgspec

from rtserver.errors import DeviceError

TIMEOUT_S = 15.0  # PortAudio tries every host API in turn; one that does not answer takes seconds


class AudioDevice(msgspec.Struct, frozen=True):
    """One device as PortAudio lists it. `index` is what ``audio.device`` may name, `latency_s` its own least (input, output) latency."""

    index: int
    name: str
    host: str
    n_inputs: int
    n_outputs: int
    sample_rate: float
    latency_s: tuple[float, float]


class MidiApi(msgspec.Struct, frozen=True):
    """One way to reach MIDI ports; `error` says why it cannot be used."""

    name: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    error: str = ""


class Jack(msgspec.Struct, frozen=True):
    """The JACK server named by ``JACK_DEFAULT_SERVER``."""

    server: str
    running: bool
    sample_rate: int = 0
    block_size: int = 0
    realtime: bool = False
    error: str = ""


class Devices(msgspec.Struct, frozen=True):
    """All that was found."""

    portaudio: str  # its version; empty where it cannot be loaded
    native_callback: bool  # whether this sounddevice takes a C callback
    hosts: tuple[str, ...]
    audio: tuple[AudioDevice, ...]
    midi: tuple[MidiApi, ...]
    jack: Jack
    error: str = ""  # why PortAudio cannot be loaded


def find(timeout_s: float = TIMEOUT_S) -> Devices:
    """Ask in a process of its own. Never starts a JACK server. Raises `DeviceError` where the process hangs or crashes."""
    environment = os.environ | {"JACK_NO_START_SERVER": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "rtserver.devices"], env=environment, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(f"listing the devices took more than {timeout_s:.0f} s: is a dead audio server in the way? Restart it") from None
    if done.returncode != 0:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise DeviceError(f"listing the devices ended with status {done.returncode}: {last}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Devices)


def require(found: Devices, device: str | int, client_name: str) -> None:
    """Raise `DeviceError` unless `device` (as ``audio.device`` names it) is there, duplex, and can be opened by that name."""
    if found.jack.running and client_name == found.jack.server:
        # JACK names both sockets alike: the client's would replace the server's, which then takes no client any more.
        raise DeviceError(f"the JACK server is called {client_name!r} too: set audio.client_name to another name")
    if found.error:
        raise DeviceError(f"PortAudio cannot be loaded ({found.error}): install libportaudio2")
    duplex = [d for d in found.audio if d.n_inputs and d.n_outputs]
    if not duplex:
        remedy = "start JACK (jackd -d alsa, or -d dummy without hardware) or plug in an interface"
        raise DeviceError(f"no audio device with inputs and outputs: {remedy}; `rtserver doctor` says more")
    there = [d for d in duplex if (d.index == device if isinstance(device, int) else device.lower() in d.name.lower())]
    if not there:
        names = ", ".join(f"{d.index} {d.name!r}" for d in duplex)
        raise DeviceError(f"audio.device: no device {device!r} with inputs and outputs; there are {names}")


def describe(found: Devices) -> str:
    """`found` for people."""
    lines = ["Audio devices (index, name, host, inputs, outputs, rate)"]
    lines += [f"  {d.index:3}  {d.name}  [{d.host}]  {d.n_inputs} in  {d.n_outputs} out  {d.sample_rate:.0f} Hz" for d in found.audio]
    if not found.audio:
        lines.append(f"  none{': ' + found.error if found.error else ''}")
    jack = found.jack
    state = f"runs at {jack.sample_rate} Hz, period {jack.block_size}" if jack.running else f"does not answer ({jack.error})"
    lines.append(f"JACK server {jack.server!r} {state}")
    lines.append("MIDI ports")
    for api in found.midi:
        lines.append(f"  {api.name}{': ' + api.error if api.error else ''}")
        lines += [f"    in   {name}" for name in api.inputs] + [f"    out  {name}" for name in api.outputs]
    if not found.midi:
        lines.append("  none: python-rtmidi cannot be loaded")
    return "\n".join(lines)


def _audio() -> dict[str, Any]:
    try:
        sd: Any = importlib.import_module("sounddevice")
    except (ImportError, OSError) as error:
        return {"portaudio": "", "native_callback": False, "hosts": (), "audio": (), "error": str(error)}
    asked: list[dict[str, Any]] = list(sd.query_hostapis())
    hosts = tuple(str(host["name"]) for host in asked)
    listed: list[dict[str, Any]] = list(sd.query_devices())
    devices = tuple(
        AudioDevice(
            index,
            str(device["name"]),
            hosts[int(device["hostapi"])],
            int(device["max_input_channels"]),
            int(device["max_output_channels"]),
            float(device["default_samplerate"]),
            (float(device["default_low_input_latency"]), float(device["default_low_output_latency"])),
        )
        for index, device in enumerate(listed)
    )
    native = hasattr(sd, "_StreamBase") and hasattr(sd, "_ffi")
    return {"portaudio": str(sd.get_portaudio_version()[1]), "native_callback": native, "hosts": hosts, "audio": devices}


def _jack() -> tuple[Jack, MidiApi]:
    """The JACK server, and its MIDI ports: one client for both, for every client that comes and goes disturbs those that play."""
    server = os.environ.get("JACK_DEFAULT_SERVER", "default")

    def absent(error: str) -> tuple[Jack, MidiApi]:
        return Jack(server, False, error=error), MidiApi("JACK", error=error)

    try:
        jack: Any = importlib.import_module("jack")
    except (ImportError, OSError) as error:
        return absent(f"libjack cannot be loaded: {error}")
    jack.set_error_function(_quiet)
    jack.set_info_function(_quiet)
    try:
        client: Any = jack.Client("rtserver-devices", no_start_server=True)
    except jack.JackOpenError:
        return absent("no such server is running")
    with contextlib.closing(client):
        found = Jack(server, True, int(client.samplerate), int(client.blocksize), bool(client.realtime))
        # What another client sends is our input.
        inputs = tuple(str(port.name) for port in client.get_ports(is_midi=True, is_output=True))
        outputs = tuple(str(port.name) for port in client.get_ports(is_midi=True, is_input=True))
    return found, MidiApi("JACK", inputs, outputs)


def _system_midi() -> tuple[MidiApi, ...]:
    """The MIDI systems besides JACK: ALSA or CoreMIDI."""
    try:
        rtmidi: Any = importlib.import_module("rtmidi")
    except (ImportError, OSError):
        return ()
    found: list[MidiApi] = []
    for api in rtmidi.get_compiled_api():
        if api == rtmidi.API_UNIX_JACK:
            continue
        name = str(rtmidi.get_api_display_name(api))
        try:
            source, sink = rtmidi.MidiIn(api, "rtserver-devices-in"), rtmidi.MidiOut(api, "rtserver-devices-out")
        except Exception as error:  # rtmidi's errors differ from one system to the next
            found.append(MidiApi(name, error=str(error).strip() or type(error).__name__))
            continue
        inputs, outputs = (tuple(str(p) for p in side.get_ports() if "rtserver-devices" not in p) for side in (source, sink))
        source.delete()
        sink.delete()
        found.append(MidiApi(name, inputs, outputs))
    return tuple(found)


def _quiet(_message: str) -> None:
    """libjack's own lines on stderr say less than ours."""


def main() -> int:
    """Entry point of the process: one line of JSON on stdout. It ends in good order: JACK takes a client that vanishes ill."""
    jack, jack_midi = _jack()
    found = Devices(**_audio(), midi=(jack_midi, *_system_midi()), jack=jack)
    print(msgspec.json.encode(found).decode(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
