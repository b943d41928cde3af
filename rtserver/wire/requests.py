"""What a client can ask, one struct an op: the tables behind ``docs/protocol.md``, "Control". `protocol` encodes and decodes them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

VERSION = 1  # of the protocol
MAX_ID_LENGTH = 64  # characters: a UUID and a counter fit


Place = Annotated[str, msgspec.Meta(max_length=64)]  # bar 12 | bar 12 beat 3 | mark B | quarter 33.5, and maybe time 2


def _op(name: str) -> str:
    return name.removesuffix("Request").lower()


class Request(msgspec.Struct, frozen=True, tag_field="op", tag=_op, forbid_unknown_fields=True):
    """Base of all requests. `id` comes back in the reply; the same id again means the same request again, not a second one."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH)]


class HelloRequest(Request, frozen=True):
    """Which versions the client speaks; answered with who the server is and what it offers."""

    versions: Annotated[tuple[int, ...], msgspec.Meta(max_length=16)] = (VERSION,)
    client: Annotated[str, msgspec.Meta(max_length=64)] = ""


class PingRequest(Request, frozen=True):
    """Round trip: `sent_ns` comes back beside the server's own clock. `lost_…`: messages that the client knows to have lost so far."""

    sent_ns: int | None = None
    lost_events: Annotated[int, msgspec.Meta(ge=0, le=1 << 32)] = 0
    lost_bulk: Annotated[int, msgspec.Meta(ge=0, le=1 << 32)] = 0


class StatusRequest(Request, frozen=True):
    """Roles, counters, losses."""


class SnapshotRequest(Request, frozen=True):
    """The present state, with the sequence numbers that it includes."""


class SyncRequest(Request, frozen=True):
    """Answered when every role that is up has taken all that was sent to it before."""


class GetRequest(Request, frozen=True):
    """One parameter, or all where `name` is empty."""

    name: Annotated[str, msgspec.Meta(max_length=128)] = ""


class SetRequest(Request, frozen=True):
    """Give a parameter a new value, from session frame `at_frame` on (at once, where that is past or not given)."""

    name: Annotated[str, msgspec.Meta(max_length=64)]
    value: float | Annotated[str, msgspec.Meta(max_length=64)] | bool
    at_frame: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)] | None = None


class PanicRequest(Request, frozen=True):
    """Every note off, now."""


class ResetRequest(Request, frozen=True):
    """Separation, following and performing forget the past."""


class SeekRequest(Request, frozen=True):
    """The player goes on from `quarter` (quarters from the first sounding note of the score as unfolded), or from the place `at`."""

    quarter: Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)] | None = None
    at: Place = ""


class StartAtRequest(Request, frozen=True, tag="start_at"):
    """Everything begins there: now, and at each `reset` from now on."""

    quarter: Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)] | None = None
    at: Place = ""


class TapRequest(Request, frozen=True):
    """The player is at the `nearest` bar line or beat now, or at the place `at`."""

    nearest: Literal["bar", "beat"] = "bar"
    at: Place = ""


class UntapRequest(Request, frozen=True):
    """Undo the last `tap` that has not been undone."""


class LoopRequest(Request, frozen=True):
    """After the end of `bars` (``bar 5 to bar 8``) their beginning comes again; ``off`` ends that."""

    bars: Annotated[str, msgspec.Meta(min_length=1, max_length=160)]


class CueRequest(Request, frozen=True):
    """Fire the next cue, take the last one back, or arm or disarm one, or all where `name` is empty."""

    action: Literal["go", "back", "arm", "disarm"]
    name: Annotated[str, msgspec.Meta(max_length=32)] = ""


class CountInRequest(Request, frozen=True, tag="count_in"):
    """Click `bars` bars, or as many as the configuration says, before the musical clock starts; where it runs freely, it starts anew."""

    bars: Annotated[int, msgspec.Meta(ge=1, le=8)] | None = None


class NoteRequest(Request, frozen=True):
    """Play a note on the MIDI ports that play clients' notes, or on the one called `port`. It is born with its release."""

    pitch: Annotated[int, msgspec.Meta(ge=0, le=127)]
    velocity: Annotated[int, msgspec.Meta(ge=1, le=127)] = 72
    duration_s: Annotated[float, msgspec.Meta(ge=0.01, le=60)] = 0.5
    channel: Annotated[int, msgspec.Meta(ge=0, le=15)] = 0
    delay_s: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.0
    port: Annotated[str, msgspec.Meta(max_length=24)] = ""


class QuitRequest(Request, frozen=True):
    """End the server, every note off."""


class RecordRequest(Request, frozen=True):
    """Start a recording in a folder of its own, or end the one that is going on."""

    action: Literal["start", "stop"]


class SongRequest(Request, frozen=True):
    """Play a song of the set list from session frame `at_frame` on, or as soon as it is loaded: its name, ``next`` or ``previous``."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    at_frame: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)] | None = None


class ReloadRequest(Request, frozen=True):
    """Read the configuration anew and change to it without a gap."""


REQUESTS: dict[str, type[Request]] = {
    str(cls.__struct_config__.tag): cls
    for cls in (
        HelloRequest,
        PingRequest,
        StatusRequest,
        SnapshotRequest,
        SyncRequest,
        GetRequest,
        SetRequest,
        PanicRequest,
        ResetRequest,
        SeekRequest,
        StartAtRequest,
        TapRequest,
        UntapRequest,
        LoopRequest,
        CueRequest,
        CountInRequest,
        NoteRequest,
        QuitRequest,
        RecordRequest,
        SongRequest,
        ReloadRequest,
    )
}
