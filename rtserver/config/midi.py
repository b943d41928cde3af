"""The section `midi` of a configuration: the ports, and what they play."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from rtserver.config.bounds import within
from rtserver.errors import ConfigError

if TYPE_CHECKING:
    from rtserver.config.tree import Config

MAX_PORTS = 8  # each is a process, and a table of notes in shared memory
MAX_OFFSET_S = 0.5
IN_PORT_NAME = "midi_in"  # what events call the input of the port without a name
RESERVED = ("in", "standby", "patchbay", "probe", "ender")
CHANNELS = [str(channel) for channel in range(1, 17)]


class MidiPort(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One MIDI port of the server. Channels count from 1, programs and banks from 0; `programs` and `banks` go by the channel sent on."""

    output: bool = True
    connect: list[str] = msgspec.field(default_factory=list[str])  # ports to send to, by part of their name
    parts: list[str] = msgspec.field(default_factory=list[str])  # whose notes it plays; empty: everybody's but the click's
    channels: dict[str, int] = msgspec.field(default_factory=dict[str, int])  # a note's channel -> the channel it is sent on
    programs: dict[str, int] = msgspec.field(default_factory=dict[str, int])  # channel -> program
    banks: dict[str, int] = msgspec.field(default_factory=dict[str, int])  # channel -> bank (0..16383), told before its program
    offset_s: float = 0.0  # everything is sent so much later; below 0: earlier, as far as notes are known ahead
    clock: bool = False  # whether it sends MIDI clock: the performer's tempo and position
    input: bool = False
    connect_input: list[str] = msgspec.field(default_factory=list[str])  # ports to listen to, by part of their name


class MidiMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a message that comes in does: a `command`, or a `parameter`. See `rtserver.midi.mapping`.

    A controller, a pedal, a key or a bend is pressed when its value reaches `threshold`, and released when it falls below; with
    `edge` the command goes out at the one or the other. A parameter without `value` follows the controller from `low` to `high`.
    """

    message: Literal["cc", "pc", "note", "pitch_bend", "start", "stop", "continue"]
    number: int | None = None  # of the controller, program or key; None: any
    channel: int = 0  # 1 to 16; 0: any
    port: str = ""  # by its name; empty: any
    threshold: int = 64  # 1 to 127
    edge: Literal["press", "release"] = "press"
    command: str = ""
    parameter: str = ""
    value: float | bool | str | None = None
    low: float | None = None  # None: the parameter's own
    high: float | None = None


class Midi(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The MIDI ports. api `auto` takes JACK where it runs, else the system's own, else the null backend with a line that says so.

    Without `ports` there is one that plays everything and listens; `connect`, `connect_input`, `program` and `clock` are its own.
    """

    api: Literal["auto", "jack", "alsa", "coremidi", "null"] = "auto"
    client_name: str = ""  # empty means the server's name + "-midi"
    connect: list[str] = msgspec.field(default_factory=list[str])
    connect_input: list[str] = msgspec.field(default_factory=list[str])
    program: int = 0  # General MIDI program on generation.channel, counted from 0
    clock: bool = False  # whether MIDI clock is sent
    clock_from: str = ""  # input port whose MIDI clock the performer follows, where no score is followed
    ports: dict[str, MidiPort] = msgspec.field(default_factory=dict[str, MidiPort])
    map: dict[str, MidiMap] = msgspec.field(default_factory=dict[str, MidiMap])


def ports_of(config: Config) -> dict[str, MidiPort]:
    """Every port of the server by name; the one that is there without being named is called ''."""
    midi = config.midi
    if midi.ports:
        return midi.ports
    programs = {str(config.generation.channel): midi.program}
    return {"": MidiPort(connect=midi.connect, programs=programs, clock=midi.clock, input=True, connect_input=midi.connect_input)}


def inputs_of(config: Config) -> list[str]:
    """The names by which events call the ports that listen."""
    return [name or IN_PORT_NAME for name, port in ports_of(config).items() if port.input]


def outputs_of(config: Config) -> dict[str, MidiPort]:
    """The ports that send, by name."""
    return {name: port for name, port in ports_of(config).items() if port.output}


def check_midi(config: Config) -> None:
    """What types cannot say. Raises `ConfigError` with the path of the field."""
    midi = config.midi
    within("midi.program", midi.program, 0, 127)
    if len(midi.ports) > MAX_PORTS:
        raise ConfigError("midi.ports", f"expected at most {MAX_PORTS} ports, got {len(midi.ports)}")
    default = Midi()
    for key in ("connect", "connect_input", "program", "clock"):
        if midi.ports and getattr(midi, key) != getattr(default, key):
            remedy = f"where ports have names, write it into [midi.ports.{next(iter(midi.ports))}]"
            raise ConfigError(f"midi.{key}", remedy + (" as programs" if key == "program" else ""))
    for name, port in midi.ports.items():
        _check_port(f"midi.ports.{name}", name, port)
    if midi.clock_from and midi.clock_from not in inputs_of(config):
        raise ConfigError("midi.clock_from", f"no input port {midi.clock_from!r}; known are {', '.join(inputs_of(config)) or 'none'}")


def check_maps(songs: list[Config]) -> None:
    """Every rule of the show that these songs make up must be possible in one of them. Raises `ConfigError` with the path of the field."""
    if not songs[0].midi.map:
        return
    from rtserver.midi.mapping import check_map  # knows the parameters, which know the configuration

    for name, rule in songs[0].midi.map.items():
        wrong: list[ConfigError] = []
        for config in songs:
            try:
                check_map(f"midi.map.{name}", rule, config)
            except ConfigError as error:
                wrong.append(error)
        if len(wrong) == len(songs):
            raise wrong[0]


def _check_port(field: str, name: str, port: MidiPort) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,24}", name):
        raise ConfigError(field, "expected a name of at most 24 letters, digits, - and _")
    if name in RESERVED or name.endswith("-in"):
        raise ConfigError(field, "this name belongs to a client of the server's own; choose another")
    if not (port.output or port.input):
        raise ConfigError(field, "neither output nor input: set one of them to true")
    within(f"{field}.offset_s", port.offset_s, -MAX_OFFSET_S, MAX_OFFSET_S)
    for key, low, high in (("channels", 1, 16), ("programs", 0, 127), ("banks", 0, 16383)):
        table: dict[str, int] = getattr(port, key)
        for channel, value in table.items():
            if channel not in CHANNELS:
                raise ConfigError(f"{field}.{key}", f"expected channels 1 to 16 as keys, got {channel!r}")
            within(f"{field}.{key}.{channel}", value, low, high)
