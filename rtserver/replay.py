"""Reading the log of a session, so that it can be looked at or lived through again.

``events.jsonl`` (`rtserver.recording.log`) says what was played into a session beside its audio: commands, parameters, MIDI, what came
late. `Log` is what the file says; it decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from rtserver.config import Config
from rtserver.errors import RtserverError
from rtserver.events import AnyEvent
from rtserver.recording.log import FILE_NAME, LOG_VERSION, SessionHeader


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
