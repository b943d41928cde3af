"""The notes that a client sounds on the server's behalf, and lets go of when nobody is there to end them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LEASE_S = 0.3  # three heartbeats missed: no note may sound any longer


class NoteLease:
    """The notes that a client sounds on the server's behalf. Each sounds as long as the server is heard, and no longer.

    Parameters
    ----------
    start : callable
        Called with (channel, pitch, velocity).
    stop : callable
        Called with (channel, pitch): on a note-off; when a heartbeat does not list the note any more (its note-off was lost); when another
        server or gateway takes over; `LEASE_S` after the last heartbeat.

    Both are called on the client's reader thread and must not wait.
    """

    def __init__(self, start: Callable[[int, int, int], object], stop: Callable[[int, int], object]) -> None:
        self._start, self._stop = start, stop
        self._held: dict[tuple[int, int], int] = {}
        self._stream: tuple[str, int] | None = None
        self.heard_s: float | None = None  # when the last heartbeat was sent, at the latest
        self.expired = 0  # notes that were let go because the server fell silent
        self.late_s = 0.0  # how late that was noticed, at most: this machine's doing

    @property
    def held(self) -> list[tuple[int, int]]:
        """(channel, pitch) of the notes that sound."""
        return list(self._held)

    def take(self, topic: str, header: list[Any], payload: dict[str, Any], heard_s: float, now_s: float) -> None:
        """A message. `heard_s` is when it was sent, on our clock, at the latest."""
        stream = (header[1], header[2])
        if stream != self._stream:
            self.release()
            self._stream, self.heard_s = stream, None
        if topic == "heartbeat":
            self.heard_s = max(self.heard_s or heard_s, heard_s)
            sounding = {(channel, pitch) for channel, pitch, _ in payload["notes"]}
            for key in [key for key in self._held if key not in sounding]:
                self._release(key)
        elif topic == "note_on":
            key = (payload["channel"], payload["pitch"])
            self._release(key)
            if self.heard_s is not None and now_s < self.heard_s + LEASE_S:  # without a lease nothing begins
                self._held[key] = payload["note_id"]
                self._start(*key, payload["velocity"])
        elif topic == "note_off":
            key = (payload["channel"], payload["pitch"])
            if self._held.get(key) == payload["note_id"]:
                self._release(key)

    def left_s(self, now_s: float) -> float:
        """Seconds until everything must be let go if nothing is heard."""
        return self.heard_s + LEASE_S - now_s if self._held and self.heard_s is not None else LEASE_S

    def check(self, now_s: float) -> None:
        """Let go of everything if the server has been silent for too long. What has come must have been taken before."""
        left_s = self.left_s(now_s)
        if left_s <= 0:
            self.expired += len(self._held)
            self.late_s = max(self.late_s, -left_s)
            self.release()

    def release(self) -> None:
        """Let go of everything."""
        for key in self.held:
            self._release(key)

    def _release(self, key: tuple[int, int]) -> None:
        if self._held.pop(key, None) is not None:
            self._stop(*key)
