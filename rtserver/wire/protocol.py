"""The wire protocol, version 1, as tables and a codec that does no I/O. ``docs/protocol.md`` says the same in prose.

Three sockets carry it: control (requests and replies), events (typed, small, every one counts), bulk (audio and features). Everything
is msgpack but for the samples themselves. Decoding is strict: bytes that are not of this protocol raise `ProtocolError` (a
`Refusal`, which knows what to answer) and nothing else.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Annotated, Any, get_args

import msgspec
import numpy as np

from rtserver import events
from rtserver.errors import ProtocolError
from rtserver.node import Array
from rtserver.wire.meters import Meters
from rtserver.wire.rawmidi import FAMILY, Raw
from rtserver.wire.requests import MAX_ID_LENGTH, REQUESTS, VERSION, Request

MARK = b"RT1"  # first frame of every request and reply: the protocol and its version
MAX_REQUEST_SIZE = 1 << 16  # bytes; a `set` takes some 100

BULK_FORMAT = "f32le"  # samples on the bulk socket: 32-bit floats, little-endian
AUDIO_AXES, FEATURE_AXES = "channels,frames", "hops,features"

Count = Annotated[int, msgspec.Meta(ge=0)]


# -- events and bulk ------------------------------------------------------------------------------------------------------------------


class Heartbeat(events.Event, frozen=True):
    """Ten times a second: proof of life, and all a subscriber needs to find out what it has lost.

    sequences : last sequence number of every topic that has been sent; notes : (channel 0..15, pitch, due end in CLOCK_MONOTONIC ns) of
    each note that sounds; clock : (frame, CLOCK_MONOTONIC ns, frames a second, error in ns), a line that maps frames to time, None until
    audio runs.
    """

    sequences: dict[str, int]
    notes: list[tuple[int, int, int]]
    clock: tuple[float, int, float, int] | None


WireEvent = events.AnyEvent | Heartbeat | Meters

# topic -> class of its payload. A topic is the kind of its events.
TOPICS: dict[str, type[events.Event]] = {str(cls.__struct_config__.tag): cls for cls in (*get_args(events.AnyEvent), Heartbeat, Meters)}
AUDIO_TOPIC = "audio."  # followed by the name of the stem
FEATURE_TOPIC = "features"


class Header(msgspec.Struct, frozen=True, array_like=True):
    """Second frame of every message on the events socket: an array of 8. Later versions append only."""

    version: int
    boot_id: str  # of the session: 16 hexadecimal digits
    epoch: Count  # grows each time the gateway starts within a session; sequence numbers begin anew with it
    sequence: Annotated[int, msgspec.Meta(ge=1)]  # per topic, from 1, without holes
    frame: int  # session frame that the message speaks of
    available_frame: int  # session frame at which it could first be known
    sent_ns: Count  # CLOCK_MONOTONIC
    due_ns: int | None  # CLOCK_MONOTONIC at which it is due, where that applies


class BulkHeader(Header, frozen=True, array_like=True):
    """Second frame on the bulk socket: `Header` and how to read the samples, an array of 13."""

    format: str
    axes: str
    shape: tuple[Count, Count]
    step: Count  # frames from one value along the time axis to the next
    sample_rate: Count


class RawHeader(Header, frozen=True, array_like=True):
    """Second frame of raw MIDI on the events socket: `Header`, with a `due_ns`, and the note that the bytes belong to; an array of 11."""

    note_id: int
    duration_ns: Count  # of the whole note, as it was known when this was sent
    what: str  # "on", "off" as planned, "cut": the note ends at `due_ns` instead, and does not begin at or after that


_encoder = msgspec.msgpack.Encoder()
_raw_header_decoder = msgspec.msgpack.Decoder(RawHeader)
_header_decoder = msgspec.msgpack.Decoder(Header)
_bulk_header_decoder = msgspec.msgpack.Decoder(BulkHeader)
_event_decoder = msgspec.msgpack.Decoder(WireEvent)
# What msgspec raises on bytes it does not like: its own errors, broken UTF-8 (a ValueError), nesting deeper than the stack.
_BAD = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)


def topic_of(event: events.Event) -> str:
    """The topic that an event is published on."""
    return str(type(event).__struct_config__.tag)


def encode_event(event: events.Event, header: Header) -> list[bytes]:
    """The three frames of one event."""
    return [topic_of(event).encode(), _encoder.encode(header), _encoder.encode(event)]


def decode_event(frames: list[bytes]) -> tuple[str, Header, WireEvent]:
    """Topic, header and event of one message. Raises `ProtocolError`."""
    topic, body, payload = _three(frames)
    if topic not in TOPICS:
        raise ProtocolError(f"unknown topic {topic!r}; known are {', '.join(TOPICS)}")
    try:
        header = _header_decoder.decode(body)
        event = _event_decoder.decode(payload)
    except _BAD as error:
        raise ProtocolError(f"message on {topic!r} does not decode: {error}") from None
    _expect_version(header)
    if topic_of(event) != topic:
        raise ProtocolError(f"message on {topic!r} carries a {topic_of(event)!r}")
    return topic, header, event


def encode_raw(raw: Raw, header: Header) -> list[bytes]:
    """The three frames of raw MIDI: the third has the bytes as a MIDI port takes them."""
    h = header
    fields = (h.version, h.boot_id, h.epoch, h.sequence, h.frame, h.available_frame, h.sent_ns, h.due_ns)
    return [raw.topic.encode(), _encoder.encode(RawHeader(*fields, raw.note_id, raw.duration_ns, raw.what)), raw.data]


def decode_raw(frames: list[bytes]) -> tuple[str, RawHeader, bytes]:
    """Topic, header and MIDI bytes of one message on a topic of raw MIDI. Raises `ProtocolError`."""
    topic, body, payload = _three(frames)
    if not topic.startswith(FAMILY):
        raise ProtocolError(f"unknown topic {topic!r}; expected {FAMILY}<part>")
    try:
        header = _raw_header_decoder.decode(body)
    except _BAD as error:
        raise ProtocolError(f"header on {topic!r} does not decode: {error}") from None
    _expect_version(header)
    if not 1 <= len(payload) <= 3 or payload[0] < 0x80:
        raise ProtocolError(f"{payload[:8].hex(' ')!r} on {topic!r} is no MIDI message of 1 to 3 bytes")
    return topic, header, payload


def encode_bulk(topic: str, header: BulkHeader, values: Array) -> list[bytes]:
    """The three frames of a chunk of float32 `values`."""
    return [topic.encode(), _encoder.encode(header), np.ascontiguousarray(values, "<f4").tobytes()]


def decode_bulk(frames: list[bytes]) -> tuple[str, BulkHeader, Array]:
    """Topic, header and values (float32, `header.shape`) of one message on the bulk socket. Raises `ProtocolError`."""
    topic, body, payload = _three(frames)
    if not topic.startswith(AUDIO_TOPIC) and topic != FEATURE_TOPIC:
        raise ProtocolError(f"unknown bulk topic {topic!r}; expected {FEATURE_TOPIC!r} or {AUDIO_TOPIC}<stem>")
    try:
        header = _bulk_header_decoder.decode(body)
    except _BAD as error:
        raise ProtocolError(f"header on {topic!r} does not decode: {error}") from None
    _expect_version(header)
    if header.format != BULK_FORMAT or len(payload) != 4 * header.shape[0] * header.shape[1]:
        raise ProtocolError(f"{len(payload)} bytes on {topic!r} are not {header.shape} values of {BULK_FORMAT!r}")
    return topic, header, np.frombuffer(payload, "<f4").reshape(header.shape)


def _three(frames: list[bytes]) -> tuple[str, bytes, bytes]:
    if len(frames) != 3:
        raise ProtocolError(f"expected 3 frames (topic, header, payload), got {len(frames)}")
    try:
        return frames[0].decode(), frames[1], frames[2]
    except UnicodeDecodeError:
        raise ProtocolError("the topic is not UTF-8") from None


def _expect_version(header: Header) -> None:
    if header.version != VERSION:
        raise ProtocolError(f"message of protocol version {header.version}, expected {VERSION}")


# -- control --------------------------------------------------------------------------------------------------------------------------


# Why a request is refused. Programs compare the code; people read the message.
ERROR_CODES: dict[str, str] = {
    "bad_message": "the frames or the msgpack are not of this protocol",
    "version": "another version of the protocol",
    "unknown_op": "no such op",
    "bad_argument": "a field is missing, unknown or of the wrong type or range; `field` names it",
    "unknown_name": "no such parameter; the message suggests the nearest",
    "out_of_range": "the value is outside the range that the message states",
    "id_reused": "the id came before with another request",
    "unavailable": "what is asked needs something that the session lacks",
    "rate_limited": "too many requests; `retry_after_s` says when there is room again",
    "busy": "a role's queue is full",
    "timeout": "a role did not take its messages in time",
}


class Failure(msgspec.Struct, frozen=True):
    """Why a request was refused."""

    code: str
    message: str
    field: str = ""
    retry_after_s: float | msgspec.UnsetType = msgspec.UNSET  # with `rate_limited` only


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer to one request: `result` where `ok`, else `error`."""

    id: str
    ok: bool
    result: dict[str, Any] | None = None
    error: Failure | None = None


class Refusal(ProtocolError):
    """A request that is answered with an error. `code` is one of `ERROR_CODES`; `id` is empty where it could not be read."""

    def __init__(self, code: str, message: str, field: str = "", request_id: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code, self.field, self.id = code, field, request_id
        self.retry_after_s = msgspec.UNSET if retry_after_s is None else retry_after_s

    def reply(self) -> Reply:
        """The answer that says so."""
        return Reply(self.id, False, error=Failure(self.code, str(self), self.field, self.retry_after_s))


class _Envelope(msgspec.Struct, frozen=True):
    """What is read first, so that a refusal can name the request that it refuses."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH)]
    op: Annotated[str, msgspec.Meta(max_length=32)]


_envelope_decoder = msgspec.msgpack.Decoder(_Envelope)
_request_decoders = {op: msgspec.msgpack.Decoder(cls) for op, cls in REQUESTS.items()}
_reply_decoder = msgspec.msgpack.Decoder(Reply)
_OTHER_VERSION = re.compile(rb"RT([0-9]{1,4})")


def encode_request(request: Request) -> list[bytes]:
    """The two frames of a request."""
    return [MARK, _encoder.encode(request)]


def decode_request(frames: list[bytes]) -> Request:
    """The request in two frames. Raises `Refusal`, which is a `ProtocolError`."""
    body = _marked(frames)
    try:
        envelope = _envelope_decoder.decode(body)
    except _BAD as error:
        raise Refusal("bad_message", f"expected a msgpack map with id (1 to {MAX_ID_LENGTH} characters) and op: {error}") from None
    decoder = _request_decoders.get(envelope.op)
    if decoder is None:
        raise Refusal("unknown_op", f"unknown op {envelope.op!r}; {nearest(envelope.op, REQUESTS)}", "op", envelope.id)
    try:
        request = decoder.decode(body)
    except _BAD as error:
        message, _, where = str(error).partition(" - at `$")
        raise Refusal("bad_argument", f"{envelope.op}: {message}", where.strip("`.") or "", envelope.id) from None
    for name in request.__struct_fields__:
        value = getattr(request, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise Refusal("bad_argument", f"{envelope.op}: expected a finite number, got {value}", name, envelope.id)
    return request


def request_id(frames: list[bytes]) -> str:
    """The id of a request that is not going to be read any further; empty where there is none."""
    try:
        return _envelope_decoder.decode(_marked(frames)).id
    except (Refusal, *_BAD):
        return ""


def encode_reply(reply: Reply) -> list[bytes]:
    """The two frames of a reply."""
    return [MARK, _encoder.encode(reply)]


def decode_reply(frames: list[bytes]) -> Reply:
    """The reply in two frames. Raises `ProtocolError`."""
    body = _marked(frames)
    try:
        return _reply_decoder.decode(body)
    except _BAD as error:
        raise ProtocolError(f"reply does not decode: {error}") from None


def _marked(frames: list[bytes]) -> bytes:
    if len(frames) != 2:
        raise Refusal("bad_message", f"expected 2 frames ({MARK.decode()}, msgpack map), got {len(frames)}")
    if frames[0] != MARK:
        other = _OTHER_VERSION.fullmatch(frames[0])
        if other:
            raise Refusal("version", f"protocol version {other[1].decode()} is not spoken here; this server speaks {VERSION}")
        raise Refusal("bad_message", f"the first frame must be {MARK.decode()!r}")
    return frames[1]


def nearest(name: str, known: dict[str, Any]) -> str:
    """What to tell someone who misspelt `name`."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
