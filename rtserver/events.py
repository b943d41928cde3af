"""What rtserver tells the world: typed events, stamped with the audio frame they speak of.

Every event carries ``frame`` (the session frame it speaks of) and ``available_frame`` (the session frame at which it could first
be known or takes effect; never earlier than the audio it was made from). On the wire and in ``events.jsonl`` an event is a flat map whose
``kind`` is the class name in snake case.
"""

from __future__ import annotations

import msgspec


def _kind(name: str) -> str:
    return "".join(("_" if i and c.isupper() else "") + c.lower() for i, c in enumerate(name))


class Event(msgspec.Struct, frozen=True, tag_field="kind", tag=_kind, forbid_unknown_fields=True):
    """Base of all events."""

    frame: int
    available_frame: int


class Position(Event, frozen=True):
    """Where the player is in the score.

    quarter : quarters from the first sounding note of the score as unfolded; beat : the same in the beats of the metre;
    tempo_bpm : quarters a minute; confidence : 0..1; state : WAITING, LOCKED, UNSURE, LOST, or JUMPED for half a second after a leap.
    """

    quarter: float
    beat: float
    tempo_bpm: float
    confidence: float
    state: str


class Bar(Event, frozen=True):
    """A bar begins, or the player has leapt into one.

    bar : its number as printed; beat : where in it, 1 at its line; mark : the rehearsal mark passed last.
    """

    bar: str
    beat: float
    mark: str
    quarter: float


class Tempo(Event, frozen=True):
    """The player's tempo has changed by a twentieth or more since it was told last."""

    tempo_bpm: float


class State(Event, frozen=True):
    """The follower is in another state: as in `Position`."""

    state: str


class Cue(Event, frozen=True):
    """A cue has fired, or was dropped; its place is expected at `frame`, where what it asks for takes effect.

    how : ``place``, ``skipped`` (fired all the same), ``hand``, ``dropped``, or ``back`` (taken back); quarter : its place;
    next : the cue that ``go`` would fire now.
    """

    name: str
    quarter: float
    how: str
    next: str = ""


class Refused(Event, frozen=True):
    """A role cannot do what it was told. what : as in `Late`, with its value; detail : why."""

    role: str
    what: str
    detail: str


class Note(Event, frozen=True):
    """A note to be played at ``frame`` (its due frame) and released ``duration`` frames later.

    A note is born with its release, so that it cannot hang. note_id is unique within a boot; channel is 0..15.
    port : the one MIDI port that plays it; empty: all that play its part.
    """

    note_id: int
    pitch: int
    velocity: int
    duration: int
    channel: int
    part: str = "performer"
    port: str = ""


class Plan(Event, frozen=True):
    """What the performer means to play, until it says otherwise: nothing of it is promised before it is told as a `Note`.

    revision : rises with each plan of a performer; quarter : from where the first step counts; notes : (step from the onset before, pitch,
    duration), steps and durations in 1/24 quarter.
    """

    revision: int
    quarter: float
    notes: list[tuple[int, int, int]]


class NoteOn(Event, frozen=True):
    """The midi role has sent a note-on to its port. `due_ns` is the due time on CLOCK_MONOTONIC, `sent_ns` when it went out."""

    note_id: int
    pitch: int
    velocity: int
    channel: int
    due_ns: int
    sent_ns: int


class NoteOff(Event, frozen=True):
    """The midi role has sent a note-off."""

    note_id: int
    pitch: int
    channel: int
    due_ns: int
    sent_ns: int


class Dropped(Event, frozen=True):
    """A committed note was left out by the midi role, whole: it neither begins nor ends there.

    why : ``late``, ``rate`` (more at once than a port sends), ``room`` (more than can wait), ``port`` (none plays it), ``unplayable``
    (MIDI cannot say it), or ``panic`` (committed before one, come after it).
    """

    note_id: int
    pitch: int
    channel: int
    why: str


class MidiIn(Event, frozen=True):
    """A raw MIDI message that came in, stamped on arrival."""

    port: str
    data: bytes


class Beat(Event, frozen=True):
    """Where a musical clock is: ``quarter`` at `frame`, going on at ``tempo_bpm`` quarters a minute, or standing still.

    source : the MIDI port whose clock it is, or the performer whose transport.
    """

    quarter: float
    tempo_bpm: float
    running: bool
    source: str


class Miss(Event, frozen=True):
    """An output lacked `n_frames` frames at `frame`: its source was late, and its fallback was heard instead."""

    output: str
    n_frames: int


class StandIn(Event, frozen=True):
    """The masks of `input`'s network were missing for `n_hops` hops of which the first begins at `frame`, and medians stood in.

    reason : ``late``, or ``nonfinite`` where they were no numbers. A long stretch is told in pieces of a second.
    """

    input: str
    n_hops: int
    reason: str


class Absent(Event, frozen=True):
    """The mixer did not find an output's track for `n_frames` frames from `frame`: what a replay needs to repeat a miss."""

    output: str
    n_frames: int


class Click(Event, frozen=True):
    """A click began on the outputs of this source at `frame`. accent : whether it is a bar line's."""

    velocity: int
    accent: bool


class Change(Event, frozen=True):
    """The mixer began a ramp of `output` at `frame`: key ``level`` (a factor) or ``bypass`` (share of the dry input) toward `value`."""

    output: str
    key: str
    value: float


class Setting(Event, frozen=True):
    """The separation of `input` has another `key` (mask, exponent, a margin; blend, model, score) from the hop at `frame` on."""

    input: str
    key: str
    value: float | str | bool


class Resume(Event, frozen=True):
    """The engine serves an input from `frame` on, with a state rebuilt from the input since `rebuilt_from`.

    features_to is the frame at the end of the last feature vector that was published before.
    """

    input: str
    rebuilt_from: int
    features_to: int
    reason: str


class Gap(Event, frozen=True):
    """The session lost `n_frames` frames of input before `frame` (stream restart, device loss)."""

    n_frames: int
    reason: str


class Song(Event, frozen=True):
    """A song is ``checking``, ``loading``, ``ready``, ``playing`` from `frame` on (on `deck`), or was ``refused`` (detail: why)."""

    name: str
    state: str
    deck: int
    detail: str = ""


class Status(Event, frozen=True):
    """Counters of one role, published about once a second. Values are totals since that role's start."""

    role: str
    counters: dict[str, int]


class Role(Event, frozen=True):
    """A role changed state: ``up``, ``down`` (why), ``restarted``."""

    role: str
    state: str
    pid: int
    restarts: int
    detail: str = ""


class Device(Event, frozen=True):
    """The JACK server's sample rate in Hz and period in frames: at the start, and whenever they change.

    added_latency : frames by which the separated outputs lag more than planned, because the period is longer than ``audio.block_size``.
    """

    sample_rate: int
    block_size: int
    added_latency: int


class Param(Event, frozen=True):
    """A parameter has a new value from `frame` on."""

    name: str
    value: float | str | bool


class Command(Event, frozen=True):
    """An instruction to a role, from a client, a MIDI message or a cue: ``panic``, ``quit``, ``seek`` (value: quarter or place)..."""

    name: str
    value: float | str | bool | None = None


class Epoch(Event, frozen=True):
    """The stream started (again): its first sample is session frame `frame`, at `monotonic_ns` on CLOCK_MONOTONIC. Epochs count from 0."""

    epoch: int
    monotonic_ns: int


class Late(Event, frozen=True):
    """What was to take effect at `available_frame` came later and did so at `taken_frame`, in `role`; or sooner, where that waited for it.

    what : its kind and name, or bytes (``position``, ``midi_in 903c40``, ``param generation.mode``, ``command seek``); frame : its frame.
    """

    role: str
    what: str
    taken_frame: int


class Entry(Event, frozen=True):
    """A worker took its first features at `frame`: what it knows, it knows from then on."""

    role: str


class Exit(Event, frozen=True):
    """A worker has ended; `frame` is the end of the last features that it took."""

    role: str


class Lag(Event, frozen=True):
    """From `frame` on the mixer plays what the engine makes `n_frames` later than planned: JACK's period is longer than the block."""

    n_frames: int


class Recording(Event, frozen=True):
    """The recorder began or ended (``started``, ``resumed``, ``stopped``, ``failed``: `detail` says why), or left silence (``gap``)."""

    state: str
    folder: str
    detail: str = ""


AnyEvent = (
    Position
    | Bar
    | Tempo
    | State
    | Cue
    | Refused
    | Note
    | Plan
    | NoteOn
    | NoteOff
    | Dropped
    | MidiIn
    | Beat
    | Miss
    | StandIn
    | Absent
    | Change
    | Click
    | Setting
    | Resume
    | Gap
    | Song
    | Status
    | Role
    | Param
    | Command
    | Epoch
    | Late
    | Entry
    | Exit
    | Lag
    | Recording
    | Device
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyEvent)
_json = msgspec.json.Encoder()
_json_decoder = msgspec.json.Decoder(AnyEvent)


def encode(event: Event) -> bytes:
    """The msgpack form of an event (a map with its ``kind``)."""
    return _encoder.encode(event)


def decode(data: bytes | bytearray | memoryview) -> AnyEvent:
    """The event in `data`. Raises `msgspec.DecodeError` or `msgspec.ValidationError` for anything else."""
    return _decoder.decode(data)


def to_json(event: Event) -> bytes:
    """One line of ``events.jsonl``, without the newline."""
    return _json.encode(event)


def from_json(line: bytes | str) -> AnyEvent:
    """The event in one line of ``events.jsonl``."""
    return _json_decoder.decode(line)
