"""Requests that wait for their replies, and are sent again where none comes."""

from __future__ import annotations

import itertools
import time
import uuid
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import msgspec
import zmq

from .clock import Clock

AGAIN_S = 1.0  # no reply for so long: the request is sent again, with its id
CONNECT_S = 0.05  # nobody there to send it to: looked for again after so long


class ServerError(Exception):
    """The server refused a request. `code` is for programs, the text for people."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.code, self.field, self.retry_after_s = error["code"], error.get("field", ""), error.get("retry_after_s", 0.0)


class NoReply(Exception):
    """The server did not answer in time."""


@dataclass
class _Pending:
    """A request that waits for its reply."""

    body: bytes
    future: Future[dict[str, Any]]
    again_s: float
    end_s: float
    sent_ns: int = 0  # when it last left


class Requests:
    """What has been asked and not been answered. `add` may be called on any thread, everything else on one.

    Parameters
    ----------
    clock : Clock
        Told of every reply that carries the server's time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._uuid, self._count = uuid.uuid4(), itertools.count()
        self._new: deque[tuple[str, _Pending]] = deque()
        self._pending: dict[str, _Pending] = {}

    def add(self, op: str, timeout_s: float, fields: Mapping[str, object]) -> Future[dict[str, Any]]:
        """A request to be sent with the next `send`; its result, `ServerError` or `NoReply`."""
        request_id = f"{self._uuid}-{next(self._count)}"
        body = msgspec.msgpack.encode({"id": request_id, "op": op, **fields})
        pending = _Pending(body, Future(), 0.0, time.monotonic() + timeout_s)
        self._new.append((request_id, pending))
        return pending.future

    def left_s(self, now_s: float) -> float:
        """Seconds until something must be sent again or given up; infinite if nothing waits."""
        return min((min(pending.again_s, pending.end_s) - now_s for pending in self._pending.values()), default=float("inf"))

    def send(self, control: zmq.Socket[bytes], endpoint: str) -> None:
        """Send what is new or due again, and give up what has waited for too long."""
        while self._new:
            request_id, pending = self._new.popleft()
            self._pending[request_id] = pending
        now_s = time.monotonic()
        for request_id, pending in list(self._pending.items()):
            if now_s >= pending.end_s:
                del self._pending[request_id]
                pending.future.set_exception(NoReply(f"no reply from {endpoint}"))
            elif now_s >= pending.again_s:
                pending.again_s = now_s + AGAIN_S
                pending.sent_ns = time.monotonic_ns()
                try:
                    control.send_multipart([b"RT1", pending.body], zmq.DONTWAIT)
                except zmq.Again:  # not connected yet
                    pending.again_s = now_s + CONNECT_S

    def take(self, frames: list[bytes]) -> None:
        """A reply as it came."""
        received_ns = time.monotonic_ns()
        reply = msgspec.msgpack.decode(frames[-1])
        pending = self._pending.get(reply["id"])
        if pending is None:
            return  # the answer to a request that was sent twice
        if not reply["ok"] and reply["error"]["code"] == "rate_limited":
            pending.again_s = time.monotonic() + reply["error"]["retry_after_s"]
            return
        del self._pending[reply["id"]]
        if not reply["ok"]:
            pending.future.set_exception(ServerError(reply["error"]))
            return
        if "server_ns" in reply["result"]:
            self._clock.ping(pending.sent_ns, reply["result"]["server_ns"], received_ns)
        pending.future.set_result(reply["result"])

    def give_up(self, why: str) -> None:
        """Nobody will answer any more."""
        for pending in [*self._pending.values(), *(pending for _, pending in self._new)]:
            pending.future.set_exception(NoReply(why))
