"""The section `midi` of a configuration: the ports, and what they play."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from rtserver.errors import ConfigError

if TYPE_CHECKING:
    from rtserver.config import Config

MAX_PORTS = 8  # each is a process, and a table of notes in shared memory
MAX_OFFSET_S = 0.5
RESERVED = ("in", "standby", "patchbay", "probe")
CHANNELS = [str(channel) for channel in range(1, 17)]


class MidiPort(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One MIDI port of the server. Channels count from 1, programs and banks from 0; `programs` and `banks` go by the channel sent on."""

    output: bool = True
    connect: list[str] = msgspec.field(default_factory=list[str])  # ports to send to, by part of their name
    parts: list[str] = msgspec.field(default_factory=list[str])  # whose notes it plays; empty: everybody's
    channels: dict[str, int] = msgspec.field(default_factory=dict[str, int])  # a note's channel -> the channel it is sent on
    programs: dict[str, int] = msgspec.field(default_factory=dict[str, int])  # channel -> program
    banks: dict[str, int] = msgspec.field(default_factory=dict[str, int])  # channel -> bank (0..16383), told before its program
    offset_s: float = 0.0  # everything is sent so much later; below 0: earlier, as far as notes are known ahead
    input: bool = False
    connect_input: list[str] = msgspec.field(default_factory=list[str])  # ports to listen to, by part of their name


class Midi(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The MIDI ports. api `auto` takes JACK where it runs, else the system's own, else the null backend with a line that says so.

    Without `ports` there is one that plays everything and listens; `connect`, `connect_input` and `program` are its own.
    """

    api: Literal["auto", "jack", "alsa", "coremidi", "null"] = "auto"
    client_name: str = ""  # empty means the server's name + "-midi"
    connect: list[str] = msgspec.field(default_factory=list[str])
    connect_input: list[str] = msgspec.field(default_factory=list[str])
    program: int = 0  # General MIDI program on generation.channel, counted from 0
    ports: dict[str, MidiPort] = msgspec.field(default_factory=dict[str, MidiPort])


def ports_of(config: Config) -> dict[str, MidiPort]:
    """Every port of the server by name; the one that is there without being named is called ''."""
    midi = config.midi
    if midi.ports:
        return midi.ports
    programs = {str(config.generation.channel): midi.program}
    return {"": MidiPort(connect=midi.connect, programs=programs, input=True, connect_input=midi.connect_input)}


def check_midi(config: Config) -> None:
    """What types cannot say. Raises `ConfigError` with the path of the field."""
    midi = config.midi
    _within("midi.program", midi.program, 0, 127)
    if len(midi.ports) > MAX_PORTS:
        raise ConfigError("midi.ports", f"expected at most {MAX_PORTS} ports, got {len(midi.ports)}")
    default = Midi()
    for key in ("connect", "connect_input", "program"):
        if midi.ports and getattr(midi, key) != getattr(default, key):
            remedy = f"where ports have names, write it into [midi.ports.{next(iter(midi.ports))}]"
            raise ConfigError(f"midi.{key}", remedy + (" as programs" if key == "program" else ""))
    for name, port in midi.ports.items():
        _check_port(f"midi.ports.{name}", name, port)


def _check_port(field: str, name: str, port: MidiPort) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,24}", name):
        raise ConfigError(field, "expected a name of at most 24 letters, digits, - and _")
    if name in RESERVED or name.endswith("-in"):
        raise ConfigError(field, "this name belongs to a client of the server's own; choose another")
    if not (port.output or port.input):
        raise ConfigError(field, "neither output nor input: set one of them to true")
    _within(f"{field}.offset_s", port.offset_s, -MAX_OFFSET_S, MAX_OFFSET_S)
    for key, low, high in (("channels", 1, 16), ("programs", 0, 127), ("banks", 0, 16383)):
        table: dict[str, int] = getattr(port, key)
        for channel, value in table.items():
            if channel not in CHANNELS:
                raise ConfigError(f"{field}.{key}", f"expected channels 1 to 16 as keys, got {channel!r}")
            _within(f"{field}.{key}.{channel}", value, low, high)


def _within(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(field, f"expected {low:g} to {high:g}, got {value:g}")
