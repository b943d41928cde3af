"""Where events go: a `Sink` takes them one by one and never makes the sender wait."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from pathlib import Path
from typing import Protocol

from rtserver.errors import RtserverError
from rtserver.events import AnyEvent, Event, from_json, to_json


class Sink(Protocol):
    """Takes events. What it cannot take at once is dropped and counted."""

    def send(self, event: Event) -> bool:
        """Take one event; False if it was dropped, which the sink counts."""
        ...


class MemorySink:
    """Keeps the first `capacity` events; what comes after is dropped and counted."""

    def __init__(self, capacity: int = 1 << 16) -> None:
        self.events: deque[Event] = deque()
        self.capacity = capacity
        self.dropped = 0

    def send(self, event: Event) -> bool:
        """Keep one event, if there is room."""
        if len(self.events) >= self.capacity:
            self.dropped += 1
            return False
        self.events.append(event)
        return True


class FileSink:
    """Appends events to a file, one JSON object a line (`rtserver.events.to_json`).

    Every event is written at once, so that nothing is lost when the process is killed. The first error (a full disk) ends the
    writing: `error` says why, the file ends with the last whole line, and what comes after is dropped and counted.

    Parameters
    ----------
    path : Path
        The file. Missing folders are made. Raises `RtserverError` where it cannot be opened.
    append : bool
        Continue an existing file (a line that a crash has torn is closed first) instead of emptying it.
    """

    def __init__(self, path: Path, append: bool = False) -> None:
        self.path = path
        self.written = 0
        self.dropped = 0
        self.error: OSError | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torn = append and _is_torn(path)
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC), 0o644)
            if torn:
                os.write(self._fd, b"\n")
        except OSError as error:
            raise RtserverError(f"cannot write events to {path}: {error.strerror}; choose another folder") from None

    def send(self, event: Event) -> bool:
        """Write one line."""
        return self.put(to_json(event))

    def put(self, line: bytes) -> bool:
        """The same for a line that is made already."""
        if self.error is None and self._fd >= 0:
            try:
                self._write(line + b"\n")
            except OSError as error:
                self.error = error
                self.close()
            else:
                self.written += 1
                return True
        self.dropped += 1
        return False

    def _write(self, line: bytes) -> None:
        done = 0
        try:
            while done < len(line):
                done += os.write(self._fd, line[done:])
        except OSError:
            if done:  # the disk took a part: take it back, so that the file ends with a whole line
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, os.fstat(self._fd).st_size - done)
            raise

    @property
    def gone(self) -> bool:
        """Whether the file has been deleted: what is written then is lost, and no call says so."""
        return self._fd >= 0 and os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        """Close the file. Calling it twice does no harm."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _is_torn(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False


def read_events(path: Path) -> list[AnyEvent]:
    """The events in a file that `FileSink` wrote. Raises `msgspec.DecodeError` or `msgspec.ValidationError` for a line that is none."""
    return [from_json(line) for line in path.read_bytes().splitlines() if line]
