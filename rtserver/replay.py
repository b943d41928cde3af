"""Reading the log of a session, so that it can be looked at or lived through again.

``events.jsonl`` (`rtserver.recording.log`) says what was played into a session beside its audio: commands, parameters, MIDI, what came
late. `Log` is what the file says; `Feed` says it again to the workers of another session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from rtserver.config import Config
from rtserver.errors import RtserverError
from rtserver.events import AnyEvent, Beat, Command, Device, Entry, Event, Late, MidiIn, Param, Recording, Role, encode
from rtserver.recording.log import FILE_NAME, LOG_VERSION, SessionHeader
from rtserver.recording.take import TOO_SLOW
from rtserver.roles.agenda import Agenda, declared_frame, what
from rtserver.roles.hops import HopReader
from rtserver.shared.session import Session


class LogError(RtserverError):
    """A log is missing, damaged, or of another form."""


_line_decoder = msgspec.json.Decoder(AnyEvent)
_header_decoder = msgspec.json.Decoder(SessionHeader)


@dataclass(frozen=True)
class Log:
    """One log.

    path : the file. header : its first line. config : the session's configuration. events : all events, each producer's in its order.
    torn : whether a crash cut the last line short, which is then left out.
    """

    path: Path
    header: SessionHeader
    config: Config
    events: list[AnyEvent] = field(repr=False)
    torn: bool = False

    @staticmethod
    def read(path: Path | str) -> Log:
        """Read ``events.jsonl``, or the one in the folder `path`. Raises `LogError`, naming the line."""
        path = Path(path)
        if path.is_dir():
            path = path / FILE_NAME
        try:
            data = path.read_bytes()
        except OSError as error:
            raise LogError(f"{path}: cannot be read ({error.strerror}); expected a recording's folder or its {FILE_NAME}") from None
        lines = data.split(b"\n")
        torn = bool(lines.pop())  # what follows the last line end: nothing, if the file is whole
        if not lines:
            raise LogError(f"{path}: empty; the session may have ended before anything was recorded")
        try:
            header = _header_decoder.decode(lines[0])
        except msgspec.MsgspecError as error:
            raise LogError(f"{path}, line 1: expected a session header ({error}); is it the log of a recording?") from None
        if header.version != LOG_VERSION:
            raise LogError(f"{path}: a log of form {header.version}, expected {LOG_VERSION}; it is of rtserver {header.release}")
        try:
            config = msgspec.convert(header.config, Config)
        except msgspec.ValidationError as error:
            raise LogError(f"{path}, line 1: the configuration is of another release, {header.release} ({error})") from None
        events: list[AnyEvent] = []
        for number, line in enumerate(lines[1:], 2):
            if not line:
                continue
            try:
                events.append(_line_decoder.decode(line))
            except msgspec.MsgspecError as error:
                raise LogError(f"{path}, line {number}: not an event ({error}); damaged, or of another release?") from None
        return Log(path, header, config, events, torn)

    @property
    def audio(self) -> Path | None:
        """The recorded input beside the log; None where it was not recorded as one file."""
        path = self.path.with_name("input.wav")
        return path if path.is_file() else None

    def for_role(self, role: str) -> list[tuple[int, Event]]:
        """What was said to `role` (``follower``, ``performer``) from outside, as (frame taken, event), in the order of those frames.

        What the workers said to each other is not in it: a replay makes them say it again.
        """
        told = [event for event in self.events if isinstance(event, Param | Command | MidiIn | Beat) and _is_for(role, event)]
        late = {(e.what, e.frame, e.available_frame): e.taken_frame for e in self.late(role)}
        at = [late.get((what(e), e.frame, declared_frame(e)), declared_frame(e)) for e in told]
        return sorted(zip(at, told, strict=True), key=lambda entry: entry[0])

    def late(self, role: str) -> list[Late]:
        """What came too late in `role`."""
        return [event for event in self.events if isinstance(event, Late) and event.role == role]

    def entry(self, role: str) -> int:
        """The session frame at the end of the first features that `role` took; 0 if it says nothing of that."""
        return next((event.frame for event in self.events if isinstance(event, Entry) and event.role == role), 0)

    @property
    def caveats(self) -> list[str]:
        """Why a replay will not be the session bit for bit; empty if it will."""
        found: list[str] = []
        if self.header.frame > 0:
            found.append(f"the recording began at frame {self.header.frame}: what was heard before is unknown")
        for event in self.events:
            if isinstance(event, Role) and event.state == "down" and event.role in WORKERS:
                found.append(f"{event.role} died at frame {event.frame}: when exactly it stopped is unknown")
            if isinstance(event, Device) and event.added_latency:
                found.append(f"JACK's period was {event.block_size} from frame {event.frame} on, longer than audio.block_size")
            if isinstance(event, Recording) and event.state == "gap" and TOO_SLOW in event.detail:
                found.append(f"the disk was too slow at frame {event.frame}: {event.detail}")
        return found


WORKERS = ("follower", "performer")


def _is_for(role: str, event: Param | Command | MidiIn | Beat) -> bool:
    """Whether the gateway or midi sends such an event to that worker."""
    if isinstance(event, Param):
        return role == "performer" and event.name.startswith("generation.")
    if isinstance(event, Command):
        return event.name in {"follower": ("reset", "seek"), "performer": ("reset", "panic")}[role]
    return role == "performer"


class Worker(Protocol):
    """What a replay needs of a follower's or performer's role."""

    agenda: Agenda
    reader: HopReader


class Feed:
    """Says to the workers of another session what they were told in a recorded one, at the same frames.

    Parameters
    ----------
    session : Session
        Driven in step by its owner.
    log : Log
    workers : dict
        Role (``follower``, ``performer``) to its worker, which has not taken a hop yet.
    """

    def __init__(self, session: Session, log: Log, workers: Mapping[str, Worker]) -> None:
        self.session = session
        self._queues = {role: deque(log.for_role(role)) for role in workers}
        for role, worker in workers.items():
            worker.reader.first_frame = log.entry(role)
            worker.agenda.postpone(log.late(role))

    def __call__(self, frame: int) -> None:
        """Put everything that takes effect up to session frame `frame` into the rings. Call it before the workers get so far."""
        for role, queue in self._queues.items():
            while queue and queue[0][0] <= frame:
                event = queue.popleft()[1]
                producer = "midi" if isinstance(event, MidiIn | Beat) else "gateway"
                if not self.session.ring(producer, role).put(encode(event)):
                    raise LogError(f"more than {self.session.ring(producer, role).n_slots} events for {role} at frame {frame}")
