"""A gateway as a real process, in a real session whose other roles are played by the test."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import zmq

from rtserver.config import Config, Score, Wire
from rtserver.events import Event, Position
from rtserver.shared.memory import Layout
from rtserver.shared.session import STATE, UP, Session, Setup, Track
from rtserver.wire import discovery
from rtserver.wire import protocol as p

PATIENCE_S = 30.0  # a busy machine is slow; no test waits this long when all is well


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"waited {PATIENCE_S} s for {what}")


def position(frame: int) -> Position:
    return Position(frame, frame + 10, frame / 100, frame / 100, 120.0, 1.0, "LOCKED")


def wire(folder: Path) -> Wire:
    return Wire(control=f"ipc://{folder}/control", events=f"ipc://{folder}/events", bulk=f"ipc://{folder}/bulk")


def configuration(folder: Path, **tables: Any) -> Config:
    return Config(**({"wire": wire(folder), "score": Score(file="minuet.musicxml")} | tables))


TRACKS = tuple(Track(source, "main", source, i, 1, 0) for i, source in enumerate(("harmonic", "percussive")))


class Gateway:
    """A session and its gateway's process. The endpoints lie in `folder`."""

    def __init__(self, folder: Path, config: Config | None = None) -> None:
        self.config = config or configuration(folder)
        score = str(folder / "score") if self.config.score.file else ""
        layout = Layout()
        Session.declare(layout, n_in=1, n_out=2, n_features=208)
        self.session = Session.create(layout, Setup(self.config, str(folder), score, TRACKS))
        for role in ("engine", "follower", "performer", "midi"):
            self.session.role(role)[STATE] = UP
        self.context = zmq.Context()
        self.context.setsockopt(zmq.LINGER, 0)  # a failed test must end, too
        if "*" not in self.config.wire.control:
            self.control = self.dealer()
        self.start()

    def start(self) -> None:
        self.session.role("gateway")[STATE] = 0
        fd = self.session.block.fd
        command = [sys.executable, "-m", "rtserver.roles.role", "gateway", str(fd)]
        self.process = subprocess.Popen(command, pass_fds=[fd], stderr=subprocess.PIPE, text=True)

    def started(self) -> Gateway:
        until(lambda: self.process.poll() is not None or int(self.session.role("gateway")[STATE]) == UP, "the gateway to come up")
        assert self.process.poll() is None, self.process.stderr.read() if self.process.stderr else ""
        return self

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> str:
        """End it in order; what it wrote to stderr."""
        self.process.terminate()
        return self.process.communicate(timeout=PATIENCE_S)[1]

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self.context.destroy(linger=0)

    def dealer(self) -> zmq.Socket[bytes]:
        control = self.context.socket(zmq.DEALER)
        control.connect(self.config.wire.control)
        return control

    def endpoint(self, name: str) -> str:
        """Where it says it can be reached."""
        return discovery.read(self.config.name).endpoints[name]

    def counters(self) -> dict[str, int]:
        return self.session.counters("gateway")

    def ask_raw(self, request: Any, mark: bytes = p.MARK) -> p.Reply:
        body = request if isinstance(request, bytes) else msgspec.msgpack.encode(request)
        self.control.send_multipart([mark, body])
        assert self.control.poll(int(PATIENCE_S * 1000)), "no reply"
        return p.decode_reply(self.control.recv_multipart())

    def ask(self, op: str, **arguments: Any) -> p.Reply:
        return self.ask_raw({"id": str(uuid.uuid4()), "op": op} | arguments)

    def result(self, op: str, **arguments: Any) -> dict[str, Any]:
        reply = self.ask(op, **arguments)
        assert reply.ok, reply.error
        return reply.result or {}

    def refused(self, op: str, **arguments: Any) -> p.Failure:
        reply = self.ask(op, **arguments)
        assert not reply.ok
        assert reply.error is not None
        return reply.error

    def subscribe(self, *topics: str, bulk: bool = False) -> Subscriber:
        return Subscriber(self, topics, self.config.wire.bulk if bulk else self.config.wire.events)

    def say(self, role: str, event: Event) -> None:
        """Play `role`, at the gateway's pace."""
        until(lambda: self.session.emit(role, event, "gateway"), "room in the ring")


class Subscriber:
    """A SUB socket; subscribed for certain once it has been made on the events endpoint."""

    def __init__(self, gateway: Gateway, topics: tuple[str, ...], endpoint: str) -> None:
        self.socket = gateway.context.socket(zmq.SUB)
        self.socket.connect(endpoint)
        for topic in topics:
            self.socket.subscribe(topic)
        if endpoint == gateway.config.wire.events:
            self.socket.subscribe("heartbeat")
            self.next("heartbeat")

    def receive(self) -> tuple[str, p.Header, p.WireEvent]:
        assert self.socket.poll(int(PATIENCE_S * 1000)), "nothing came"
        return p.decode_event(self.socket.recv_multipart())

    def next(self, topic: str) -> tuple[p.Header, Any]:
        """The next message on `topic`; others are skipped."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            got, header, event = self.receive()
            if got == topic:
                return header, event
        raise AssertionError(f"nothing came on {topic}")
