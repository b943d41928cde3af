"""What the gateway tells of a session: read from the shared block, changed by nobody here."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from rtserver.audio import table as audio_table
from rtserver.shared.session import (
    BEAT_NS,
    COMPILATIONS,
    COUNTERS,
    EVENT_PATHS,
    LOCKED,
    MEMORY,
    PID,
    PRIORITY,
    RESTARTS,
    ROLES,
    SECOND,
    STARTING,
    STATE,
    UP,
    Session,
)
from rtserver.wire.recent import RecentTimes

STATES = {STARTING: "starting", UP: "up"}


class View:
    """Reads a session for `status`, `snapshot` and heartbeats."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.hop_times = RecentTimes(session)

    def counters(self, role: str) -> dict[str, int]:
        """The counters of a role; none for one that keeps none."""
        if role == "audio":
            return audio_table.counters(self.session.block) if "audio.table" in self.session.block else {}
        return self.session.counters(role) if role in COUNTERS else {}

    def stream_epochs(self) -> list[tuple[int, int, int]]:
        """The starts of the stream, as `hello` and snapshots tell them."""
        return audio_table.epochs(self.session.block) if "audio.table" in self.session.block else []

    def notes(self) -> list[tuple[int, int, int]]:
        """(channel, pitch, due end in ns) of each note that sounds. Negative cells are notes already let go."""
        cells = self.session.block["notes"]
        return [(int(channel), int(pitch), int(cells[channel, pitch])) for channel, pitch in np.argwhere(cells > 0)]

    def clock(self) -> tuple[float, int, float, int] | None:
        """The session's clock as heartbeats carry it."""
        if not self.session.clock.running:
            return None
        frame, time_s, rate, error_s = self.session.clock.line()
        return frame, round(time_s * 1e9), rate, round(error_s * 1e9)

    def lost_events(self) -> dict[str, int]:
        """Events that each role had no room for on their way here."""
        producers = [producer for producer, to in EVENT_PATHS.items() if "gateway" in to]
        return {producer: int(self.session.ring(producer, "gateway").dropped[0]) for producer in producers}

    def roles(self) -> dict[str, dict[str, Any]]:
        """Every role that has been started, of the show and of the song that plays."""
        now_ns = time.monotonic_ns()
        roles: dict[str, dict[str, Any]] = {}
        for name in (role for role in ROLES if not role.endswith(SECOND)):
            row = self.session.role(self.session.own(name))
            if row[PID] or row[BEAT_NS]:
                roles[name] = {
                    "state": STATES.get(int(row[STATE]), "closing"),
                    "pid": int(row[PID]),
                    "restarts": int(row[RESTARTS]),
                    "beat_age_s": (now_ns - int(row[BEAT_NS])) / 1e9 if row[BEAT_NS] else None,
                    "priority": int(row[PRIORITY]),
                    "locked": bool(row[LOCKED]),
                    "memory_bytes": int(row[MEMORY]),
                    "compilations": int(row[COMPILATIONS]),
                }
        return roles
