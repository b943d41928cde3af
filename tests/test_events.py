"""Events survive the wire and the log unchanged, and nothing else is taken for one."""

from __future__ import annotations

import json
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver import events
from rtserver.events import AnyEvent, Event, Position, decode, encode, from_json, to_json

KINDS: tuple[type[Event], ...] = get_args(AnyEvent)
frames = st.integers(0, 2**53)
counts = st.integers(0, 2**40)
numbers = st.floats(allow_nan=False, allow_infinity=False)
values = {bool: st.booleans(), int: counts, float: numbers, str: st.text(max_size=20), bytes: st.binary(max_size=20)}


def an_event(kind: type[Event]) -> st.SearchStrategy[Event]:
    special = {
        "frame": frames,
        "available_frame": frames,
        "counters": st.dictionaries(st.text(max_size=12), counts, max_size=5),
        "notes": st.lists(st.tuples(counts, counts, counts), max_size=5),
        "value": numbers | st.text(max_size=12) | st.booleans(),
    }
    if kind is events.Setting:
        special["value"] = numbers | st.text(max_size=12)
    fields = {
        f.name: special[f.name] if f.name in special and (f.type is int or f.type not in values) else values[f.type]
        for f in msgspec.structs.fields(kind)
    }
    return st.builds(kind, **fields)


any_event = st.one_of(*(an_event(kind) for kind in KINDS))


@given(any_event)
def test_an_event_comes_back_from_the_wire_as_it_was(event: Event) -> None:
    back = decode(encode(event))
    assert (type(back), back) == (type(event), event)


@given(any_event)
def test_an_event_comes_back_from_the_log_as_it_was(event: Event) -> None:
    back = from_json(to_json(event))
    assert (type(back), back) == (type(event), event)


@given(any_event)
def test_a_line_of_the_log_is_one_flat_object(event: Event) -> None:
    line = to_json(event)
    assert b"\n" not in line
    record = json.loads(line)
    assert {"kind", "frame", "available_frame"} <= set(record)


def test_every_event_class_is_decoded() -> None:
    defined = {c for c in vars(events).values() if isinstance(c, type) and issubclass(c, Event) and c is not Event}
    assert set(KINDS) == defined


@pytest.mark.parametrize(("kind", "name"), [(events.NoteOn, "note_on"), (events.Position, "position"), (events.MidiIn, "midi_in")])
def test_a_kind_is_the_class_name_in_snake_case(kind: type[Event], name: str) -> None:
    assert kind.__struct_config__.tag == name


@given(st.binary(max_size=64))
def test_random_bytes_are_refused_and_do_no_harm(data: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, msgspec.ValidationError)):
        decode(data)


def test_an_unknown_field_is_refused() -> None:
    record = msgspec.to_builtins(Position(0, 0, 0.0, 0.0, 120.0, 1.0, "LOCKED")) | {"colour": "red"}
    with pytest.raises(msgspec.ValidationError, match="colour"):
        decode(msgspec.msgpack.encode(record))
