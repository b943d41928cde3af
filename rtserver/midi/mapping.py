"""What a message that comes in does: the rules of ``[midi.map]``, from MIDI bytes to commands and parameters. Pure."""

from __future__ import annotations

from typing import NamedTuple

from rtserver.config import Config
from rtserver.config.bounds import within
from rtserver.config.click import COUNT_IN, check_count_in
from rtserver.config.midi import MidiMap, inputs_of
from rtserver.errors import ConfigError, ScoreError
from rtserver.following.naming import COMMANDS as ORDERS
from rtserver.following.naming import check_command
from rtserver.midi.clock import CONTINUE, START, STOP
from rtserver.midi.messages import CONTROL, N_CHANNELS, NOTE_OFF, NOTE_ON, PROGRAM
from rtserver.wire.parameters import Parameter, table
from rtserver.wire.protocol import Refusal, nearest

Value = float | str | bool
PITCH_BEND = 0xE0
PRESSED_KINDS = {"cc": CONTROL, "note": NOTE_ON, "pitch_bend": PITCH_BEND}
TRANSPORT = {"start": START, "stop": STOP, "continue": CONTINUE}
# The roles that each command goes to, and what its value must be (None: it has none; object: the follower knows; int: bars, or none).
COMMANDS: dict[str, tuple[tuple[str, ...], type | None]] = {
    "panic": (("midi", "performer"), None),
    "reset": (("engine", "follower", "performer"), None),
    COUNT_IN: (("performer",), int),
    **dict.fromkeys(ORDERS, (("follower",), object)),
    "note": (("midi",), str),
    "song": (("supervisor",), str),
    "reload": (("supervisor",), None),
    "quit": (("supervisor",), None),
}


class Action(NamedTuple):
    """A command, or a parameter to be set, and the roles that it goes to."""

    name: str
    value: Value | None
    roles: tuple[str, ...]
    is_parameter: bool


def check_map(field: str, rule: MidiMap, config: Config) -> None:
    """Raises `ConfigError` with the path of what is wrong in a rule."""
    within(f"{field}.channel", rule.channel, 0, N_CHANNELS)
    within(f"{field}.threshold", rule.threshold, 1, 127)
    if rule.number is not None:
        within(f"{field}.number", rule.number, 0, 127)
    elif rule.message == "cc":
        raise ConfigError(f"{field}.number", "expected the number of the controller; the sustain pedal is 64")
    if rule.port and rule.port not in inputs_of(config):
        raise ConfigError(f"{field}.port", f"no input port {rule.port!r}; {nearest(rule.port, dict.fromkeys(inputs_of(config)))}")
    if bool(rule.command) == bool(rule.parameter):
        raise ConfigError(field, "expected either command or parameter")
    if rule.command:
        _check_command(field, rule)
    else:
        _check_parameter(field, rule, table(config))


def _check_command(field: str, rule: MidiMap) -> None:
    if rule.command not in COMMANDS:
        raise ConfigError(f"{field}.command", f"unknown command {rule.command!r}; {nearest(rule.command, COMMANDS)}")
    kind = COMMANDS[rule.command][1]
    if kind is None and rule.value is not None:
        raise ConfigError(f"{field}.value", f"{rule.command} takes no value, got {rule.value!r}")
    if kind is object:
        try:
            check_command(rule.command, rule.value)
        except ScoreError as error:
            raise ConfigError(f"{field}.value", str(error)) from None
    if kind is int:
        try:
            check_count_in(rule.value)
        except ValueError as error:
            raise ConfigError(f"{field}.value", str(error)) from None
    if kind is str and not (isinstance(rule.value, str) and rule.value):
        raise ConfigError(f"{field}.value", f"{rule.command} takes a text, got {rule.value!r}")
    _refuse_range(field, rule)


def _check_parameter(field: str, rule: MidiMap, known: dict[str, Parameter]) -> None:
    parameter = known.get(rule.parameter)
    if parameter is None:
        raise ConfigError(f"{field}.parameter", f"unknown parameter {rule.parameter!r}; {nearest(rule.parameter, known)}")
    values = {"value": rule.value} if rule.value is not None else {"low": rule.low, "high": rule.high}
    for key, value in values.items():
        if value is not None:
            try:
                parameter.check(rule.parameter, value)
            except Refusal as refusal:
                raise ConfigError(f"{field}.{key}", str(refusal)) from None
    if rule.value is not None or isinstance(parameter.default, bool):
        _refuse_range(field, rule)
    elif isinstance(parameter.default, str):
        raise ConfigError(f"{field}.value", f"{rule.parameter} is a word: say which")
    if rule.value is None and rule.message not in PRESSED_KINDS:
        raise ConfigError(f"{field}.value", f"a message of the kind {rule.message!r} has no value of its own: say which")


def _refuse_range(field: str, rule: MidiMap) -> None:
    for key in ("low", "high"):
        if getattr(rule, key) is not None:
            raise ConfigError(f"{field}.{key}", "only a number that follows a controller has a range")


def action_of(command: str, parameter: str, value: Value | None, known: dict[str, Parameter]) -> Action | None:
    """What a checked rule asks for; None for nothing, or a parameter that is not among the `known`."""
    if command:
        if isinstance(value, int) and not isinstance(value, bool):  # TOML writes 16 for 16.0
            value = float(value)
        return Action(command, value, COMMANDS[command][0], is_parameter=False)
    role = known[parameter].role if parameter in known else ""
    return Action(parameter, value, (role,), is_parameter=True) if role else None


class Mapping:
    """Applies the rules of a configuration that has been checked. What moves a parameter that the present song has not does nothing."""

    def __init__(self, config: Config) -> None:
        self._rules = list(config.midi.map.values())
        self._pressed: set[tuple[int, str, int, int]] = set()  # rule, port, channel, number: what is down
        self.take_song(config)

    def take_song(self, config: Config) -> None:
        """Another song of the same show: its parameters, with its own values until a controller moves again."""
        self._parameters = table(config) if self._rules else {}
        self._last: dict[int, Value] = {}  # what each rule's parameter was last set to

    def forget(self, port: str) -> None:
        """What was connected to `port` has gone: nothing of it is pressed, and the next press is one."""
        self._pressed = {key for key in self._pressed if key[1] != port}

    def take(self, port: str, message: bytes) -> list[Action]:
        """What a message that came in on `port` does."""
        actions: list[Action] = []
        for index, rule in enumerate(self._rules):
            if not rule.port or rule.port == port:
                action = self._apply(index, rule, port, message)
                if action is not None:
                    actions.append(action)
        return actions

    def _apply(self, index: int, rule: MidiMap, port: str, message: bytes) -> Action | None:
        if rule.message in TRANSPORT:
            return self._act(rule) if message[0] == TRANSPORT[rule.message] else None
        kind, channel = message[0] & 0xF0, message[0] & 0x0F
        if (rule.channel and channel != rule.channel - 1) or len(message) != (2 if kind == PROGRAM else 3):
            return None
        if rule.message == "pc" or kind == PROGRAM:
            return self._act(rule) if rule.message == "pc" and kind == PROGRAM and rule.number in (None, message[1]) else None
        if kind == NOTE_OFF and rule.message == "note":
            kind, share = NOTE_ON, 0.0
        elif kind == PITCH_BEND:
            share = (message[1] | message[2] << 7) / 16383
        else:
            share = message[2] / 127
        number = 0 if kind == PITCH_BEND else message[1]
        if kind != PRESSED_KINDS[rule.message] or rule.number not in (None, number):
            return None
        if rule.parameter and rule.value is None:
            return self._follow(index, rule, share)
        key = (index, port, channel, number)
        # A key is down at any velocity; what else moves is pressed from its threshold on.
        down = share > 0 if rule.message == "note" else share * 127 >= rule.threshold
        was_down = key in self._pressed
        (self._pressed.add if down else self._pressed.discard)(key)
        return self._act(rule) if down != was_down and down == (rule.edge == "press") else None

    def _follow(self, index: int, rule: MidiMap, share: float) -> Action | None:
        """The parameter where the controller is; None if it is there already."""
        parameter = self._parameters.get(rule.parameter)
        if parameter is None:
            return None
        if isinstance(parameter.default, bool):
            value: Value = (share * 127 >= rule.threshold) == (rule.edge == "press")
        else:
            low = parameter.low if rule.low is None else rule.low
            high = parameter.high if rule.high is None else rule.high
            value = low + share * (high - low)
        if self._last.get(index) == value:
            return None
        self._last[index] = value
        return Action(rule.parameter, value, (parameter.role,), is_parameter=True)

    def _act(self, rule: MidiMap) -> Action | None:
        return action_of(rule.command, rule.parameter, rule.value, self._parameters)
