"""What can be set while the server plays: names, ranges, who applies it, and the values as they stand."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec

from rtserver.config import MASK_LIMITS, Config, Generation, Separation
from rtserver.config.music import GENERATION_LIMITS
from rtserver.config.separation import model_name
from rtserver.errors import ConfigError
from rtserver.generation.chords import parse_chord
from rtserver.generation.constraints import parse_scale
from rtserver.separation.model import blend_of, prompted
from rtserver.wire.protocol import Refusal, nearest

# Commands and parameters take effect so long after they came, so that they reach their role before the frame does: a worker's hop is 10 ms,
# its turn a few more. A panic takes effect as soon as it can.
EFFECT_S = 0.02

Value = float | str | bool
Change = tuple[int, Value]  # the session frame from which a value holds


@dataclass(frozen=True, slots=True)
class Parameter:
    """One name that `set` knows. `low` and `high` bound a number; `choices` lists words, empty for any word."""

    role: str
    default: Value
    low: float = 0.0
    high: float = 0.0
    choices: tuple[str, ...] = ()
    parse: Callable[[str], object] | None = None  # for words that are not a list: raises `ConfigError` with the remedy

    def check(self, name: str, value: Value) -> Value:
        """`value` as it is going to be applied. Raises `Refusal`."""
        if isinstance(self.default, bool):
            if not isinstance(value, bool):
                raise Refusal("bad_argument", f"{name}: expected true or false, got {value!r}", "value")
        elif isinstance(self.default, str):
            if not isinstance(value, str) or not value:
                raise Refusal("bad_argument", f"{name}: expected a word, got {value!r}", "value")
            if self.choices and value not in self.choices:
                raise Refusal("out_of_range", f"{name}: expected one of {', '.join(self.choices)}, got {value!r}", "value")
            if self.parse is not None:
                try:
                    self.parse(value)
                except ConfigError as error:
                    raise Refusal("out_of_range", f"{name}: {error}", "value") from None
        else:
            if isinstance(value, bool | str):
                raise Refusal("bad_argument", f"{name}: expected a number, got {value!r}", "value")
            if not self.low <= value <= self.high:
                raise Refusal("out_of_range", f"{name}: expected {self.low:g} to {self.high:g}, got {value:g}", "value")
        return value

    def describe(self) -> dict[str, Value | list[str]]:
        """What `hello` says of it."""
        if isinstance(self.default, bool):
            return {"type": "bool"}
        if isinstance(self.default, str):
            return {"type": "string", "choices": list(self.choices)}
        return {"type": "float", "low": self.low, "high": self.high}


def table(config: Config) -> dict[str, Parameter]:
    """Every parameter of a session, by name."""
    known: dict[str, Parameter] = {}
    for name, output in config.outputs.items():
        known[f"outputs.{name}.gain_db"] = Parameter("engine", output.gain_db, -120.0, 24.0)
        known[f"outputs.{name}.mute"] = Parameter("engine", output.mute)
        if output.source != "click":
            known[f"outputs.{name}.bypass"] = Parameter("engine", output.bypass)
    separated = [output for output in config.outputs.values() if output.source not in ("dry", "click")]
    for name in dict.fromkeys(config.input_of(output) for output in separated):
        separation = config.separation_of(name)
        if separation.model:
            known[f"inputs.{name}.blend"] = Parameter("engine", blend_of(separation), 0.0, 1.0)
            names = tuple(model_name(model) for model in separation.models)
            if len(names) > 1:
                known[f"inputs.{name}.model"] = Parameter("engine", names[0], choices=names)
            shown = prompted(config, name)
            if shown is not None:
                known[f"inputs.{name}.score"] = Parameter("engine", shown)
            continue
        known[f"inputs.{name}.mask"] = Parameter("engine", separation.mask, choices=get_args(get_type_hints(Separation)["mask"]))
        for key, (low, high) in MASK_LIMITS.items():
            known[f"inputs.{name}.{key}"] = Parameter("engine", getattr(separation, key), low, high)
    generation = config.generation
    modes: tuple[str, ...] = get_args(get_type_hints(Generation)["mode"])
    if not config.score.file:
        modes = tuple(mode for mode in modes if mode != "along")
    known["generation.enabled"] = Parameter("performer", generation.enabled)
    known["generation.mode"] = Parameter("performer", generation.mode, choices=modes)
    known["generation.scale"] = Parameter("performer", generation.scale, parse=parse_scale)
    known["generation.chord"] = Parameter("performer", generation.chord, parse=parse_chord)
    known["generation.fill"] = Parameter("performer", generation.fill)
    for key, (low, high) in GENERATION_LIMITS.items():
        known[f"generation.{key}"] = Parameter("performer", getattr(generation, key), low, high)
    known["click.enabled"] = Parameter("performer", config.click.enabled)
    known["click.subdivision"] = Parameter("performer", float(config.click.subdivision), 1.0, 4.0)
    return known


def standing(changes: list[Change], now: int) -> list[Change]:
    """Of changes with a frame each, the one that holds at frame `now`, and those that are still to come."""
    holds = max((frame for frame, _ in changes if frame <= now), default=None)
    return [change for change in changes if change[0] > now or change[0] == holds]


class Parameters:
    """The parameters of a session and their values. What was set is kept in a file, so that a restarted gateway still knows it."""

    def __init__(self, config: Config, path: Path) -> None:
        self.table = table(config)
        self._path = path
        self._set: dict[str, list[Change]] = {}  # what holds and what waits for its frame, the one that was set last last
        self._unsaved = False
        with contextlib.suppress(OSError, msgspec.MsgspecError, ValueError):
            for name, changes in msgspec.json.decode(path.read_bytes(), type=dict[str, list[Change]]).items():
                for frame, value in changes:
                    with contextlib.suppress(Refusal):
                        self.store(name, self.check(name, value)[1], frame, 0)

    def check(self, name: str, value: Value) -> tuple[Parameter, Value]:
        """The parameter called `name`, and `value` as it is going to be applied. Raises `Refusal`."""
        parameter = self.table.get(name)
        if parameter is None:
            raise Refusal("unknown_name", f"unknown parameter {name!r}; {nearest(name, self.table)}", "name")
        return parameter, parameter.check(name, value)

    def store(self, name: str, value: Value, frame: int, now: int) -> None:
        """Remember a value that has been sent to its role, to hold from `frame` on; what it has replaced by frame `now` is forgotten."""
        before = self._set.get(name, [])
        changes = standing([*(change for change in before if change[0] != frame), (frame, value)], now)
        self._unsaved |= [v for _, v in changes] != [v for _, v in before]
        self._set[name] = changes

    def save(self) -> None:
        """Keep what was set since the last call: once for many, for a disk takes longer than everything else about a `set`."""
        if not self._unsaved:
            return
        self._unsaved = False
        with contextlib.suppress(OSError):  # a full disk must not refuse a mute
            fresh = self._path.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(self._set))
            os.replace(fresh, self._path)

    def values(self) -> dict[str, Value]:
        """All values: what was set last, whether or not its frame has come, else what the configuration says."""
        return {name: self._set[name][-1][1] if name in self._set else parameter.default for name, parameter in self.table.items()}

    def set_for(self, role: str, now: int) -> list[tuple[int, str, Value]]:
        """What a restarted `role` has to be told again of what was set, in order: (frame, name, value). What holds already begins `now`."""
        names = (name for name in self._set if self.table[name].role == role)
        told = [(max(frame, now), name, value) for name in names for frame, value in standing(self._set[name], now)]
        return sorted(told, key=lambda change: change[0])
