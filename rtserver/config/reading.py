"""From a TOML file to the checked tree. An unknown key is refused by name, with the nearest known one; a wrong value with its path."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from rtserver.config.audio import Input, Output
from rtserver.config.checks import check
from rtserver.config.cues import Cues, check_cues
from rtserver.config.midi import MidiMap, MidiPort, check_maps
from rtserver.config.separation import anchored
from rtserver.config.tree import Config
from rtserver.errors import ConfigError

S = TypeVar("S", bound=msgspec.Struct)

FOLLOWING_FILES = ("recording", "recording_beats", "sound_font")
# Keys of earlier versions, and where their matter is to be found now.
MOVED = {"wire.record": 'recording has a table of its own now: [recording] with folder = "..."'}


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
    """`config` with its file of cues read, and the paths of its files counted from `folder`. Raises `ConfigError`."""
    if config.cues.file:
        config = msgspec.structs.replace(config, cues=_cues(config.cues, folder))
        check_cues(config)
    if config.score.file and not Path(config.score.file).is_absolute():
        score = msgspec.structs.replace(config.score, file=str((folder / config.score.file).resolve()))
        config = msgspec.structs.replace(config, score=score)
    inputs = {
        name: msgspec.structs.replace(source, separation=anchored(source.separation, folder)) if source.separation else source
        for name, source in config.inputs.items()
    }
    config = msgspec.structs.replace(config, separation=anchored(config.separation, folder), inputs=inputs)
    for key in FOLLOWING_FILES:
        if value := getattr(config.following, key):
            there = str(folder.resolve() / Path(value).expanduser())
            config = msgspec.structs.replace(config, following=msgspec.structs.replace(config.following, **{key: there}))
    if config.log.file:
        there = str(folder.resolve() / Path(config.log.file).expanduser())
        config = msgspec.structs.replace(config, log=msgspec.structs.replace(config.log, file=there))
    for key in ("server_key", "allow"):
        if value := getattr(config.wire, key):
            there = str(folder.resolve() / Path(value).expanduser())
            config = msgspec.structs.replace(config, wire=msgspec.structs.replace(config.wire, **{key: there}))
    return config


def _cues(cues: Cues, folder: Path) -> Cues:
    """The cues in a file, and those beside it."""
    path = folder.resolve() / Path(cues.file).expanduser()
    try:
        raw = read(path)
        _refuse_unknown(raw, Cues, "")
        return msgspec.structs.replace(cues, file=str(path), cue=[*cues.cue, *_convert(raw, Cues, "").cue])
    except ConfigError as error:
        raise ConfigError("cues.file", f"{cues.file}: {error}") from None


def parse(raw: dict[str, Any], *, with_map: bool = True) -> Config:
    """Turn the plain map of a TOML file into a checked `Config`. Raises `ConfigError`.

    Without `with_map` the rules of ``[midi.map]`` are not held against the parameters: that takes all songs of a show (`check_maps`).
    """
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
    check(config)
    if with_map:
        check_maps([config])
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
