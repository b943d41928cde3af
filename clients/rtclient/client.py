"""The connection: a thread that reads the sockets all the time, and what it hands to whoever asks."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, TimeoutError
from typing import Any

import msgspec
import zmq
from zmq.auth import load_certificate

from .clock import Clock
from .finding import find, reached
from .lease import NoteLease
from .player import Player
from .requests import AGAIN_S, NoReply, Requests, ServerError
from .sequencer import FAMILY, Arrival
from .stream import KEPT, Message, Stream

DEFAULT = "tcp://127.0.0.1:5580"
PING_S = 1.0
SILENT_S = 1.0  # ten heartbeats missed: the server is gone or stuck
ALWAYS = ("heartbeat", "note_on", "note_off")  # also where the user of the library does not ask for them
A_TURN = 1000  # messages read in one go, before anything else is looked at


class Client:
    """A connection to a server.

    Parameters
    ----------
    control : str
        The control endpoint.
    server : str
        Instead of an endpoint, the name of a server of this user on this machine.
    topics, bulk : sequence of str
        Events to listen to (None: all; ``midi.PART`` are listened to only when named), samples to listen to (none).
    name : str
        What ``status`` calls this client.
    lease : NoteLease or None
        Notes to play, whatever `topics` says.
    player : Player or None
        Plays raw MIDI on a port of this machine, whatever `topics` says. The caller closes it, after the client.
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
        player: Player | None = None,
        server_key: str = "",
        key: str = "",
    ) -> None:
        self.control, self.server, self.name, self.lease, self.player = control, server, name, lease, player
        self.clock, self.stream = Clock(), Stream()
        self.lost_bulk = self.overflowed = 0
        self.hello: dict[str, Any] = {}  # what the server said of itself, once it did
        self._topics, self._bulk = topics, bulk or []
        self._own = load_certificate(key) if key else None
        self._server_key = load_certificate(server_key)[0] if server_key else b""
        self._told_key = not server_key  # a server on this machine tells its public key beside its name
        self._bulk_seen: dict[str, tuple[Any, ...]] = {}
        self._requests = Requests(self.clock)
        self._messages: deque[Message] = deque()
        self._changed = threading.Condition()
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

    def local_ns(self, server_ns: int) -> tuple[float, float]:
        """When a time of the server's clock (`due_ns`, `sent_ns`) is on our ``time.monotonic_ns``, and the greatest error of that.

        The error is infinite until the first ping has been answered, half the shortest round trip after that, and grows by 0.5 ms a
        second from the last ping on (there is one a second).
        """
        offset, error = self.offset_ns()
        return server_ns - offset, error

    # -- the reader thread ------------------------------------------------------------------------------------------------------------

    def _request(self, op: str, timeout_s: float, fields: Mapping[str, object]) -> Future[dict[str, Any]]:
        future = self._requests.add(op, timeout_s, fields)
        self._call()
        return future

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
            self._requests.give_up("the client was closed")
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
            self._requests.send(sockets[0], self.control)
            for _ in range(A_TURN):
                if not sockets[0].poll(0):
                    break
                self._requests.take(sockets[0].recv_multipart())
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
        held_s = self.lease.left_s(now_s) if self.lease is not None else PING_S
        return min(PING_S / 4, self._requests.left_s(now_s), held_s)

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
        played = self.player.topics(hello.get("midi_topics", [])) if self.player is not None else []
        for topic in [*self.stream.topics, *notes, *played, "heartbeat"]:  # heartbeat last: when one comes, those before it are in force
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
        raw = topic.startswith(FAMILY)
        if not raw and topic not in self.stream.topics and topic not in ALWAYS:
            return  # its prefix is one of ours; who knows what it holds
        event = payload if raw else msgspec.msgpack.decode(payload)
        if self.player is not None:
            now_ns = time.monotonic_ns()
            offset_ns, error_ns = self.clock.offset_ns(now_ns)
            if error_ns < float("inf"):
                self.player.take(topic, header, event, Arrival(now_ns, offset_ns, min(now_ns, header[6] - offset_ns + error_ns)))
        if self.lease is not None and not raw:
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
