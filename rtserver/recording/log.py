"""The log of a session, ``events.jsonl``: its first line says of which session, every other line is an event.

``rtserver.replay`` reads it.
"""

from __future__ import annotations

from typing import Any

import msgspec

import rtserver
from rtserver.audio import table as audio_table
from rtserver.events import AnyEvent, Event, to_json
from rtserver.shared.session import Session, Setup

FILE_NAME = "events.jsonl"
DROPPED = "dropped_events"  # among a role's counters in the log: messages that found no room in its rings
LOG_VERSION = 1  # of the form of the log; readers refuse others


class SessionHeader(Event, frozen=True, tag="session"):
    """The first line. `frame` is the session frame of sample 0 of the audio files beside it.

    version : of the log's form; release : of rtserver; config : the whole configuration; wall_ns : Unix time at which the recording
    began; epochs : the starts of the stream so far as [epoch, first session frame, CLOCK_MONOTONIC ns] (later ones are events);
    channels : of the device, in and out.
    """

    version: int
    release: str
    boot_id: str
    sample_rate: int
    wall_ns: int
    monotonic_ns: int
    config: dict[str, Any]
    epochs: list[tuple[int, int, int]] = msgspec.field(default_factory=list[tuple[int, int, int]])
    channels: tuple[int, int] = (0, 0)


class Loaded(Event, frozen=True, tag="loaded"):
    """A song was laid out on a deck: its whole configuration, which no event of the server has room for."""

    deck: int
    name: str
    config: dict[str, Any]


Line = AnyEvent | Loaded

_SECOND_DECK = b',"deck":1}'
_decoder = msgspec.json.Decoder(Line)


def to_line(event: Event, deck: int) -> bytes:
    """One line of the log. What was said by or to the roles of the second deck has the key ``deck`` more, at its end."""
    line = to_json(event)
    return line.removesuffix(b"}") + _SECOND_DECK if deck else line


def from_line(line: bytes) -> tuple[int, Line]:
    """The deck, and the event. Raises `msgspec.MsgspecError`."""
    if line.endswith(_SECOND_DECK):
        return 1, _decoder.decode(line.removesuffix(_SECOND_DECK) + b"}")
    return 0, _decoder.decode(line)


def loaded(frame: int, deck: int, setup: Setup) -> Loaded:
    """What the log says of a song that was laid out at `frame`."""
    return Loaded(frame, frame, deck, setup.song, msgspec.to_builtins(setup.config))


def header(session: Session, first_frame: int, wall_ns: int) -> SessionHeader:
    """The first line of a recording of `session` that begins at `first_frame`."""
    return SessionHeader(
        first_frame,
        first_frame,
        LOG_VERSION,
        rtserver.__version__,
        f"{session.block.boot_id:016x}",
        session.config.audio.sample_rate,
        wall_ns,
        round(session.clock.now_s() * 1e9),
        msgspec.to_builtins(session.config),
        audio_table.epochs(session.block),
        (len(session.input_ring.samples), len(session.played.samples)),
    )
