"""Every decoder against bytes that nobody meant: random ones, and valid messages with a part exchanged.

Each test is a fuzz target: ``FUZZ=100000 pytest tests/wire/test_fuzz.py --hypothesis-seed=random`` looks longer, and elsewhere every time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from gateway_process import TRACKS, configuration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtserver import config, events
from rtserver.errors import ConfigError, ProtocolError, RtserverError
from rtserver.shared.memory import Layout
from rtserver.shared.session import Session, Setup
from rtserver.wire import discovery, parameters, security
from rtserver.wire import protocol as p
from rtserver.wire import requests as r
from rtserver.wire.control import Control

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "clients"))

from rtclient import NoteLease, Sequencer, Stream
from rtclient.sequencer import Arrival

fuzz = settings(
    max_examples=int(os.environ.get("FUZZ", "150")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=70) | st.binary(max_size=70)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12) | st.integers(0, 9), inner, max_size=4),
    max_leaves=8,
)
HEADER = p.Header(p.VERSION, "00ff" * 4, 7, 1, 48000, 48100, 123, None)
RAW = p.RawHeader(1, "b", 1, 1, 0, 0, 0, 5, 7, 10, "on")
BULK = p.BulkHeader(p.VERSION, "00ff" * 4, 7, 1, 0, 3, 123, None, p.BULK_FORMAT, p.AUDIO_AXES, (2, 3), 1, 48000)
VALID_REQUESTS: list[dict[str, Any]] = [
    {"op": "hello", "versions": [1], "client": "test"},
    {"op": "ping", "sent_ns": 5, "lost_events": 0, "lost_bulk": 0},
    {"op": "status"},
    {"op": "snapshot"},
    {"op": "sync"},
    {"op": "get", "name": "outputs.harmonic.mute"},
    {"op": "set", "name": "outputs.harmonic.mute", "value": True, "at_frame": 7},
    {"op": "panic"},
    {"op": "reset"},
    {"op": "seek", "quarter": 4.0},
    {"op": "start_at", "at": "bar 2"},
    {"op": "tap", "nearest": "beat"},
    {"op": "untap"},
    {"op": "count_in", "bars": 2},
    {"op": "loop", "bars": "bar 5 to bar 8"},
    {"op": "cue", "action": "arm", "name": "strings"},
    {"op": "note", "pitch": 60, "velocity": 70, "duration_s": 0.5, "channel": 1, "delay_s": 0.1},
    {"op": "quit"},
    {"op": "record", "action": "start"},
    {"op": "song", "name": "next", "at_frame": 480000},
    {"op": "reload"},
]
VALID_EVENTS: list[events.Event] = [
    events.Position(1, 2, 0.5, 0.5, 120.0, 0.9, "LOCKED"),
    events.Note(1, 2, 3, 60, 72, 480, 0),
    events.NoteOn(1, 2, 3, 60, 72, 0, 10, 11),
    events.NoteOff(1, 2, 3, 60, 0, 10, 11),
    events.MidiIn(1, 2, "in", b"\x90\x3c\x40"),
    events.Status(1, 2, "engine", {"hops": 3}),
    events.Param(1, 2, "outputs.harmonic.mute", True),
    p.Heartbeat(1, 2, {"note": 3}, [(0, 60, 99)], (48000.0, 10, 48000.1, 20)),
]


@st.composite
def altered(draw: st.DrawFn, plain: Any) -> Any:
    """`plain` (a map or a list) with some of its parts exchanged, removed or added."""
    if isinstance(plain, list):
        changed = list(plain)
        for _ in range(draw(st.integers(1, 2))):
            changed[draw(st.integers(0, len(changed) - 1))] = draw(values)
        return changed[: draw(st.integers(0, len(changed)))] if draw(st.booleans()) else [*changed, draw(values)]
    changed = dict(plain)
    for _ in range(draw(st.integers(1, 3))):
        how, key = draw(st.sampled_from(["exchange", "remove", "add"])), draw(st.sampled_from(sorted(plain)))
        if how == "remove":
            changed.pop(key, None)
        else:
            changed[key if how == "exchange" else draw(st.text(max_size=12))] = draw(values)
    return changed


@st.composite
def scratched(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with bytes changed, cut out or put in."""
    found = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        i = draw(st.integers(0, len(found)))
        found[i : i + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(found)


def requests() -> st.SearchStrategy[list[bytes]]:
    plain = st.sampled_from(VALID_REQUESTS).map(lambda request: {"id": "a-1"} | request)
    body = plain.flatmap(altered).map(msgspec.msgpack.encode) | plain.map(msgspec.msgpack.encode).flatmap(scratched)
    return st.lists(st.binary(max_size=40), max_size=4) | st.tuples(st.just(p.MARK), body).map(list)


def test_every_op_is_among_the_requests_to_alter() -> None:
    assert {request["op"] for request in VALID_REQUESTS} == set(r.REQUESTS)


@fuzz
@given(requests())
def test_requests(frames: list[bytes]) -> None:
    try:
        request = p.decode_request(frames)
    except p.Refusal as refusal:
        assert refusal.code in p.ERROR_CODES
        assert refusal.id == p.request_id(frames)
        p.decode_reply(p.encode_reply(refusal.reply()))
    else:
        assert p.decode_request(p.encode_request(request)) == request


@fuzz
@given(st.sampled_from(VALID_EVENTS), st.data())
def test_events_on_the_wire(event: events.Event, data: st.DataObject) -> None:
    topic, header, payload = p.encode_event(event, HEADER)
    which = data.draw(st.integers(0, 2))
    if which == 0:
        topic = data.draw(scratched(topic))
    elif which == 1:
        header = msgspec.msgpack.encode(data.draw(altered(msgspec.msgpack.decode(header))))
    else:
        payload = msgspec.msgpack.encode(data.draw(altered(msgspec.msgpack.decode(payload))))
    with contextlib.suppress(ProtocolError):
        got = p.decode_event([topic, header, payload])
        assert p.decode_event(p.encode_event(got[2], got[1])) == got


@fuzz
@given(altered(list(msgspec.structs.astuple(BULK))), st.binary(max_size=32))
def test_samples_on_the_wire(header: list[Any], payload: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        _, got, samples = p.decode_bulk([b"audio.harmonic", msgspec.msgpack.encode(header), payload])
        assert samples.shape == got.shape


@fuzz
@given(altered(list(msgspec.structs.astuple(RAW))), st.binary(max_size=4))
def test_raw_midi_on_the_wire(header: list[Any], payload: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        _, got, data = p.decode_raw([b"midi.performer", msgspec.msgpack.encode(header), payload])
        assert (data, got.version) == (payload, 1)


@fuzz
@given(altered({"id": "a", "ok": False, "error": {"code": "busy", "message": "", "field": ""}, "result": {}}))
def test_replies(reply: dict[str, Any]) -> None:
    with contextlib.suppress(ProtocolError):
        assert isinstance(p.decode_reply([p.MARK, msgspec.msgpack.encode(reply)]).ok, bool)


@fuzz
@given(st.sampled_from(VALID_EVENTS[:-1]), st.data())
def test_events_in_rings_and_recordings(event: events.Event, data: st.DataObject) -> None:
    plain = msgspec.msgpack.decode(events.encode(event))
    with contextlib.suppress(msgspec.MsgspecError):
        assert isinstance(events.decode(msgspec.msgpack.encode(data.draw(altered(plain)))), events.Event)
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
        assert isinstance(events.from_json(data.draw(scratched(events.to_json(event)))), events.Event)


@fuzz
@given(scratched(b'name = "duo"\n[audio]\nblock_size = 128\n[outputs.a]\nsource = "dry"\nchannels = [1]\n[wire]\nallow = "keys"\n'))
def test_configuration_files(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_bytes(text)
    with contextlib.suppress(ConfigError):
        config.load(path)
        tomllib.loads(text.decode())


NOTICE = discovery.Notice("duo", [1], "0.1.0", 1, "00ff" * 4, 7, {"control": "tcp://127.0.0.1:5580"})


@fuzz
@given(altered(msgspec.to_builtins(NOTICE)).map(lambda n: msgspec.json.encode(n, enc_hook=repr)) | scratched(msgspec.json.encode(NOTICE)))
def test_notices_of_servers(data: bytes) -> None:
    with contextlib.suppress(RtserverError):
        assert isinstance(discovery.decode(data), discovery.Notice)


@fuzz
@given(scratched(b'# a key\ncurve\n    public-key = "lwdg@0p-I7Qx^T2Ck[%:<+ww:seI@TMid}.)&JrS"\n'))
def test_key_files(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.key"
    path.write_bytes(text)
    with contextlib.suppress(RtserverError):
        assert len(security.read_public(path)) == 40


@fuzz
@given(scratched(b'{"outputs.harmonic.gain_db":[[7,-6.0],[9,0]],"outputs.harmonic.mute":[[0,true]],"generation.scale":[[1,"C major"]]}'))
def test_kept_parameters(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "parameters.json"
    path.write_bytes(text)
    kept = parameters.Parameters(config.Config(), path)
    for name, value in kept.values().items():
        kept.check(name, value)


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Control:
    folder = tmp_path_factory.mktemp("z")
    layout = Layout()
    Session.declare(layout, n_in=1, n_out=2, n_features=208)
    session = Session.create(layout, Setup(configuration(folder), str(folder), "score", TRACKS))
    return Control(session, publish=lambda _: None, sequences={}, epoch=1, endpoints={}, bulk_topics=[])


@fuzz
@given(requests(), st.sampled_from(["a", "b", ""]))
def test_every_request_is_answered_once_and_nothing_is_raised(control: Control, frames: list[bytes], who: str) -> None:
    replies: list[list[bytes]] = []
    before = len(control.syncs)
    refused = control.handle(frames, replies.append, who)
    assert len(replies) + len(control.syncs) - before == 1
    for reply in replies:
        decoded = p.decode_reply(reply)
        assert decoded.ok == (not refused)
        assert decoded.error is None or decoded.error.code == refused
    for role in ("supervisor", "engine", "follower", "performer", "midi"):
        control.session.receive(role)
    control.syncs.clear()


@fuzz
@given(st.lists(st.tuples(st.sampled_from(VALID_EVENTS), st.integers(1, 9), st.integers(0, 2)), max_size=20), st.floats(0, 10))
def test_a_client_takes_any_order_of_valid_events(sent: list[tuple[events.Event, int, int]], now_s: float) -> None:
    sounding: set[tuple[int, int]] = set()
    lease = NoteLease(lambda channel, pitch, _: sounding.add((channel, pitch)), lambda *key: sounding.remove(key))
    stream = Stream()
    stream.topics = list(p.TOPICS)
    for event, sequence, epoch in sent:
        header = [1, "b", epoch, sequence, 0, 0, 0, None]
        payload = msgspec.msgpack.decode(msgspec.msgpack.encode(event))
        lease.take(payload["kind"], header, payload, now_s, now_s)
        list(stream.take(payload["kind"], header, payload))
        if stream.wants_snapshot:
            stream.wants_snapshot = False
            list(stream.join({"boot_id": "b", "epoch": epoch, "sequences": {}}))
        assert sounding == set(lease.held)
    lease.release()
    assert sounding == set()


@fuzz
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["on", "off", "cut", "new", "heartbeat"]),
            st.integers(1, 9),
            st.integers(0, 2),
            st.integers(-9, 9),
            st.integers(0, 3),
        ),
        max_size=30,
    )
)
def test_a_player_takes_any_order_of_raw_midi(sent: list[tuple[str, int, int, int, int]]) -> None:
    sequencer, sounding, now = Sequencer(("midi.performer",)), set[int](), 0
    for what, sequence, epoch, due_ms, note_id in sent:
        now += 5_000_000
        header = [1, "b", epoch, sequence, 0, 0, 0, now + due_ms * 1_000_000, note_id, 20_000_000, what]
        heartbeat = {"sequences": {"midi.performer": sequence}, "notes": []}
        beats = what == "heartbeat"
        topic, payload = ("heartbeat", heartbeat) if beats else ("midi.performer", bytes((0x90, 60 + note_id, 1)))
        sequencer.take(topic, header, payload, Arrival(now, 0.0, now))
        for message in sequencer.due(now):
            (sounding.add if message[0] == 0x90 else sounding.discard)(message[1])
        assert sounding == {pitch for _, pitch in sequencer.held}
    sequencer.release(now)
    assert not [message for message in sequencer.due(now) if message[0] == 0x90]
    assert not sequencer.held
