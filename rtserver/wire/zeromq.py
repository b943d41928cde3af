"""The three sockets. Nothing here waits for a peer: what a peer cannot take is dropped and counted."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator

import zmq

from rtserver.config import Wire
from rtserver.errors import DeviceError
from rtserver.events import Event, NoteOff, NoteOn
from rtserver.wire import protocol as p
from rtserver.wire.bulk import Chunk
from rtserver.wire.rawmidi import Raw
from rtserver.wire.security import HANDSHAKE_S, Doorman, Security

EVENT_QUEUE = 8192  # messages a subscriber may lag behind: more than all rings hold, so that no burst overflows one who reads; 2 MB
BULK_QUEUE = 64  # chunks a subscriber may lag behind: some 0.7 s
REPLY_QUEUE = 1024
REQUEST_QUEUE = 64  # requests of one client that wait to be read, of 64 kB at most; more wait in its own memory
SUBSCRIPTIONS_A_TURN = 256  # a flood of them must not keep the heartbeat waiting
MAX_SUBSCRIPTION_SIZE = 1024  # bytes; a topic has fewer than 64
MAX_PREFIXES = 256  # kept of a family of topics: a show has a handful
BACKLOG = 64  # connections that wait to be accepted
PING_MS, PONG_MS = 2000, 15000  # a peer that answers no ping for so long is let go, with what waits for it
KEEPALIVE_S = (10, 5, 3)  # TCP's own probes, for peers that are stuck in the middle of a message: idle, interval, count
LAST_WORDS_MS = 100  # at an orderly end: time for note-offs and the news of the end to leave


class Publisher:
    """An XPUB socket with numbered messages.

    A subscriber that does not read fills its own queue; then messages to it are dropped (its sequence numbers show how many) while all
    others get theirs. `overflows` counts the messages that found a queue full: each is the first of a run that this subscriber loses, for
    ZeroMQ neither looks at a full queue again nor says how long the run was until it is read from. The subscriber knows, and may report it.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], queue: int, boot_id: str, epoch: int) -> None:
        self.socket = context.socket(zmq.XPUB)
        _limit(self.socket, queue, MAX_SUBSCRIPTION_SIZE)
        self.socket.setsockopt(zmq.XPUB_NODROP, 1)
        self.boot_id = boot_id
        self.epoch = epoch
        self.sequences: dict[str, int] = {}
        self.overflows = 0
        self.prefixes: set[bytes] = set()

    def header(self, topic: str, frame: int, available_frame: int, due_ns: int | None) -> p.Header:
        """The next header of `topic`."""
        sequence = self.sequences[topic] = self.sequences.get(topic, 0) + 1
        return p.Header(p.VERSION, self.boot_id, self.epoch, sequence, frame, available_frame, time.monotonic_ns(), due_ns)

    def send(self, frames: list[bytes]) -> bool:
        """Send to every subscriber that has room. False if one had none."""
        try:
            self.socket.send_multipart(frames, zmq.DONTWAIT)
            return True
        except zmq.Again:
            # NODROP tells that somebody's queue is full, and sends to nobody. Without it the others get the message.
            self.overflows += 1
            self.socket.setsockopt(zmq.XPUB_NODROP, 0)
            with contextlib.suppress(zmq.ZMQError):
                self.socket.send_multipart(frames, zmq.DONTWAIT)
            self.socket.setsockopt(zmq.XPUB_NODROP, 1)
        except zmq.ZMQError:
            self.overflows += 1
        return False

    def take_subscriptions(self, topics: list[str], family: str = "") -> None:
        """Read who wants what. Only prefixes of `topics`, and some of those that begin with `family`, are kept, so that a peer cannot
        fill our memory with others."""
        with contextlib.suppress(zmq.ZMQError):
            for _ in range(SUBSCRIPTIONS_A_TURN):
                message = self.socket.recv(zmq.DONTWAIT)
                prefix = message[1:]
                if message[:1] == b"\x00":
                    self.prefixes.discard(prefix)
                elif message[:1] == b"\x01" and (
                    any(topic.encode().startswith(prefix) for topic in topics)
                    or (family and prefix.startswith(family.encode()) and len(self.prefixes) < MAX_PREFIXES)
                ):
                    self.prefixes.add(prefix)

    def wanted(self, topic: str) -> bool:
        """Whether anybody subscribes to `topic`."""
        return any(topic.encode().startswith(prefix) for prefix in self.prefixes)

    def wanted_of(self, family: str) -> bool:
        """Whether anybody subscribes to topics of `family` and to nothing else by that."""
        return any(prefix.startswith(family.encode()) for prefix in self.prefixes)


class Sockets:
    """Control, events and bulk, bound. Raises `DeviceError` naming field, endpoint and remedy where one cannot be bound.

    Parameters
    ----------
    wire : Wire
        The endpoints.
    boot_id : str
        Of the session.
    epoch : int
        Of this gateway; grows with every start.
    """

    def __init__(self, wire: Wire, boot_id: str, epoch: int) -> None:
        security = Security(wire)
        self.public_key = security.pair.public.decode() if security.pair else ""
        self.dropped_replies = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.doorman = Doorman(self._context, security)
        self.control = self._context.socket(zmq.ROUTER)
        _limit(self.control, REPLY_QUEUE, p.MAX_REQUEST_SIZE)
        self.control.setsockopt(zmq.RCVHWM, REQUEST_QUEUE)
        self.control.setsockopt(zmq.ROUTER_MANDATORY, 1)  # a reply that cannot be delivered says so
        self.events = Publisher(self._context, EVENT_QUEUE, boot_id, epoch)
        self.bulk = Publisher(self._context, BULK_QUEUE, boot_id, epoch)
        self.endpoints: dict[str, str] = {}
        self._files: list[str] = []
        self.poller = zmq.Poller()
        sockets = {"control": self.control, "events": self.events.socket, "bulk": self.bulk.socket}
        try:
            for name, bound in sockets.items():
                security.protect(bound)
                self.doorman.watch(bound)
                self._bind(bound, f"wire.{name}", getattr(wire, name))
                self.endpoints[name] = bound.getsockopt_string(zmq.LAST_ENDPOINT)
        except DeviceError:
            self._context.destroy(linger=0)
            raise
        for polled in (*sockets.values(), *self.doorman.sockets()):
            self.poller.register(polled, zmq.POLLIN)

    def _bind(self, bound: zmq.Socket[bytes], field: str, endpoint: str) -> None:
        path = endpoint.removeprefix("ipc://") if endpoint.startswith("ipc:///") else ""
        taken = f"{field}: {endpoint} is in use already; is another server running? Stop it, or choose another endpoint"
        if path and _answers(path):  # ZeroMQ would take the path over without a word
            raise DeviceError(taken)
        if "[" in endpoint:
            bound.setsockopt(zmq.IPV6, 1)
        mask = os.umask(0o177)  # of an ipc socket's file: other users of the machine stay out from the first moment on
        try:
            bound.bind(endpoint)
        except zmq.ZMQError as error:
            if error.errno == zmq.EADDRINUSE:
                raise DeviceError(taken) from None
            raise DeviceError(f"{field}: cannot bind {endpoint}: {error.strerror}; choose another endpoint") from None
        finally:
            os.umask(mask)
        if path:
            self._files.append(path)

    def send_event(self, event: Event, due_ns: int | None = None) -> bool:
        """Publish one event. False if a subscriber's queue was full."""
        due_ns = event.due_ns if isinstance(event, NoteOn | NoteOff) else due_ns
        header = self.events.header(p.topic_of(event), event.frame, event.available_frame, due_ns)
        return self.events.send(p.encode_event(event, header))

    def send_raw(self, raw: Raw, available_frame: int) -> bool:
        """Publish raw MIDI. False if a subscriber's queue was full."""
        return self.events.send(p.encode_raw(raw, self.events.header(raw.topic, raw.frame, available_frame, raw.due_ns)))

    def send_bulk(self, topic: str, chunk: Chunk, available_frame: int, sample_rate: int) -> bool:
        """Publish a chunk of samples or features. False if a subscriber's queue was full."""
        shape = (chunk.values.shape[0], chunk.values.shape[1])
        h = self.bulk.header(topic, chunk.frame, available_frame, None)
        header = p.BulkHeader(
            *(h.version, h.boot_id, h.epoch, h.sequence, h.frame, h.available_frame, h.sent_ns, h.due_ns),
            *(p.BULK_FORMAT, chunk.axes, shape, chunk.step, sample_rate),
        )
        return self.bulk.send(p.encode_bulk(topic, header, chunk.values))

    def requests(self, limit: int) -> Iterator[tuple[str, list[bytes], list[bytes]]]:
        """At most `limit` waiting requests, each as (who asks, envelope to answer to, frames of the request). Never raises.

        Who asks is the name of the client's key; where there are no keys, its connection.
        """
        for _ in range(limit):
            try:
                frames = self.control.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.ZMQError:
                return
            parts = [frame.bytes for frame in frames]
            who = str(frames[-1]["User-Id"]) if self.public_key else parts[0].hex()
            head = 2 if len(parts) > 1 and parts[1] == b"" else 1  # a REQ socket puts an empty frame before the request
            yield who, parts[:head], parts[head:]

    def reply(self, envelope: list[bytes], frames: list[bytes]) -> None:
        """Answer; dropped and counted if the client is gone or does not read its replies."""
        try:
            self.control.send_multipart([*envelope, *frames], zmq.DONTWAIT)
        except zmq.ZMQError:
            self.dropped_replies += 1

    def close(self) -> None:
        """Let the last events leave, then close everything."""
        self.events.socket.close(linger=LAST_WORDS_MS)
        self.bulk.socket.close(linger=0)
        self.control.close(linger=LAST_WORDS_MS)
        self.doorman.close()
        self._context.term()
        for path in self._files:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _limit(limited: zmq.Socket[bytes], queue: int, max_size: int) -> None:
    limited.setsockopt(zmq.LINGER, 0)
    limited.setsockopt(zmq.SNDHWM, queue)
    limited.setsockopt(zmq.RCVHWM, queue)
    limited.setsockopt(zmq.MAXMSGSIZE, max_size)
    limited.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_S * 1000)
    limited.setsockopt(zmq.BACKLOG, BACKLOG)
    limited.setsockopt(zmq.HEARTBEAT_IVL, PING_MS)
    limited.setsockopt(zmq.HEARTBEAT_TIMEOUT, PONG_MS)
    limited.setsockopt(zmq.TCP_KEEPALIVE, 1)
    for option, value in zip((zmq.TCP_KEEPALIVE_IDLE, zmq.TCP_KEEPALIVE_INTVL, zmq.TCP_KEEPALIVE_CNT), KEEPALIVE_S, strict=True):
        limited.setsockopt(option, value)


def _answers(path: str) -> bool:
    """Whether somebody listens on the ipc socket at `path`; a file that a crash has left does not answer."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(path)
        except OSError:
            return False
        return True
