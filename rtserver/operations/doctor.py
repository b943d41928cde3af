"""What to mend before the show. Every check runs with nothing else running, and says what was found, what was expected and what to do."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from rtserver.config import Config
from rtserver.devices import AudioDevice, Devices, find, require
from rtserver.errors import ConfigError, DeviceError, ModelError
from rtserver.operations.machine import PRIORITY, machine
from rtserver.operations.report import Check
from rtserver.wire.security import Security

FREE_BYTES = 1 << 30  # an hour of events is some 10 MB, an hour of a stereo output in float32 1.3 GB
SMALL_GCD = 32  # below this, cutting blocks into hops costs nearly a block and a hop of latency
SMALL_BLOCK = 64  # frames: below, the callback comes more often than most machines keep up with
PROC = Path("/proc")


def examine(config: Config) -> list[Check]:
    """All checks for a configuration."""
    return [
        *machine(),
        *_devices(config),
        *(block_and_hop(config.audio.block_size, hop_size) for hop_size in hop_sizes(config)),
        small_block(config),
        *model(config),
        *ports(config),
        *keys(config),
        *metrics(config),
        disk(Path(config.recording.folder or ".")),
    ]


def _devices(config: Config) -> list[Check]:
    try:
        found = find()
    except DeviceError as error:
        return [Check("audio devices", "fail", str(error), "restart the audio server, then run this again")]
    return [*devices(found), *device(found, config), *jack(found, config), midi(found, config)]


def devices(found: Devices) -> Iterable[Check]:
    """What the list of devices says."""
    if not found.portaudio:
        yield Check("PortAudio", "fail", found.error, "install it: apt-get install libportaudio2 (macOS: brew install portaudio)")
    else:
        version = found.portaudio.split(",")[0].removeprefix("PortAudio ")
        yield Check("PortAudio", "ok", f"{version}, host APIs {', '.join(found.hosts) or 'none'}")
        if found.native_callback:
            yield Check("native callback", "ok", "this sounddevice takes a C callback")
        else:
            yield Check("native callback", "fail", "this sounddevice takes no C callback", "install the version that rtserver asks for")
    n_duplex = sum(d.n_inputs > 0 and d.n_outputs > 0 for d in found.audio)
    if n_duplex:
        yield Check("audio devices", "ok", f"{len(found.audio)}, of which {n_duplex} with inputs and outputs")
    else:
        remedy = "plug in an interface, or start JACK (jackd -d alsa; without hardware: jackd -d dummy)"
        yield Check("audio devices", "fail", f"{len(found.audio)}, none with both inputs and outputs", remedy, "at least one")


def chosen(found: Devices, name: str | int) -> list[AudioDevice]:
    """The duplex devices that ``audio.device`` may mean, JACK's first where it is empty."""
    duplex = [d for d in found.audio if d.n_inputs and d.n_outputs]
    if isinstance(name, int):
        return [d for d in duplex if d.index == name]
    if not name:
        return [d for d in duplex if "JACK" in d.host] or duplex
    return [d for d in duplex if name.lower() in d.name.lower()]


def device(found: Devices, config: Config) -> Iterable[Check]:
    """Whether the configured device is there and has the channels that inputs and outputs name."""
    if not chosen(found, ""):
        return  # said already
    audio = config.audio
    try:
        require(found, audio.device, audio.client_name or config.name)
    except DeviceError as error:
        yield Check("audio.device", "fail", str(error), "set audio.device to one of them; `rtserver devices` lists them")
        return
    n_inputs = max(c for i in config.inputs.values() for c in i.channels)
    n_outputs = max(c for o in config.outputs.values() for c in o.channels)
    fitting, expected = chosen(found, audio.device), f"{n_inputs} in, {n_outputs} out"
    there = "; ".join(f"{d.name!r}: {d.n_inputs} in, {d.n_outputs} out" for d in fitting)
    if any(d.n_inputs >= n_inputs and d.n_outputs >= n_outputs for d in fitting):
        yield Check("audio.device", "ok", there, expected=expected)
        return
    remedy = "use channels that the device has, or another audio.device (jackd: -C and -P set how many there are)"
    yield Check("audio.device", "fail", there, remedy, expected)


def jack(found: Devices, config: Config) -> Iterable[Check]:
    """Whether JACK answers, with the rate and the period of the configuration, and above the roles' priority."""
    server, audio = found.jack, config.audio
    if not server.running:
        remedy = "start it, or name another in JACK_DEFAULT_SERVER"
        yield Check("JACK", "warn", f"server {server.server!r}: {server.error}", remedy, "a server, unless you play without")
        return
    expected = f"{audio.sample_rate} Hz, period {audio.block_size}, real-time"
    says = f"{server.server!r} at {server.sample_rate} Hz, period {server.block_size}, {'' if server.realtime else 'not '}real-time"
    through_jack = all("JACK" in d.host for d in chosen(found, audio.device)[:1])
    if through_jack and server.sample_rate != audio.sample_rate:
        remedy = f"set audio.sample_rate = {server.sample_rate}, or start jackd with -r {audio.sample_rate}"
        yield Check("JACK", "fail", says, remedy, expected)
    elif through_jack and server.block_size != audio.block_size:
        remedy = f"set audio.block_size = {server.block_size}: else blocks come in bursts, and some late"
        yield Check("JACK", "warn", says, remedy, expected)
    elif not server.realtime:
        yield Check("JACK", "warn", says, "start jackd with -R where real-time priority is allowed", expected)
    else:
        yield Check("JACK", "ok", says, expected=expected)
    priority = jack_priority(server.server)
    if server.realtime and 0 < priority <= PRIORITY:
        remedy = f"start jackd with -P{PRIORITY + 30}: the engine, at {PRIORITY}, may keep it from running"
        yield Check("JACK's priority", "warn", str(priority), remedy, f"above {PRIORITY}")


def jack_priority(server: str, proc: Path = PROC) -> int:
    """The highest real-time priority among the threads of the jackd called `server`; 0 where none is seen."""
    for comm in proc.glob("[0-9]*/comm"):
        try:
            words = (comm.parent / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if comm.read_text().strip() != "jackd" or _jack_name(words) != server:
                continue
            stats = [path.read_text() for path in comm.parent.glob("task/*/stat")]
        except OSError:  # it ended meanwhile, or is not ours to look at
            continue
        # Behind the name in brackets, which may hold anything: rt_priority is the 40th field of all, the 38th of these.
        return max((int(stat.rpartition(")")[2].split()[37]) for stat in stats), default=0)
    return 0


def _jack_name(words: list[str]) -> str:
    for i, word in enumerate(words):
        if word in ("-n", "--name") and i + 1 < len(words):
            return words[i + 1]
        if word.startswith("-n") and len(word) > 2:
            return word[2:]
    return "default"


def midi(found: Devices, config: Config) -> Check:
    """Whether notes have somewhere to go."""
    wanted = config.midi.api
    usable = [api.name for api in found.midi if not api.error]
    if wanted == "null":
        return Check("MIDI", "ok", "switched off: midi.api is 'null'")
    if usable:
        return Check("MIDI", "ok", ", ".join(usable))
    why = "; ".join(f"{api.name}: {api.error}" for api in found.midi) or "python-rtmidi cannot be loaded"
    remedy = "start JACK, or load the kernel's snd-seq module"
    return Check("MIDI", "warn", f"no MIDI system ({why}); notes go to the null backend", remedy, "one that answers")


def hop_sizes(config: Config) -> list[int]:
    """The hops of the inputs' separations, each once."""
    from rtserver.separation.graph import preset

    presets = {config.separation_of(name).preset for name in config.inputs}
    return sorted({preset(name, config.audio.sample_rate).hop_size for name in presets})


def block_and_hop(block_size: int, hop_size: int) -> Check:
    """Whether device blocks and hops fit: cutting one into the other costs B + H − gcd(B, H) frames."""
    gcd = math.gcd(block_size, hop_size)
    found = f"blocks of {block_size}, hops of {hop_size}, greatest common divisor {gcd}"
    enough = min(block_size, hop_size, SMALL_GCD)
    if gcd >= enough:
        return Check("block and hop", "ok", found, expected=f"a common divisor of {enough} or more")
    remedy = f"this adds {block_size + hop_size - gcd} frames; choose a block_size that divides {hop_size}, or is a multiple of it"
    return Check("block and hop", "warn", found, remedy, f"a common divisor of {enough} or more")


def small_block(config: Config) -> Check:
    """Whether there is time enough between two callbacks."""
    audio = config.audio
    found = f"{audio.block_size} frames, a callback every {audio.block_size / audio.sample_rate * 1e3:.1f} ms"
    if audio.block_size < SMALL_BLOCK:
        remedy = f"set audio.block_size to {SMALL_BLOCK} or more, or rehearse with `rtserver doctor --run` and look at the misses"
        return Check("block size", "warn", found, remedy, f"{SMALL_BLOCK} frames or more")
    return Check("block size", "ok", found)


def model(config: Config) -> Iterable[Check]:
    """Whether the performer's network is there, unaltered, and loads."""
    if not config.generation.enabled:
        return
    from rtserver.generation.note_network import NoteNetwork

    try:
        NoteNetwork(config.generation.model)
    except ModelError as error:
        yield Check("model", "fail", str(error), "reinstall rtserver, or set generation.model to one that is there", "as the manifest says")
    else:
        yield Check("model", "ok", f"{config.generation.model!r}: hashes, shapes and loading as the manifest says")


def ports(config: Config) -> Iterable[Check]:
    """Whether the wire's endpoints are free."""
    if not config.wire.enabled:
        yield Check("wire", "ok", "switched off")
        return
    for name in ("control", "events", "bulk"):
        endpoint = str(getattr(config.wire, name))
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        if endpoint.startswith("tcp://") and port != "*":  # that one takes a port that is free
            yield port_free(f"wire.{name}", host.replace("*", "0.0.0.0"), port)
        else:
            yield Check(f"wire.{name}", "ok", endpoint)


def keys(config: Config) -> Iterable[Check]:
    """Whether the keys that let clients in are there, and nobody else's to read."""
    if not config.wire.enabled or not config.wire.server_key:
        return
    try:
        allowed = Security(config.wire).allowed
    except ConfigError as error:
        yield Check(error.field, "fail", str(error).removeprefix(f"{error.field}: "), "see docs/protocol.md, Security", "keys")
        return
    names = ", ".join(sorted(allowed.names.values())) if allowed is not None else ""
    remedy = "" if names else "rtserver keys allow FILE"
    yield Check("wire.allow", "ok" if names else "warn", names or "nobody: no client can connect", remedy, "clients that may connect")


def metrics(config: Config) -> Iterable[Check]:
    """Whether metrics can be served, where they are asked for."""
    if not config.metrics.port:
        return
    if importlib.util.find_spec("prometheus_client") is None:
        yield Check(
            "metrics", "warn", "prometheus-client is not installed: none are served", "pip install 'rtserver[metrics]'", "installed"
        )
    else:
        yield port_free("metrics.port", config.metrics.bind, config.metrics.port)


def port_free(field: str, host: str, port: str | int) -> Check:
    """Whether a TCP port can be bound."""
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that a closed server still holds for a minute is free
        try:
            probe.bind((host.strip("[]"), int(port)))
        except (OSError, ValueError, OverflowError) as error:
            remedy = f"end the other server (another rtserver?) or set {field} to another port"
            return Check(field, "fail", f"{host}:{port}: {error}", remedy, "free")
    return Check(field, "ok", f"{host}:{port} is free", expected="free")


def disk(folder: Path, usage: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free) -> Check:
    """Room for recordings in `folder`, or in the nearest folder above it that exists."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free, expected = usage(there), f"{FREE_BYTES >> 30} GB free"
    if not os.access(there, os.W_OK):
        return Check("disk", "fail", f"{there} is not writable", "set recording.folder to a folder that is", "writable")
    if free < FREE_BYTES:
        return Check("disk", "warn", f"{free >> 20} MB free in {there}", "make room before recording", expected)
    return Check("disk", "ok", f"{free / (1 << 30):.1f} GB free in {there}", expected=expected)
