"""The op `sync`: who waits until the roles have taken all that was sent to them before."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rtserver.shared.session import EVENT_PATHS, Session
from rtserver.wire import protocol as p

MAX_SYNCS = 256
SYNC_NS = 1_000_000_000  # a role that has not looked into its ring for a second is not going to
Respond = Callable[[list[bytes]], None]


@dataclass
class _Sync:
    """One that waits: for each role the position up to which its ring must be read."""

    request_id: str
    waits: dict[str, int]
    deadline_ns: int
    respond: Respond


class Syncs:
    """Those that wait.

    Parameters
    ----------
    session : Session
    up : callable
        Whether a role is up.
    """

    def __init__(self, session: Session, up: Callable[[str], bool]) -> None:
        self._session, self._up = session, up
        self._waiting: list[_Sync] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def clear(self) -> None:
        """Forget them all."""
        self._waiting.clear()

    def add(self, request_id: str, respond: Respond) -> None:
        """Answer through `respond`, at once if nothing is to be waited for. Raises `Refusal` if too many wait."""
        if len(self._waiting) >= MAX_SYNCS:
            raise p.Refusal("busy", f"{MAX_SYNCS} requests wait for the roles already")
        asked = [role for role in EVENT_PATHS["gateway"] if role != "recorder" and self._up(role)]  # nobody waits for a disk
        waits = {role: int(self._session.ring("gateway", role).written[0]) for role in asked}
        self._waiting.append(_Sync(request_id, waits, time.monotonic_ns() + SYNC_NS, respond))
        self.settle()

    def settle(self) -> None:
        """Answer each whose roles have taken what they were sent, or have had a second to do so."""
        waiting: list[_Sync] = []
        for sync in self._waiting:
            behind = [role for role, n in sync.waits.items() if self._taken(role) < n and self._up(role)]
            if not behind:
                sync.respond(p.encode_reply(p.Reply(sync.request_id, True, result={"frame": self._session.frame})))
            elif time.monotonic_ns() >= sync.deadline_ns:
                message = f"{', '.join(behind)} did not take the messages sent before within {SYNC_NS // 10**9} s; see status"
                sync.respond(p.encode_reply(p.Refusal("timeout", message, "", sync.request_id).reply()))
            else:
                waiting.append(sync)
        self._waiting = waiting

    def _taken(self, role: str) -> int:
        return int(self._session.ring("gateway", role).taken[0])
