"""From messages as they come to messages as they are told: joined to a snapshot, every loss counted. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

KEPT = 1 << 16  # messages that wait for whoever calls `messages`; the oldest make room


class Message(NamedTuple):
    """An event; or "snapshot" (the state on joining), "lost" (how many messages), "silence" (no heartbeat), which have no header.

    Samples ("audio.…", "features") come as a memoryview of floats, laid out as header[8:] says; raw MIDI ("midi.…") as bytes, with the
    note's id, its duration in ns and "on", "off" or "cut" in header[8:11].
    """

    topic: str
    header: list[Any] | None
    payload: Any

    @property
    def due_ns(self) -> int | None:
        """When it is due, on the server's clock; None for what is never due. `Client.local_ns` says when that is here."""
        return self.header[7] if self.header else None


class Stream:
    """Joins the events and counts what is lost. Pure: takes messages, gives messages, and says when it wants a snapshot."""

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.wants_snapshot = False
        self.lost = 0
        self._key: tuple[str, int] | None = None  # boot id and epoch that the sequence numbers belong to
        self._asking: tuple[str, int] | None = None
        self._early: deque[tuple[str, list[Any], dict[str, Any]]] = deque(maxlen=KEPT)
        self._seen: dict[str, int] = {}

    def take(self, topic: str, header: list[Any], payload: dict[str, Any]) -> Iterator[Message]:
        """A message as it came; yields what it amounts to."""
        key = (header[1], header[2])
        if key == self._key:
            yield from self._apply(topic, header, payload)
            return
        # The first message, or another server. A heartbeat proves that the subscriptions hold: only now a snapshot misses nothing.
        if topic == "heartbeat" and key != self._asking:
            self._asking, self.wants_snapshot = key, True
            self._early.clear()
        if key == self._asking:
            self._early.append((topic, header, payload))

    def join(self, snapshot: dict[str, Any] | None) -> Iterator[Message]:
        """The snapshot that was wanted; None if there was no reply."""
        key, self._asking = self._asking, None  # should it not be the right one, the next heartbeat asks again
        if snapshot is not None and key == (snapshot["boot_id"], snapshot["epoch"]):
            self._key, self._seen = key, dict(snapshot["sequences"])
            yield Message("snapshot", None, snapshot)
            for early in self._early:
                yield from self._apply(*early)
        self._early.clear()

    def _apply(self, topic: str, header: list[Any], payload: dict[str, Any]) -> Iterator[Message]:
        if topic == "heartbeat":  # it tells of losses at the tail, too
            for name, last in payload["sequences"].items():
                yield from self._check(name, last + 1)
                self._seen[name] = max(self._seen.get(name, 0), last)
        elif header[3] <= self._seen.get(topic, 0):
            return  # the snapshot has it already
        if topic in self.topics:
            yield from self._check(topic, header[3])
            self._seen[topic] = max(self._seen.get(topic, 0), header[3])
            yield Message(topic, header, payload)

    def _check(self, topic: str, sequence: int) -> Iterator[Message]:
        n = sequence - self._seen.get(topic, 0) - 1
        if topic in self.topics and topic != "heartbeat" and n > 0:
            self.lost += n
            yield Message("lost", None, {"topic": topic, "messages": n})
