"""The log of a session, ``events.jsonl``: its first line says of which session, every other line is an event.

``rtserver.replay`` reads it.
"""

from __future__ import annotations

from typing import Any

import msgspec

import rtserver
from rtserver.audio import table as audio_table
from rtserver.events import Event
from rtserver.shared.session import Session

FILE_NAME = "events.jsonl"
LOG_VERSION = 1  # of the form of the log; readers refuse others


class SessionHeader(Event, frozen=True, tag="session"):
    """The first line. `frame` is the session frame of sample 0 of the audio files beside it.

    version : of the log's form; release : of rtserver; config : the whole configuration; wall_ns : Unix time at which the recording
    began; epochs : the starts of the stream so far as [epoch, first session frame, CLOCK_MONOTONIC ns] (later ones are events).
    """

    version: int
    release: str
    boot_id: str
    sample_rate: int
    wall_ns: int
    monotonic_ns: int
    config: dict[str, Any]
    epochs: list[tuple[int, int, int]] = msgspec.field(default_factory=list[tuple[int, int, int]])


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
    )
