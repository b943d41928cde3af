"""The log: one line an event, written to a file by a thread of its own. Whatever the disk does, nobody waits and nothing stops.

Roles with a fast lane never write here. What they have to say are events; the gateway hands them on to an `EventLog`, which puts them
into a queue and goes on. A line that does not fit into the queue, or that the disk refuses, is counted in `failures`.
"""

from __future__ import annotations

import datetime
import json
import logging
import logging.handlers
import queue
import time
from pathlib import Path
from typing import Any

import msgspec

from rtserver import events
from rtserver.config import Log

QUEUE_SIZE = 10_000  # lines that wait for a slow disk: some 3 MB
REPEAT_S = 1.0  # events that come in floods are summed up over so long
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# kind -> (role that it speaks of, level); a Role event speaks of its own
KINDS = {
    "miss": ("audio", "warning"),
    "stand_in": ("engine", "warning"),
    "absent": ("audio", "debug"),
    "change": ("audio", "debug"),
    "gap": ("engine", "warning"),
    "resume": ("engine", "info"),
    "param": ("gateway", "info"),
    "command": ("gateway", "info"),
    "position": ("follower", "debug"),
    "note": ("performer", "debug"),
    "note_on": ("midi", "debug"),
    "note_off": ("midi", "debug"),
    "midi_in": ("midi", "debug"),
    "status": ("", "debug"),
}
ROLE_LEVELS = {"up": "info", "restarted": "warning", "down": "error"}


class EventLog:
    """Takes events, writes lines. `failures` counts those that were lost."""

    def __init__(self, config: Log) -> None:
        self._level = LEVELS[config.level]
        self._lines: queue.Queue[logging.LogRecord] = queue.Queue(QUEUE_SIZE)
        self._file = _File(config)
        self._file.setFormatter(_Lines() if config.format == "text" else _Objects())
        self._writer = logging.handlers.QueueListener(self._lines, self._file)
        self._writer.start()
        self._lost = 0
        self._misses: dict[str, dict[str, Any]] = {}  # by output, since the last flush
        self._flushed_s = time.monotonic()

    @property
    def failures(self) -> int:
        """Lines lost: no room in the queue, or refused by the disk."""
        return self._lost + self._file.failures

    def take(self, event: events.Event) -> None:
        """Log an event, if its level is wanted. Never waits."""
        kind = str(type(event).__struct_config__.tag)
        fields = msgspec.to_builtins(event, enc_hook=repr)
        role, level = KINDS.get(kind, ("", "info"))
        if isinstance(event, events.Role):
            role, level = event.role, ROLE_LEVELS.get(event.state, "info")
        elif isinstance(event, events.Status):
            role = event.role
        if isinstance(event, events.Miss):
            self._sum_up(event)
        else:
            self.write(
                level, role, kind, event.frame, {k: v for k, v in fields.items() if k not in ("kind", "frame", "available_frame", "role")}
            )
        if time.monotonic() - self._flushed_s > REPEAT_S:
            self.flush()

    def _sum_up(self, miss: events.Miss) -> None:
        first = {"frame": miss.frame, "output": miss.output, "misses": 0, "n_frames": 0}
        row = self._misses.setdefault(miss.output, first)
        row["misses"] += 1
        row["n_frames"] += miss.n_frames

    def flush(self) -> None:
        """Write what was summed up."""
        self._flushed_s = time.monotonic()
        for row in self._misses.values():
            self.write("warning", "audio", "miss", row.pop("frame"), row)
        self._misses.clear()

    def write(self, level: str, role: str, event: str, frame: int, fields: dict[str, Any]) -> None:
        """Put one line into the queue."""
        if LEVELS[level] < self._level:
            return
        record = logging.LogRecord("rtserver", LEVELS[level], "", 0, event, None, None)
        record.__dict__["rtserver"] = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "monotonic_ns": time.monotonic_ns(),
            "frame": frame,
            "role": role,
            "level": level,
            "event": event,
            "fields": fields,
        }
        try:
            self._lines.put_nowait(record)
        except queue.Full:
            self._lost += 1

    def close(self) -> None:
        """Write what waits and end the thread; a disk that does not answer is left behind."""
        self.flush()
        if not self._lines.full():
            self._writer.enqueue_sentinel()
        thread = self._writer._thread  # pyright: ignore[reportPrivateUsage]  (stop() would wait for the disk for ever)
        if thread is not None:
            thread.join(0.5)


class _File(logging.handlers.RotatingFileHandler):
    """A file that is opened when there is something to write, and whose faults are counted."""

    def __init__(self, config: Log) -> None:
        super().__init__(config.file, maxBytes=config.max_bytes, backupCount=config.keep, encoding="utf-8", delay=True)
        self.failures = 0

    def _open(self) -> Any:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()

    def handleError(self, record: logging.LogRecord) -> None:
        self.failures += 1


class _Objects(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(record.__dict__["rtserver"], default=repr)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = record.__dict__["rtserver"]
        fields = " ".join(f"{key}={value}" for key, value in line["fields"].items() if value != "")
        return f"{line['time']} {line['level']:7} {line['role']:10} {line['frame']:>12} {line['event']} {fields}".rstrip()
