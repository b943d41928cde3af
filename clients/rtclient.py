"""A client of rtserver: joins without losing anything, asks again without doing twice, knows the server's clock, lets no note hang.

One file that needs pyzmq and msgspec and nothing of rtserver: import it from here or copy it. The protocol is in docs/protocol.md.

    with Client(topics=["position"]) as client:
        client.ask("set", name="outputs.harmonic.mute", value=True)
        for message in client.messages():
            print(message.topic, message.payload)

A thread reads the sockets all the time, so that the server never finds this client slow; whoever calls `messages` may be.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import stat
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, TimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
import zmq
from zmq.auth import load_certificate

DEFAULT = "tcp://127.0.0.1:5580"
AGAIN_S = 1.0  # no reply for so long: the request is sent again, with its id
CONNECT_S = 0.05  # nobody there to send it to: looked for again after so long
PING_S = 1.0
SILENT_S = 1.0  # ten heartbeats missed: the server is gone or stuck
LEASE_S = 0.3  # three heartbeats missed: no note may sound any longer
A_TURN = 1000  # messages read in one go, before anything else is looked at
KEPT = 1 << 16  # messages that wait for whoever calls `messages`; the oldest make room


class Message(NamedTuple):
    """An event; or "snapshot" (the state on joining), "lost" (how many messages), "silence" (no heartbeat), which have no header.

    Samples ("audio.…", "features") come as a memoryview of floats, laid out as header[8:] says.
    """

    topic: str
    header: list[Any] | None
    payload: Any


class ServerError(Exception):
    """The server refused a request. `code` is for programs, the text for people."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.code, self.field, self.retry_after_s = error["code"], error.get("field", ""), error.get("retry_after_s", 0.0)


class NoReply(Exception):
    """The server did not answer in time."""


class Clock:
    """How far the server's CLOCK_MONOTONIC is ahead of ours: an interval that every ping narrows and that drift widens.

    A ping's offset lies within half its round trip, however unequal the two ways are; all intervals hold the truth, so their intersection
    does (Marzullo & Owicki 1983).
    """

    DRIFT = 500e-6  # seconds a second by which two clocks may part: what NTP may slew, and more than quartz does

    def __init__(self) -> None:
        self._low_ns = self._high_ns = 0.0
        self._at_ns: int | None = None

    def ping(self, sent_ns: int, server_ns: int, received_ns: int) -> None:
        """A ping that left and was answered at these times of our clock."""
        meanwhile = self.DRIFT * (received_ns - sent_ns)
        low, high = server_ns - received_ns - meanwhile, server_ns - sent_ns + meanwhile
        if self._at_ns is not None:
            wider = self.DRIFT * (received_ns - self._at_ns)
            both = max(low, self._low_ns - wider), min(high, self._high_ns + wider)
            if both[0] <= both[1]:  # else a clock has jumped: begin anew
                low, high = both
        self._low_ns, self._high_ns, self._at_ns = low, high, received_ns

    def offset_ns(self, now_ns: int) -> tuple[float, float]:
        """(offset, its greatest error) now. The error is infinite before the first ping."""
        if self._at_ns is None:
            return 0.0, float("inf")
        return (self._low_ns + self._high_ns) / 2, (self._high_ns - self._low_ns) / 2 + self.DRIFT * (now_ns - self._at_ns)

    def latest_ns(self, server_ns: int, now_ns: int) -> float:
        """The latest that our clock can have shown when the server's showed `server_ns`."""
        offset, error = self.offset_ns(now_ns)
        return server_ns - offset + error


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


@dataclass
class _Pending:
    """A request that waits for its reply."""

    body: bytes
    future: Future[dict[str, Any]]
    again_s: float
    end_s: float
    sent_ns: int = 0  # when it last left


class Client:
    """A connection to a server.

    Parameters
    ----------
    control : str
        The control endpoint.
    server : str
        Instead of an endpoint, the name of a server of this user on this machine.
    topics, bulk : sequence of str
        Events to listen to (None: all), samples to listen to (none).
    name : str
        What ``status`` calls this client.
    lease : NoteLease or None
        Notes to play, whatever `topics` says.
    server_key, key : str
        The server's public key file and this client's secret key file, where the server asks for keys. A server that was found by
        its name has told its public key.
    """

    def __init__(
        self,
        control: str = DEFAULT,
        *,
        server: str = "",
        topics: list[str] | None = None,
        bulk: list[str] | None = None,
        name: str = "",
        lease: NoteLease | None = None,
        server_key: str = "",
        key: str = "",
    ) -> None:
        self.control, self.server, self.name, self.lease = control, server, name, lease
        self.clock, self.stream = Clock(), Stream()
        self.lost_bulk = self.overflowed = 0
        self.hello: dict[str, Any] = {}  # what the server said of itself, once it did
        self._topics, self._bulk = topics, bulk or []
        self._own = load_certificate(key) if key else None
        self._server_key = load_certificate(server_key)[0] if server_key else b""
        self._told_key = not server_key  # a server on this machine tells its public key beside its name
        self._bulk_seen: dict[str, tuple[Any, ...]] = {}
        self._uuid, self._count = uuid.uuid4(), itertools.count()
        self._pending: dict[str, _Pending] = {}
        self._messages: deque[Message] = deque()
        self._changed = threading.Condition()
        self._requests: deque[tuple[str, _Pending]] = deque()
        self._wake, self._ring = socket.socketpair()
        self._wake.setblocking(False)
        self._ring.setblocking(False)
        self._stopped = False
        self.error: Exception | None = None  # what ended the reader thread
        self._thread = threading.Thread(target=self._run, name="rtclient", daemon=True)
        self._thread.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of every note and end."""
        self._stopped = True
        self._call()
        self._thread.join()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the server has said hello. Raises `ServerError` if it did not want to."""
        with self._changed:
            self._changed.wait_for(lambda: self.hello or self._stopped, timeout_s)
        self._raise()
        return bool(self.hello)

    def ask(self, op: str, timeout_s: float = 5.0, **fields: object) -> dict[str, Any]:
        """A request and its result; sent again if no reply comes. Raises `ServerError` if it is refused, `NoReply` if nobody answers."""
        future = self._request(op, timeout_s, fields)
        try:
            return future.result(timeout_s + AGAIN_S)
        except TimeoutError:
            raise NoReply(f"{op}: no reply from {self.control} within {timeout_s} s") from None

    def messages(self, timeout_s: float | None = None) -> Iterator[Message]:
        """Messages as they come; ends when none came for `timeout_s`, or when the client is closed."""
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._messages or self._stopped, timeout_s) or not self._messages:
                    self._raise()
                    return
                message, lost, self.overflowed = self._messages.popleft(), self.overflowed, 0
            if lost:
                yield Message("lost", None, {"topic": "", "messages": lost})
            yield message

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error

    def offset_ns(self) -> tuple[float, float]:
        """How far the server's clock is ahead of this machine's, and the greatest error of that."""
        return self.clock.offset_ns(time.monotonic_ns())

    # -- the reader thread ------------------------------------------------------------------------------------------------------------

    def _request(self, op: str, timeout_s: float, fields: dict[str, object]) -> Future[dict[str, Any]]:
        request_id = f"{self._uuid}-{next(self._count)}"
        body = msgspec.msgpack.encode({"id": request_id, "op": op, **fields})
        pending = _Pending(body, Future(), 0.0, time.monotonic() + timeout_s)
        self._requests.append((request_id, pending))
        self._call()
        return pending.future

    def _call(self) -> None:
        with contextlib.suppress(OSError):  # full: it rings loudly enough; closed: nobody listens any more
            self._ring.send(b"\0")

    def _run(self) -> None:
        context = zmq.Context()
        try:
            while not self._stopped and self._locate():
                self._serve(context)
        except Exception as error:  # whoever waits must be told
            self.error = error
        finally:
            if self.lease is not None:
                self.lease.release()
            context.destroy(linger=0)
            with self._changed:
                self._stopped = True
                self._changed.notify_all()
            for pending in [*self._pending.values(), *(pending for _, pending in self._requests)]:
                pending.future.set_exception(NoReply("the client was closed"))
            self._wake.close()
            self._ring.close()

    def _serve(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """Talk to the server at `self.control`, until it is to be found elsewhere."""
        sockets = [self._socket(context, zmq.DEALER, self.control)]
        poller = zmq.Poller()
        poller.register(sockets[0], zmq.POLLIN)
        poller.register(self._wake.fileno(), zmq.POLLIN)
        fields = {"versions": [1], "client": self.name}
        hello, ping, snapshot = self._request("hello", 2 * AGAIN_S, fields), None, None
        hello_due_s = ping_due_s = 0.0
        heard_s, silent = time.monotonic(), False
        while not self._stopped:
            poller.poll(max(self._left_s(time.monotonic()), 0.0) * 1000)
            with contextlib.suppress(BlockingIOError):
                while self._wake.recv(4096):
                    pass
            self._send(sockets[0])
            for _ in range(A_TURN):
                if not sockets[0].poll(0):
                    break
                self._reply(sockets[0].recv_multipart())
            for subscriber in sockets[1:]:
                for _ in range(A_TURN):
                    if not subscriber.poll(0):
                        break
                    heard_s, silent = time.monotonic(), False
                    self._take(subscriber.recv_multipart())
            now_s = time.monotonic()
            if self.lease is not None:
                self.lease.check(now_s)
            if self.stream.wants_snapshot:
                self.stream.wants_snapshot = False
                snapshot = self._request("snapshot", AGAIN_S, {})
            if snapshot is not None and snapshot.done():
                self._put(*self.stream.join(None if snapshot.exception() else snapshot.result()))
                snapshot = None
            if now_s >= ping_due_s and (ping is None or ping.done()):
                ping_due_s = now_s + PING_S
                ping = self._request("ping", PING_S, {"lost_events": self.stream.lost, "lost_bulk": self.lost_bulk})
            if len(sockets) > 1 and not silent and now_s - heard_s > SILENT_S:
                silent = True  # said once
                self._put(Message("silence", None, {"seconds": SILENT_S}))
            # Until the server has answered, and again when it falls silent: who is there?
            if hello is not None and hello.done():
                error = hello.exception()
                if isinstance(error, ServerError):
                    raise error
                if error is None and len(sockets) == 1:
                    sockets += self._subscribe(context, hello.result())
                    for subscriber in sockets[1:]:
                        poller.register(subscriber, zmq.POLLIN)
                    heard_s = now_s
                elif error is None and hello.result()["endpoints"] != self.hello["endpoints"]:
                    break
                hello, hello_due_s = None, now_s + AGAIN_S
            if hello is None and now_s >= hello_due_s and (silent or len(sockets) == 1):
                hello = self._request("hello", 2 * AGAIN_S, fields)
                if self._moved():
                    break
        for made in sockets:
            made.close(linger=0)

    def _left_s(self, now_s: float) -> float:
        """How long there is nothing to do unless something comes."""
        waits = [min(pending.again_s, pending.end_s) - now_s for pending in self._pending.values()]
        return min([PING_S / 4, *waits, *([self.lease.left_s(now_s)] if self.lease is not None else [])])

    def _locate(self) -> bool:
        """Look up the server's name; waits until there is one. False if the client is closed before."""
        while not self._stopped:
            if not self.server:
                return True
            with contextlib.suppress(OSError, ValueError, KeyError):
                notice = find(self.server)
                self.control = notice["endpoints"]["control"]
                if self._told_key:
                    self._server_key = notice["public_key"].encode()
                return True
            time.sleep(0.1)
        return False

    def _moved(self) -> bool:
        """Whether the server of that name is elsewhere now."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            return bool(self.server) and find(self.server)["endpoints"]["control"] != self.control
        return False

    def _socket(self, context: zmq.Context[zmq.Socket[bytes]], kind: int, endpoint: str) -> zmq.Socket[bytes]:
        made = context.socket(kind)
        made.setsockopt(zmq.IMMEDIATE, 1)  # requests to nobody do not pile up
        made.setsockopt(zmq.RCVHWM, 0)  # it is read all the time; what the server keeps for us is bounded there
        if self._own is not None and self._server_key:
            made.curve_serverkey, (made.curve_publickey, made.curve_secretkey) = self._server_key, self._own
        made.connect(endpoint)
        return made

    def _subscribe(self, context: zmq.Context[zmq.Socket[bytes]], hello: dict[str, Any]) -> list[zmq.Socket[bytes]]:
        self.stream.topics = list(hello["topics"]) if self._topics is None else self._topics
        notes = ["note_on", "note_off"] if self.lease is not None else []
        events = self._socket(context, zmq.SUB, reached(hello["endpoints"]["events"], self.control))
        for topic in [*self.stream.topics, *notes, "heartbeat"]:  # heartbeat last: when one comes, the subscriptions before it are in force
            events.subscribe(topic)
        with self._changed:
            self.hello = hello
            self._changed.notify_all()
        if not self._bulk:
            return [events]
        bulk = self._socket(context, zmq.SUB, reached(hello["endpoints"]["bulk"], self.control))
        for topic in self._bulk:
            bulk.subscribe(topic)
        return [events, bulk]

    def _send(self, control: zmq.Socket[bytes]) -> None:
        while self._requests:
            request_id, pending = self._requests.popleft()
            self._pending[request_id] = pending
        now_s = time.monotonic()
        for request_id, pending in list(self._pending.items()):
            if now_s >= pending.end_s:
                del self._pending[request_id]
                pending.future.set_exception(NoReply(f"no reply from {self.control}"))
            elif now_s >= pending.again_s:
                pending.again_s = now_s + AGAIN_S
                pending.sent_ns = time.monotonic_ns()
                try:
                    control.send_multipart([b"RT1", pending.body], zmq.DONTWAIT)
                except zmq.Again:  # not connected yet
                    pending.again_s = now_s + CONNECT_S

    def _reply(self, frames: list[bytes]) -> None:
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
            self.clock.ping(pending.sent_ns, reply["result"]["server_ns"], received_ns)
        pending.future.set_result(reply["result"])

    def _take(self, frames: list[bytes]) -> None:
        topic, header, payload = frames[0].decode(), msgspec.msgpack.decode(frames[1]), frames[2]
        if header[0] != 1:
            return
        if len(header) >= 13:
            stream, last = header[1:3], self._bulk_seen.get(topic, ())
            if last[:1] == (stream,) and header[3] > last[1] + 1:
                self.lost_bulk += header[3] - last[1] - 1
                self._put(Message("lost", None, {"topic": topic, "messages": header[3] - last[1] - 1}))
            self._bulk_seen[topic] = (stream, header[3])
            self._put(Message(topic, header, memoryview(payload).cast("f")))
            return
        event = msgspec.msgpack.decode(payload)
        if self.lease is not None:
            now_ns = time.monotonic_ns()
            heard_s = min(now_ns, self.clock.latest_ns(header[6], now_ns)) / 1e9
            self.lease.take(topic, header, event, heard_s, now_ns / 1e9)
        self._put(*self.stream.take(topic, header, event))

    def _put(self, *messages: Message) -> None:
        if not messages:
            return
        with self._changed:
            self._messages.extend(messages)
            while len(self._messages) > KEPT:
                self._messages.popleft()
                self.overflowed += 1
            self._changed.notify_all()


def find(name: str) -> dict[str, Any]:
    """What the server called `name` has left in the user's run-time folder. Raises `OSError` if there is none or it is gone."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) / "rtserver" if runtime else Path(tempfile.gettempdir()) / f"rtserver-{os.getuid()}"
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(f"{folder} is not this user's alone")
    notice = json.loads((folder / f"{quote(name, safe='')[:200]}.json").read_bytes())
    with contextlib.suppress(PermissionError):
        os.kill(notice["pid"], 0)  # raises `ProcessLookupError` if the server has crashed and left its notice
    return notice


def reached(endpoint: str, control: str) -> str:
    """`endpoint` as seen from here: a server that listens everywhere does not know by which name it was reached."""
    scheme, _, rest = endpoint.partition("://")
    host, _, port = rest.rpartition(":")
    if scheme == "tcp" and host in {"0.0.0.0", "[::]"}:
        host = control.partition("://")[2].rpartition(":")[0]
    return f"tcp://{host}:{port}" if scheme == "tcp" else endpoint
