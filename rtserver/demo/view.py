"""What the demonstration prints while it plays: one line from the server's own ZeroMQ stream, as any client would see it."""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec
import zmq

from rtserver.config import Config

TERMINAL_S, LOG_S = 0.1, 2.0  # how often a line is printed: overwritten on a terminal, one under the other in a log


class View:
    """Subscribes to the events of a server and prints where it is."""

    def __init__(self, config: Config) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.connect(config.wire.events)
        for topic in ("position", "plan", "note_on", "note_off", "miss", "role"):
            self._socket.subscribe(topic)
        self._live = sys.stdout.isatty()
        self._next_s = 0.0
        self._position: dict[str, Any] = {}
        self._sounding: set[int] = set()
        self._planned: list[int] = []
        self._notes = self._misses = 0

    def show(self) -> None:
        """Take what has come and, if it is time, print a line."""
        while self._socket.poll(0):
            frames = self._socket.recv_multipart()
            self._take(msgspec.msgpack.decode(frames[-1]))
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + (TERMINAL_S if self._live else LOG_S)
        p = self._position
        where = f"quarter {p['quarter']:6.2f}  {p['tempo_bpm']:5.1f} bpm  {p['state']:8}" if p else "listening"
        now, coming = " ".join(map(_name, sorted(self._sounding))) or "-", " ".join(map(_name, self._planned[:5])) or "-"
        sure = f"confidence {p.get('confidence', 0.0):4.2f}"
        line = f"  {where}  {sure}  notes {self._notes:3}  sounding {now:12}  planned {coming:20}  misses {self._misses}"
        print(f"\r{line}\033[K" if self._live else line, end="" if self._live else "\n", flush=True)

    def _take(self, event: dict[str, Any]) -> None:
        kind = event["kind"]
        if kind == "position":
            self._position = event
        elif kind == "plan":
            self._planned = [pitch for _, pitch, _ in event["notes"]]
        elif kind == "note_on":
            self._sounding.add(event["pitch"])
            self._notes += 1
        elif kind == "note_off":
            self._sounding.discard(event["pitch"])
        elif kind == "miss":
            self._misses += 1

    def close(self) -> None:
        """Leave the line standing and the socket closed."""
        if self._live:
            print()
        self._context.destroy(linger=0)


def _name(pitch: int) -> str:
    """A MIDI pitch as a note, middle C as C4."""
    return f"{['C', 'C#', 'D', 'D#', 'E', 'F', 'F#', 'G', 'G#', 'A', 'A#', 'B'][pitch % 12]}{pitch // 12 - 1}"
