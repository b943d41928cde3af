"""The section `cues`: what is to happen at places of the score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from rtserver.config.bounds import within
from rtserver.config.midi import MidiMap
from rtserver.errors import ConfigError, ScoreError
from rtserver.following.naming import named

if TYPE_CHECKING:
    from rtserver.config.tree import Config

MAX_CUES = 256  # of a song
LONGEST_NAME, LONGEST_VALUE = 32, 48  # characters: what is told of a cue has to fit into a message between roles


class Cue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At a place, clients are told of it, and a `command` is given or a `parameter` set. See `rtserver.following.cues`."""

    name: str
    at: str  # bar 12 | bar 12 beat 3 | mark B | quarter 33.5, and maybe time 2
    lead_s: float = 0.0  # so long before the place it is decided; what it asks for takes effect at the place
    skipped: Literal["drop", "fire"] = "drop"  # where the player leaps over it by more than two seconds
    again: bool = False  # whether it fires once more where the player passes it again
    armed: bool = True
    command: str = ""
    parameter: str = ""
    value: float | bool | str | None = None


class Cues(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The cues of a song: written here as ``[[cues.cue]]``, or as ``[[cue]]`` in a file of their own beside the configuration, or both."""

    file: str = ""
    cue: list[Cue] = msgspec.field(default_factory=list[Cue])


def check_cues(config: Config) -> None:
    """What can be known without the score. Raises `ConfigError` with the path of the field."""
    cues = config.cues.cue
    if cues and not config.score.file:
        raise ConfigError("cues", "places are those of a score: set score.file")
    if len(cues) > MAX_CUES:
        raise ConfigError("cues", f"expected at most {MAX_CUES} cues, got {len(cues)}")
    names = [cue.name for cue in cues]
    for k, cue in enumerate(cues):
        field = f"cues.cue[{k}]"
        if not 1 <= len(cue.name.encode()) <= LONGEST_NAME:
            raise ConfigError(f"{field}.name", f"expected a name of 1 to {LONGEST_NAME} bytes, got {cue.name!r}")
        if names.index(cue.name) < k:
            raise ConfigError(f"{field}.name", f"two cues are called {cue.name!r}")
        within(f"{field}.lead_s", cue.lead_s, 0, 60)
        try:
            named(cue.at)
        except ScoreError as error:
            raise ConfigError(f"{field}.at", str(error)) from None
        _check_action(field, cue, config)


def _check_action(field: str, cue: Cue, config: Config) -> None:
    if not cue.command and not cue.parameter:
        if cue.value is not None:
            raise ConfigError(f"{field}.value", f"of which command or parameter is {cue.value!r} the value?")
        return
    if isinstance(cue.value, str) and len(cue.value.encode()) > LONGEST_VALUE:
        raise ConfigError(f"{field}.value", f"expected at most {LONGEST_VALUE} bytes, got {cue.value!r}")
    from rtserver.midi.mapping import check_map  # knows the parameters, which know the configuration

    check_map(field, MidiMap(message="start", command=cue.command, parameter=cue.parameter, value=cue.value), config)
