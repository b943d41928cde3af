from __future__ import annotations

import contextlib

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver import events
from rtserver.errors import ProtocolError
from rtserver.wire import protocol as p
from rtserver.wire import requests as r
from rtserver.wire.meters import Meter, Meters

HEADER = p.Header(p.VERSION, "00ff" * 4, 7, 1, 48000, 48100, 123, None)
SAMPLES = {
    "position": events.Position(1, 2, 0.5, 0.5, 120.0, 0.9, "LOCKED"),
    "bar": events.Bar(1, 2, "12", 1.0, "B", 44.0),
    "tempo": events.Tempo(1, 2, 96.0),
    "state": events.State(1, 2, "LOCKED"),
    "cue": events.Cue(1, 2, "lights", 44.0, "place"),
    "refused": events.Refused(1, 2, "follower", "command seek bar 999", "no bar '999'"),
    "note": events.Note(1, 2, 3, 60, 72, 480, 0),
    "plan": events.Plan(1, 2, 3, 4.0, [(0, 60, 12)]),
    "note_on": events.NoteOn(1, 2, 3, 60, 72, 0, 10, 11),
    "note_off": events.NoteOff(1, 2, 3, 60, 0, 10, 11),
    "dropped": events.Dropped(1, 2, 3, 60, 0, "late"),
    "midi_in": events.MidiIn(1, 2, "in", b"\x90\x3c\x40"),
    "beat": events.Beat(1, 2, 4.25, 120.0, True, "midi_in"),
    "miss": events.Miss(1, 2, "harmonic", 64),
    "stand_in": events.StandIn(1, 2, "main", 5, "late"),
    "absent": events.Absent(1, 2, "harmonic", 64),
    "click": events.Click(1, 2, 120, True),
    "change": events.Change(1, 2, "harmonic", "level", 0.5),
    "setting": events.Setting(1, 2, "main", "mask", "hard"),
    "resume": events.Resume(1, 2, "main", 0, 0, "engine started"),
    "song": events.Song(1, 2, "second", "playing", 1),
    "gap": events.Gap(1, 2, 128, "restart"),
    "status": events.Status(1, 2, "engine", {"hops": 3}),
    "role": events.Role(1, 2, "engine", "up", 99, 0),
    "device": events.Device(1, 2, 48000, 256, 128),
    "param": events.Param(1, 2, "outputs.harmonic.mute", True),
    "command": events.Command(1, 2, "panic"),
    "epoch": events.Epoch(1, 2, 0, 99),
    "late": events.Late(1, 2, "performer", "position", 5),
    "entry": events.Entry(1, 1, "follower"),
    "exit": events.Exit(1, 2, "follower"),
    "lag": events.Lag(1, 1, 128),
    "recording": events.Recording(1, 2, "started", "shows"),
    "heartbeat": p.Heartbeat(1, 2, {"note": 3}, [(0, 60, 99)], (48000.0, 10, 48000.1, 20)),
    "meters": Meters(1, 2, [Meter("main", 1, -6.0, -20.0, 0)], []),
}
REQUESTS = {
    "hello": {"versions": [1], "client": "test"},
    "ping": {"sent_ns": 5},
    "get": {"name": "outputs.harmonic.mute"},
    "set": {"name": "outputs.harmonic.mute", "value": True},
    "seek": {"quarter": 4},
    "loop": {"bars": "bar 5 to bar 8"},
    "cue": {"action": "go"},
    "note": {"pitch": 60},
    "record": {"action": "start"},
    "song": {"name": "next"},
}
DECODERS = [p.decode_event, p.decode_raw, p.decode_bulk, p.decode_request, p.decode_reply]


def test_the_topics_are_those_documented() -> None:
    assert set(p.TOPICS) == set(SAMPLES)


@pytest.mark.parametrize("topic", SAMPLES)
def test_an_event_survives_the_wire(topic: str) -> None:
    assert p.decode_event(p.encode_event(SAMPLES[topic], HEADER)) == (topic, HEADER, SAMPLES[topic])


@pytest.mark.parametrize("topic", SAMPLES)
def test_any_msgpack_library_reads_an_event_as_array_and_map(topic: str) -> None:
    _, header, payload = p.encode_event(SAMPLES[topic], HEADER)
    assert len(msgspec.msgpack.decode(header)) == 8
    assert msgspec.msgpack.decode(payload)["kind"] == topic


def test_samples_survive_the_wire() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    header = p.BulkHeader(p.VERSION, "b", 7, 1, 0, 3, 123, None, p.BULK_FORMAT, p.AUDIO_AXES, (2, 3), 1, 48000)
    topic, got, out = p.decode_bulk(p.encode_bulk("audio.harmonic", header, values))
    assert (topic, got) == ("audio.harmonic", header)
    np.testing.assert_array_equal(out, values)


def test_a_chunk_of_the_wrong_length_is_refused() -> None:
    header = p.BulkHeader(p.VERSION, "b", 7, 1, 0, 3, 123, None, p.BULK_FORMAT, p.AUDIO_AXES, (2, 4), 1, 48000)
    with pytest.raises(ProtocolError, match="24 bytes"):
        p.decode_bulk(p.encode_bulk("audio.harmonic", header, np.zeros((2, 3), np.float32)))


@pytest.mark.parametrize("op", r.REQUESTS)
def test_a_request_survives_the_wire(op: str) -> None:
    request = p.decode_request([p.MARK, msgspec.msgpack.encode({"id": "a-1", "op": op} | REQUESTS.get(op, {}))])
    assert type(request) is r.REQUESTS[op]
    assert p.decode_request(p.encode_request(request)) == request


def test_a_header_with_more_elements_is_read() -> None:
    frames = p.encode_event(SAMPLES["miss"], HEADER)
    frames[1] = msgspec.msgpack.encode([*msgspec.structs.astuple(HEADER), "of a later version"])
    assert p.decode_event(frames)[1] == HEADER


def refusal(frames: list[bytes]) -> p.Refusal:
    with pytest.raises(p.Refusal) as caught:
        p.decode_request(frames)
    return caught.value


@pytest.mark.parametrize(
    ("request_map", "code", "field"),
    [
        ({"id": "a", "op": "sett"}, "unknown_op", "op"),
        ({"id": "a", "op": "set", "name": "x"}, "bad_argument", ""),
        ({"id": "a", "op": "set", "name": "x", "value": [1]}, "bad_argument", "value"),
        ({"id": "a", "op": "set", "name": "x", "value": float("nan")}, "bad_argument", "value"),
        ({"id": "a", "op": "seek", "quarter": float("nan")}, "bad_argument", "quarter"),
        ({"id": "a", "op": "note", "pitch": 128}, "bad_argument", "pitch"),
        ({"id": "a", "op": "ping", "extra": 1}, "bad_argument", ""),
        ({"id": "", "op": "ping"}, "bad_message", ""),
        ({"id": "a" * 65, "op": "ping"}, "bad_message", ""),
        ({"op": "ping"}, "bad_message", ""),
    ],
)
def test_a_wrong_request_is_refused_with_code_and_field(request_map: dict[str, object], code: str, field: str) -> None:
    error = refusal([p.MARK, msgspec.msgpack.encode(request_map)])
    assert (error.code, error.field) == (code, field)
    assert error.code in p.ERROR_CODES


def test_a_refusal_names_the_request_and_suggests_the_op() -> None:
    error = refusal([p.MARK, msgspec.msgpack.encode({"id": "a-7", "op": "panick"})])
    assert error.id == "a-7"
    assert "did you mean 'panic'?" in str(error)


@pytest.mark.parametrize("mark", [b"RT2", b"RT17"])
def test_another_version_is_refused_as_such(mark: bytes) -> None:
    assert refusal([mark, b"\x80"]).code == "version"


def test_a_message_of_another_version_is_refused() -> None:
    header = msgspec.structs.replace(HEADER, version=2)
    with pytest.raises(ProtocolError, match="version 2"):
        p.decode_event(p.encode_event(SAMPLES["miss"], header))


@given(st.lists(st.binary(max_size=64), max_size=4))
def test_random_frames_raise_protocol_errors_only(frames: list[bytes]) -> None:
    for decode in DECODERS:
        with contextlib.suppress(ProtocolError):
            decode(frames)


@given(st.binary(max_size=256))
def test_random_bodies_raise_protocol_errors_only(body: bytes) -> None:
    for frames in ([p.MARK, body], [b"note", body, body], [b"features", body, body]):
        for decode in DECODERS:
            with contextlib.suppress(ProtocolError):
                decode(frames)


@given(st.data())
def test_mutated_messages_decode_or_raise_protocol_errors(data: st.DataObject) -> None:
    topic = data.draw(st.sampled_from(sorted(SAMPLES)))
    op = data.draw(st.sampled_from(sorted(REQUESTS)))
    messages = [
        (p.decode_event, p.encode_event(SAMPLES[topic], HEADER)),
        (p.decode_request, [p.MARK, msgspec.msgpack.encode({"id": "a-1", "op": op} | REQUESTS[op])]),
    ]
    for decode, frames in messages:
        i = data.draw(st.integers(0, len(frames) - 1))
        mutated = bytearray(frames[i])
        for _ in range(data.draw(st.integers(1, 4))):
            mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(ProtocolError):
            decode([*frames[:i], bytes(mutated), *frames[i + 1 :]])


@pytest.mark.parametrize("body", [b"\x91" * 60000, b"\x81\xa2id" * 20000, b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b""])
def test_deep_or_boastful_bytes_raise_protocol_errors(body: bytes) -> None:
    for frames in ([p.MARK, body], [b"note", body, body], [b"features", body, body]):
        for decode in DECODERS:
            with pytest.raises(ProtocolError):
                decode(frames)
