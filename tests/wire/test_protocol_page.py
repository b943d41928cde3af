"""The page that clients are written from says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rtserver import events
from rtserver.config import Config, parse
from rtserver.midi.schedule import LATE_NS
from rtserver.roles.gateway import MEMORY_SIZE
from rtserver.shared.session import COUNTERS
from rtserver.wire import bulk, control, discovery, limits, security, syncs, zeromq
from rtserver.wire import protocol as p
from rtserver.wire import requests as r
from rtserver.wire.parameters import table
from rtserver.wire.rawmidi import PARTS, RawNotes

PAGE = (Path(__file__).parent.parent.parent / "docs" / "protocol.md").read_text(encoding="utf-8")
HEADER = p.Header(p.VERSION, "1ed453133c63e824", 1784113, 7, 480, 544, 1784417049339, None)


def examples() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL):
        text = block.strip()
        while text:
            example, end = json.JSONDecoder().raw_decode(text)
            found.append(example)
            text = text[end:].strip()
    return found


def rows(section: str) -> dict[str, str]:
    """The rows of the tables in a section, by the name in their first cell."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return {name: row for row in re.findall(r"^\| `.*", text, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


REQUESTS = [e for e in examples() if "op" in e]
REPLIES = [e for e in examples() if "ok" in e]
EVENTS = [e for e in examples() if "kind" in e]


@pytest.mark.parametrize("request_map", REQUESTS, ids=lambda e: e["op"])
def test_every_request_on_the_page_is_one(request_map: dict[str, Any]) -> None:
    assert p.decode_request([p.MARK, msgspec.msgpack.encode(request_map)]).id == request_map["id"]


@pytest.mark.parametrize("reply", REPLIES, ids=lambda e: e["id"])
def test_every_reply_on_the_page_is_one(reply: dict[str, Any]) -> None:
    decoded = p.decode_reply([p.MARK, msgspec.msgpack.encode(reply)])
    assert msgspec.to_builtins(decoded) == reply
    assert decoded.error is None or decoded.error.code in p.ERROR_CODES


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: e["kind"])
def test_every_event_on_the_page_is_one(event: dict[str, Any]) -> None:
    frames = [event["kind"].encode(), msgspec.msgpack.encode(HEADER), msgspec.msgpack.encode(event)]
    assert json.loads(msgspec.json.encode(p.decode_event(frames)[2])) == event


def test_every_op_has_an_example() -> None:
    assert {e["op"] for e in REQUESTS} == set(r.REQUESTS)


def test_every_topic_has_an_example_but_for_the_one_with_bytes() -> None:
    assert {e["kind"] for e in EVENTS} == set(p.TOPICS) - {"midi_in"}


@pytest.mark.parametrize("topic", p.TOPICS)
def test_every_field_of_a_topic_is_on_the_page(topic: str) -> None:
    named = set(re.findall(r"`([^`]+)`", rows("Events")[topic]))
    assert set(p.TOPICS[topic].__struct_fields__) - {"frame", "available_frame"} <= named


@pytest.mark.parametrize("op", r.REQUESTS)
def test_every_argument_of_an_op_is_on_the_page(op: str) -> None:
    section = next(part for part in PAGE.split("\n### ") if f"`{op}`" in part.split("\n")[0])
    assert {name for name in r.REQUESTS[op].__struct_fields__ if name != "id" and f"`{name}`" not in section} == set()


def test_the_error_codes_are_those_on_the_page() -> None:
    assert {name for name in rows("Control") if name in p.ERROR_CODES} == set(p.ERROR_CODES)


def test_the_parameters_are_those_on_the_page() -> None:
    by_networks = parse({"separation": {"model": "stems3", "other_model": "stems3-int8"}, "score": {"file": "piece.mid"}})
    names = {*table(Config()), *table(by_networks)}
    known = {re.sub(r"^(inputs|outputs)\.\w+\.", r"\1.<name>.", name) for name in names}
    assert {name for name in rows("Control") if "." in name} == known


def test_the_bytes_on_the_page_are_those_of_the_header() -> None:
    assert msgspec.msgpack.encode(HEADER).hex(" ") in PAGE


def spelt_out() -> list[tuple[str, str, bytes]]:
    """(what, name, bytes) of each example in the section on bytes."""
    section = PAGE.split("\n## Bytes\n")[1].split("\n## ")[0]
    found = re.findall(r"^([a-z]+), (\S+)\n((?: {4}[0-9a-f ]+\n)+)", section, re.MULTILINE)
    return [(what, name, bytes.fromhex(text)) for what, name, text in found]


@pytest.mark.parametrize(("what", "name", "data"), spelt_out(), ids=lambda v: v if isinstance(v, str) else "")
def test_the_bytes_on_the_page_are_those_of_the_example(what: str, name: str, data: bytes) -> None:
    kinds = {"reply": ("id", REPLIES), "payload": ("kind", EVENTS)}
    key, among = kinds.get(what, ("id", REQUESTS))
    assert msgspec.msgpack.decode(data) in [example for example in among if example[key] == name]


def raw_examples() -> list[tuple[str, list[Any], bytes, bytes]]:
    """(what, header as an array, its bytes, MIDI bytes) of each example of raw MIDI."""
    arrays, text = re.findall(r"```\n(.*?)```", PAGE.split("\n### Raw MIDI\n")[1].split("\n## ")[0], re.DOTALL)[-2:]
    spelt = dict(re.findall(r"^((?:header of )?raw \w+)\n((?: {4}[0-9a-f ]+\n)+)", text, re.MULTILINE))
    headers = [json.loads(line) for line in arrays.split("\n") if line]
    return [(h[10], h, bytes.fromhex(spelt[f"header of raw {h[10]}"]), bytes.fromhex(spelt[f"raw {h[10]}"])) for h in headers]


@pytest.mark.parametrize(("what", "array", "header", "data"), raw_examples(), ids=lambda v: v if isinstance(v, str) else "")
def test_raw_midi_on_the_page_is_raw_midi(what: str, array: list[Any], header: bytes, data: bytes) -> None:
    topic, decoded, midi = p.decode_raw([b"midi.performer", header, data])
    assert (list(msgspec.to_builtins(decoded)), midi, topic) == (array, data, "midi.performer")
    assert msgspec.msgpack.encode(decoded) == header
    assert decoded.what == what


def test_the_raw_note_on_the_page_is_the_note_on_the_page() -> None:
    note = msgspec.convert(next(e for e in EVENTS if e["kind"] == "note"), events.Note)
    by_what = {what: array for what, array, _, _ in raw_examples()}
    on, off, cut = by_what["on"], by_what["off"], by_what["cut"]
    notes = RawNotes()
    told = notes.take(note, on[7], off[7], on[6])
    told += notes.ended(note.note_id, cut[7], cut[7], cut[4])
    assert [[raw.frame, raw.due_ns, raw.note_id, raw.duration_ns, raw.what] for raw in told] == [[a[4], *a[7:]] for a in (on, off, cut)]
    assert [raw.data for raw in told] == [data for _, _, _, data in raw_examples()]


def test_the_topics_of_raw_midi_are_on_the_page() -> None:
    section = PAGE.split("\n### Raw MIDI\n")[1].split("\n## ")[0]
    assert {part for part in PARTS if f"`midi.{part}`" not in section} == set()
    assert f"more than {LATE_NS // 1_000_000} ms late" in section


def test_most_examples_are_spelt_out() -> None:
    assert len(spelt_out()) > 20


@pytest.mark.parametrize("kind", ["DEALER", "SUB"])
def test_the_bytes_of_a_handshake_are_on_the_page(kind: str) -> None:
    body = b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind.encode()
    assert (b"\x04" + bytes([len(body)]) + body).hex(" ") in PAGE


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    assert f"at most {p.MAX_REQUEST_SIZE} bytes" in PAGE
    assert f"1 to {p.MAX_ID_LENGTH} characters" in PAGE
    assert f"a queue of {zeromq.EVENT_QUEUE} events ({zeromq.BULK_QUEUE} chunks" in PAGE
    flowing = " ".join(PAGE.split())
    assert f"last {control.REMEMBERED_EACH} replies of each client are kept, {control.REMEMBERED} in all" in flowing
    assert f"{limits.BURST:g} requests at once and {limits.RATE:g} a second" in flowing
    assert f"{limits.NEWCOMERS_BURST:g} connections at once and {limits.NEWCOMERS_RATE:g} a second" in flowing
    assert f"Of {limits.MAX_CLIENTS} clients" in flowing
    assert f"the {control.MAX_NAMED} clients that asked last" in flowing
    assert f"{syncs.MAX_SYNCS} requests wait" in flowing
    assert f"at most {control.MAX_AHEAD_S} s ahead" in flowing
    assert f"{control.MAX_AHEAD} changes for their frames" in flowing
    assert f"requests have at most {p.MAX_REQUEST_SIZE} bytes" in flowing
    assert f"subscriptions {zeromq.MAX_SUBSCRIPTION_SIZE} bytes, handshakes take at most {security.HANDSHAKE_S} s" in flowing
    assert f"bounded to {MEMORY_SIZE >> 20} MB" in flowing
    assert f"no ZMTP ping for {zeromq.PONG_MS // 1000} s" in flowing
    assert f"Chunks are {bulk.CHUNK} frames" in flowing


def test_every_counter_of_the_gateway_is_on_the_page() -> None:
    assert {name for name in rows("Control") if name in COUNTERS["gateway"]} == set(COUNTERS["gateway"])


def test_the_notice_on_the_page_is_one() -> None:
    section = PAGE.split("\n## Finding a server\n")[1]
    text = section.split("```\n")[1]
    assert msgspec.to_builtins(discovery.decode(text.encode())) == json.loads(text)
