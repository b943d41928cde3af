"""One frozen tree of settings, read from TOML. Every default lives here, with its unit and its reason.

An unknown key is refused by name, with the nearest known one; a wrong value is refused with its path.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from rtserver.errors import ConfigError
from rtserver.midi.settings import Midi, MidiMap, MidiPort, check_midi

S = TypeVar("S", bound=msgspec.Struct)

# Keys of earlier versions, and where their matter is to be found now.
MOVED = {"wire.record": 'recording has a table of its own now: [recording] with folder = "..."'}


class Audio(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The device. `device` is a name (or part of one) or an index as ``rtserver devices`` lists them; empty means the default."""

    device: str | int = ""
    sample_rate: int = 48000  # Hz
    block_size: int = 128  # frames a device callback: 2.7 ms at 48 kHz, safe on most interfaces
    spare_blocks: int = 1  # blocks of slack for the engine: 1 with real-time priority, 2 to 4 without
    client_name: str = ""  # name on the JACK graph; empty means the server's name
    input_channels: int = 0  # of the device, to be opened; 0: as many as the show uses. More leave room for a reload
    output_channels: int = 0


# What the masks may be set to, live too. Beyond it nothing changes that can be heard.
MASK_LIMITS = {"exponent": (0.5, 8.0), "margin_harmonic": (1.0, 16.0), "margin_percussive": (1.0, 16.0)}


class Separation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which causal separation runs inline in the engine, and how it shares out what it finds (`rtserver.dsp.masks`).

    preset : sizes of windows and medians, latency. mask : soft shares out each bin of a spectrum, hard gives it to the stronger part.
    exponent : of the soft mask, on magnitudes, 0.5 to 8; larger is harder. margin_harmonic, margin_percussive : 1 to 16, as a
    ratio of magnitudes; how much stronger than the other a part must be. Above 1 what neither takes becomes a third part, the residual.
    """

    preset: str = "default"
    mask: Literal["soft", "hard"] = "soft"
    exponent: float = 2.0  # a Wiener mask
    margin_harmonic: float = 1.0
    margin_percussive: float = 1.0

    @property
    def has_residual(self) -> bool:
        """Whether some of the signal belongs to neither part."""
        return self.margin_harmonic > 1.0 or self.margin_percussive > 1.0


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named input: device channels, counted from 1, and how it is separated (None: as ``[separation]`` says)."""

    channels: list[int] = msgspec.field(default_factory=lambda: [1])
    separation: Separation | None = None


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named output.

    source : dry, harmonic, percussive or residual. input : of which input; empty means the first. channels : device channels from 1 (mono
    is copied to each). bypass : play the dry input at this output's latency. on_late : what is heard when the source is late; of several
    outputs of one input on one channel, one at most may fall back to dry. align : delay this output to the latest of those that share a
    channel with it (else they comb).
    """

    source: Literal["dry", "harmonic", "percussive", "residual"]
    channels: list[int]
    input: str = ""
    gain_db: float = 0.0
    mute: bool = False
    bypass: bool = False
    on_late: Literal["dry", "mute"] = "mute"
    align: bool = True


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The score to follow: MusicXML or MIDI; a relative path counts from the configuration file. Empty: nothing is followed."""

    file: str = ""


class Following(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the score is followed, and by which input; empty means the first."""

    method: str = "dixon"
    input: str = ""


class Generation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The performer: the network that plays along."""

    enabled: bool = True
    model: str = "performer"
    mode: Literal["accompany", "continue"] = "accompany"
    scale: str = "chromatic"
    pitch_low: int = 48  # MIDI pitch
    pitch_high: int = 84
    polyphony: int = 3  # notes sounding at once
    grid: int = 12  # onsets fall on multiples of this many ticks of 1/24 quarter: 12 = eighths, 6 = sixteenths
    temperature: float = 0.9
    top_p: float = 0.95
    tempo_bpm: float = 100.0  # quarters a minute, where nothing is followed
    velocity: int = 72
    channel: int = 1  # MIDI channel from 1
    seed: int = 0


class Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """ZeroMQ endpoints. Anything but loopback and ipc is refused without keys (docs/protocol.md, "Security").

    server_key : file of the server's secret key; with it all three sockets are encrypted and let nobody in whose public key does not lie in
    the folder `allow`. `rtserver keys` makes both. Relative paths count from the configuration file.
    """

    enabled: bool = True
    control: str = "tcp://127.0.0.1:5580"
    events: str = "tcp://127.0.0.1:5581"
    bulk: str = "tcp://127.0.0.1:5582"
    server_key: str = ""  # empty: no encryption, and only programs on this machine
    allow: str = ""  # folder of the public keys of the clients that may connect


class Recording(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a session goes to disk, each recording into a folder of its own within `folder`. An empty folder records nothing."""

    folder: str = ""
    input: bool = True  # every channel of the device up to the last one in use
    played: bool = True  # what went to the device
    events: bool = True
    format: Literal["wav", "flac"] = "wav"  # wav: 32-bit float, bit for bit, 23 MB a minute in stereo at 48 kHz; flac: 24 bits, in segments
    start: bool = True  # with the session; otherwise when a client says so


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counters for Prometheus, in plain HTTP without passwords: on this machine only. Needs the extra `metrics`."""

    port: int = 0  # 0: none are served
    bind: str = "127.0.0.1"


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What happened, line by line, in a file; a relative path counts from the configuration file. Needs the wire: the gateway writes it.

    level : debug adds every note, position and counter. format : json is one object a line, text is for people.
    """

    file: str = ""  # empty: none is written
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"
    max_bytes: int = 10_000_000  # then the file is renamed FILE.1 and a new one begun
    keep: int = 5  # renamed files; older ones are deleted


class Setlist(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The songs of a show: TOML files beside this one, in the order in which they are played. Empty: the show is one song."""

    songs: list[str] = msgspec.field(default_factory=list[str])


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a server needs to know."""

    name: str = "rtserver"
    audio: Audio = Audio()
    setlist: Setlist = Setlist()
    inputs: dict[str, Input] = msgspec.field(default_factory=lambda: {"main": Input()})
    outputs: dict[str, Output] = msgspec.field(
        default_factory=lambda: {
            "harmonic": Output(source="harmonic", channels=[1], on_late="dry"),
            "percussive": Output(source="percussive", channels=[2], on_late="dry"),
        }
    )
    separation: Separation = Separation()
    score: Score = Score()
    following: Following = Following()
    generation: Generation = Generation()
    midi: Midi = Midi()
    wire: Wire = Wire()
    recording: Recording = Recording()
    metrics: Metrics = Metrics()
    log: Log = Log()

    def input_of(self, output: Output) -> str:
        """Name of the input that an output is made of."""
        return output.input or next(iter(self.inputs))

    @property
    def followed_input(self) -> str:
        """Name of the input that follower and performer listen to."""
        return self.following.input or next(iter(self.inputs))

    def separation_of(self, name: str) -> Separation:
        """How an input is separated."""
        return self.inputs[name].separation or self.separation


def load(path: Path | str) -> Config:
    """Read and check a TOML file. Raises `ConfigError` with the path of the field, or of the file."""
    path = Path(path)
    return resolve(parse(read(path)), path.parent)


def read(path: Path) -> dict[str, Any]:
    """The plain map in a TOML file. Raises `ConfigError`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("", f"no such configuration file: {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError("", f"{path} is not readable TOML: {error}") from None


def resolve(config: Config, folder: Path) -> Config:
    """`config` with the paths of its score and keys counted from `folder`."""
    if config.score.file and not Path(config.score.file).is_absolute():
        score = msgspec.structs.replace(config.score, file=str((folder / config.score.file).resolve()))
        config = msgspec.structs.replace(config, score=score)
    if config.log.file:
        there = str(folder.resolve() / Path(config.log.file).expanduser())
        config = msgspec.structs.replace(config, log=msgspec.structs.replace(config.log, file=there))
    for key in ("server_key", "allow"):
        if value := getattr(config.wire, key):
            there = str(folder.resolve() / Path(value).expanduser())
            config = msgspec.structs.replace(config, wire=msgspec.structs.replace(config.wire, **{key: there}))
    return config


def parse(raw: dict[str, Any]) -> Config:
    """Turn the plain map of a TOML file into a checked `Config`. Raises `ConfigError`."""
    _refuse_unknown(raw, Config, "")
    # The tables that users name come first: seen from the whole tree, msgspec says `outputs[...]` and not which.
    kinds: dict[str, type[msgspec.Struct]] = {"inputs": Input, "outputs": Output, "midi.ports": MidiPort, "midi.map": MidiMap}
    for section, kind in kinds.items():
        tables: Any = raw
        for key in section.split("."):
            tables = tables.get(key) if isinstance(tables, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if isinstance(tables, dict):
            for name, table in tables.items():  # pyright: ignore[reportUnknownVariableType]
                _convert(table, kind, f"{section}.{name}")
    config = _convert(raw, Config, "")
    _check(config)
    return config


def _convert(raw: Any, kind: type[S], path: str) -> S:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        raise ConfigError((path + where.strip("`")).lstrip("."), message) from None


def _refuse_unknown(raw: dict[str, Any], struct: type[msgspec.Struct], path: str) -> None:
    hints = get_type_hints(struct)
    for key, value in raw.items():
        field = f"{path}{key}"
        if key not in hints:
            if field in MOVED:
                raise ConfigError(field, MOVED[field])
            near = difflib.get_close_matches(key, hints, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(hints))}"
            raise ConfigError(field, f"unknown key; {remedy}")
        hint = hints[key]
        if get_origin(hint) is UnionType:  # X | None
            hint = next((h for h in get_args(hint) if isinstance(h, type) and issubclass(h, msgspec.Struct)), hint)
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct) and isinstance(value, dict):
            _refuse_unknown(value, hint, f"{field}.")  # pyright: ignore[reportUnknownArgumentType]
        elif get_origin(hint) is dict and isinstance(value, dict):
            inner = get_args(hint)[1]
            for name, table in value.items():  # pyright: ignore[reportUnknownVariableType]
                if isinstance(table, dict):
                    _refuse_unknown(table, inner, f"{field}.{name}.")  # pyright: ignore[reportUnknownArgumentType]


def _check(config: Config) -> None:
    """What types cannot say."""

    def within(field: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            raise ConfigError(field, f"expected {low} to {high}, got {value}")

    within("audio.sample_rate", config.audio.sample_rate, 22050, 192000)
    within("audio.block_size", config.audio.block_size, 16, 8192)
    within("audio.spare_blocks", config.audio.spare_blocks, 0, 16)
    within("audio.input_channels", config.audio.input_channels, 0, 32)
    within("audio.output_channels", config.audio.output_channels, 0, 32)
    if not config.inputs:
        raise ConfigError("inputs", "expected at least one input; add for example [inputs.main]")
    for name, source in config.inputs.items():
        _check_name(f"inputs.{name}", name)
        _check_channels(f"inputs.{name}.channels", source.channels)
    _check_input("following.input", config.following.input, config)
    _check_outputs(config, within)
    check_separation(config.separation)
    for name, source in config.inputs.items():
        if source.separation is not None:
            check_separation(source.separation, f"inputs.{name}.separation.")
    generation = config.generation
    within("generation.pitch_low", generation.pitch_low, 0, 127)
    within("generation.pitch_high", generation.pitch_high, generation.pitch_low + 11, 127)
    within("generation.polyphony", generation.polyphony, 1, 16)
    within("generation.temperature", generation.temperature, 0.01, 5)
    within("generation.top_p", generation.top_p, 0.01, 1)
    within("generation.tempo_bpm", generation.tempo_bpm, 20, 400)
    within("generation.velocity", generation.velocity, 1, 127)
    within("generation.channel", generation.channel, 1, 16)
    check_midi(config)
    _check_wire(config.wire)
    within("metrics.port", config.metrics.port, 0, 65535)
    if not _LOCAL.fullmatch(f"tcp://{config.metrics.bind}:1"):
        remedy = "stay on 127.0.0.1 and let a proxy that knows passwords pass it on"
        raise ConfigError("metrics.bind", f"{config.metrics.bind!r} is open to other machines, and metrics ask for no keys: {remedy}")
    within("log.max_bytes", config.log.max_bytes, 10_000, 10_000_000_000)
    within("log.keep", config.log.keep, 0, 1000)
    if config.log.file and not config.wire.enabled:
        raise ConfigError("log.file", "expected wire.enabled = true beside it: the gateway writes the log")


_LOCAL = re.compile(r"tcp://(127\.\d+\.\d+\.\d+|localhost|\[::1\]):(\d{1,5}|\*)|ipc:///.+")
_REMOTE = re.compile(r"tcp://([\w.*-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5}|\*)")


def _check_wire(wire: Wire) -> None:
    for key in ("control", "events", "bulk"):
        field, endpoint = f"wire.{key}", getattr(wire, key)
        if _LOCAL.fullmatch(endpoint):
            continue
        if not _REMOTE.fullmatch(endpoint):
            raise ConfigError(field, f"expected tcp://ADDRESS:PORT or ipc:///PATH, got {endpoint!r}")
        if not wire.server_key:
            remedy = "make keys with `rtserver keys new` and set wire.server_key and wire.allow, or stay on tcp://127.0.0.1"
            raise ConfigError(field, f"{endpoint!r} is open to other machines, where nobody may come in without keys: {remedy}")
    if wire.server_key and not wire.allow:
        raise ConfigError("wire.allow", "with wire.server_key, expected the folder of the public keys of the clients that may connect")
    if wire.allow and not wire.server_key:
        raise ConfigError("wire.server_key", "with wire.allow, expected the file of the server's secret key; `rtserver keys new` makes one")


def _check_outputs(config: Config, within: Callable[[str, float, float, float], None]) -> None:
    if not config.outputs:
        raise ConfigError("outputs", "expected at least one output; add for example [outputs.harmonic]")
    for name, output in config.outputs.items():
        field = f"outputs.{name}"
        _check_name(field, name)
        _check_channels(f"{field}.channels", output.channels)
        _check_input(f"{field}.input", output.input, config)
        within(f"{field}.gain_db", output.gain_db, -120, 24)
        n_channels = len(config.inputs[config.input_of(output)].channels)
        if n_channels != 1 and len(output.channels) != n_channels:
            raise ConfigError(f"{field}.channels", f"expected {n_channels} channels as in the input, got {len(output.channels)}")
    for name, output in config.outputs.items():
        for other_name, other in config.outputs.items():
            one_input = config.input_of(output) == config.input_of(other)
            both_dry = output.on_late == other.on_late == "dry" and "dry" not in (output.source, other.source)
            if name < other_name and one_input and both_dry and set(output.channels) & set(other.channels):
                raise ConfigError(
                    f"outputs.{other_name}.on_late",
                    f"shares a channel with {name!r} and both fall back to dry, which would double the level: set one to 'mute'",
                )


def _check_name(field: str, name: str) -> None:
    """Names become parts of parameter names and of topics."""
    if not name or not all(c.isalnum() or c in "_-" for c in name):
        raise ConfigError(field, f"expected a name of letters, digits, '_' and '-', got {name!r}")


def _check_input(field: str, name: str, config: Config) -> None:
    if name and name not in config.inputs:
        near = difflib.get_close_matches(name, config.inputs, n=1)
        raise ConfigError(field, f"no input {name!r}; {f'did you mean {near[0]!r}?' if near else 'known: ' + ', '.join(config.inputs)}")


def check_separation(separation: Separation, path: str = "separation.") -> None:
    """Refuse masks out of range. Raises `ConfigError` with the field behind `path`."""
    for name, (low, high) in MASK_LIMITS.items():
        value: float = getattr(separation, name)
        if not low <= value <= high:
            raise ConfigError(f"{path}{name}", f"expected {low:g} to {high:g}, got {value:g}")


def _check_channels(field: str, channels: list[int]) -> None:
    if not channels or any(c < 1 for c in channels) or len(set(channels)) != len(channels):
        raise ConfigError(field, f"expected device channels counted from 1, each once, got {channels}")
