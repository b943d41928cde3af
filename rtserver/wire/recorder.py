"""Writes a session's events to ``events.jsonl``. When the disk fails, the recording ends and nothing else does."""

from __future__ import annotations

import sys
from pathlib import Path

from rtserver.errors import RtserverError
from rtserver.events import Event
from rtserver.wire.sink import FileSink

FILE_NAME = "events.jsonl"


class Recorder:
    """A sink into ``<folder>/events.jsonl`` that never raises.

    Parameters
    ----------
    folder : str
        Where to write; made if missing. Empty records nothing, and nothing counts as dropped.
    resume : bool
        Continue the file that is there (the session wrote it before its gateway was restarted). Otherwise a file of an earlier session
        is kept under the next free name, ``events-1.jsonl`` and so on.
    """

    def __init__(self, folder: str, resume: bool = False) -> None:
        self._sink: FileSink | None = None
        self.on = bool(folder)
        self.dropped = 0
        if not folder:
            return
        path = Path(folder).expanduser() / FILE_NAME
        try:
            if not resume:
                _put_aside(path)
            self._sink = FileSink(path, append=True)
        except RtserverError as error:
            self._stop(str(error))
        except OSError as error:
            self._stop(f"cannot write events to {path}: {error.strerror}; choose another folder")

    @property
    def recording(self) -> bool:
        """Whether the next event would be written."""
        return self._sink is not None

    def send(self, event: Event) -> bool:
        """Write one event; False if it was not recorded."""
        if self._sink is not None:
            if self._sink.send(event):
                return True
            reason = self._sink.error.strerror if self._sink.error else "closed"
            self._stop(f"{self._sink.path}: {reason}, after {self._sink.written} events; free some space and restart to record again")
        self.dropped += self.on
        return False

    def _stop(self, message: str) -> None:
        self._sink = None
        print(f"rtserver gateway: recording stopped (wire.record): {message}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the file."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None


def _put_aside(path: Path) -> None:
    if not path.is_file() or path.stat().st_size == 0:
        return
    n = 1
    while (other := path.with_name(f"{path.stem}-{n}{path.suffix}")).exists():
        n += 1
    path.rename(other)
