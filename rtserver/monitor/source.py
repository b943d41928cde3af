"""Where the view's numbers come from: a subscription for what moves, a `status` request once a second for the rest."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rtserver.errors import RtserverError
from rtserver.wire.client import Client

MOVING = ("position", "heartbeat", "role", "miss", "gap")
METERS = "meters"  # not every server has them
STATUS_S = 1.0
PATIENCE_S = 0.5  # for the answer: a server that hangs must not freeze the view
RECENT = 5  # pieces of news kept
QUARTER, TEMPO, CONFIDENCE, STATE = "quarter", "tempo_bpm", "confidence", "state"


@dataclass
class Picture:
    """All that is shown. Maps are as they come over the wire (docs/protocol.md)."""

    server: str = ""
    sample_rate: int = 0
    silent_s: float = 0.0  # since the last message
    position: dict[str, Any] | None = None
    notes: list[list[int]] = field(default_factory=list[list[int]])  # channel, pitch, due end in ns
    meters: dict[str, Any] | None = None
    status: dict[str, Any] = field(default_factory=dict[str, Any])
    news: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])  # roles that changed, gaps, misses: the last few
    missed: int = 0  # miss events seen

    def take(self, topic: str, payload: dict[str, Any]) -> None:
        """Bring in one event."""
        if topic == "position":
            self.position = payload
        elif topic == "heartbeat":
            self.notes = payload["notes"]
        elif topic == METERS:
            self.meters = payload
        else:
            self.missed += topic == "miss"
            self.news = [*self.news, payload][-RECENT:]

    def to_json(self) -> dict[str, Any]:
        """For programs: one flat map."""
        position = self.position and {key: self.position.get(key) for key in ("frame", QUARTER, "beat", TEMPO, CONFIDENCE, STATE)}
        return {
            "server": self.server,
            "sample_rate": self.sample_rate,
            "silent_s": self.silent_s,
            "position": position,
            "notes": [{"channel": channel, "pitch": pitch} for channel, pitch, *_ in self.notes],
            "meters": self.meters,
            **self.status,
        }


class Source:
    """Keeps a `Picture` of one server, through a `Client` that it takes over. Silence is part of the picture."""

    def __init__(self, client: Client) -> None:
        self.client = client
        client.timeout_s = PATIENCE_S
        hello = self.client.hello
        topics = [topic for topic in (*MOVING, METERS) if topic in hello["topics"]]
        self.events = self.client.subscribe(topics)
        self.picture = Picture(server=hello["server"], sample_rate=hello["sample_rate"])
        self._heard_s = time.monotonic()
        self._status_due_s = 0.0

    def look(self, patience_s: float) -> Picture:
        """What there is after `patience_s` at most."""
        until_s = time.monotonic() + patience_s
        if time.monotonic() >= self._status_due_s:
            self._ask()
        while self.events.poll(max(0, round((until_s - time.monotonic()) * 1000))):
            topic, _header, payload = self.events.recv_multipart()
            self._heard_s = time.monotonic()
            self.picture.take(topic.decode(), msgspec.msgpack.decode(payload))
            if time.monotonic() >= until_s:
                break
        self.picture.silent_s = time.monotonic() - self._heard_s
        return self.picture

    def _ask(self) -> None:
        self._status_due_s = time.monotonic() + STATUS_S
        try:
            self.picture.status = self.client.ask("status")
        except RtserverError:
            return  # `silent_s` tells; the server may come back

    def close(self) -> None:
        """Let go of the sockets."""
        self.client.close()
