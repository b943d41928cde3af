"""Asking a running server, from a command or a script. What programs in other languages do is in ``docs/protocol.md`` and ``clients/``."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

import zmq

from rtserver.errors import ProtocolError, RtserverError
from rtserver.wire import protocol as p
from rtserver.wire import requests as r
from rtserver.wire.security import KeyPair

TIMEOUT_S = 2.0


class Client:
    """The control socket of a server as its client sees it.

    Parameters
    ----------
    control : str
        Endpoint, as ``wire.control`` in the server's configuration.
    name : str
        Of this client; the server tells it to others. Empty: it is not told.
    server : str
        Name that the server must have; empty takes any.
    server_key : bytes
        The server's public key, Z85; empty where its sockets ask for none.
    keys : KeyPair or None
        This client's own.
    """

    def __init__(
        self,
        control: str,
        name: str = "",
        server: str = "",
        *,
        server_key: bytes = b"",
        keys: KeyPair | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.control = control
        self._server_key, self._keys = server_key, keys
        self.timeout_s = timeout_s
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._connect()
        try:
            self.hello = self.ask("hello", client=name)
            found = str(self.hello["server"])
            if server and found != server:
                raise RtserverError(f"the server at {control} is called {found!r}, not {server!r}: name its configuration or its endpoint")
        except RtserverError:
            self.close()
            raise

    def _connect(self) -> zmq.Socket[bytes]:
        made = self._socket_of(zmq.DEALER)
        made.connect(self.control)
        return made

    def _socket_of(self, kind: int) -> zmq.Socket[bytes]:
        made = self.context.socket(kind)
        made.setsockopt(zmq.LINGER, 0)
        if self._server_key and self._keys:
            made.curve_serverkey, made.curve_publickey, made.curve_secretkey = self._server_key, self._keys.public, self._keys.secret
        return made

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """One request, and its result. Raises `RtserverError` where no answer comes in time, `ProtocolError` where the server refuses."""
        request = r.REQUESTS[op](id=str(uuid.uuid4()), **arguments)
        with contextlib.suppress(zmq.Again):  # refused at once, a socket has nobody to send to, and would wait for ever
            self._socket.send_multipart(p.encode_request(request), zmq.DONTWAIT)
        while self._socket.poll(round(self.timeout_s * 1000)):
            reply = p.decode_reply(self._socket.recv_multipart())
            if reply.id != request.id:  # one that came too late for its own request
                continue
            if reply.ok:
                return reply.result or {}
            assert reply.error is not None
            raise ProtocolError(f"{op}: {reply.error.message}")
        raise RtserverError(f"no server answers at {self.control}: is it running, is that its wire.control, does it ask for keys?")

    def subscribe(self, topics: list[str]) -> zmq.Socket[bytes]:
        """A socket that gets the server's events of `topics`."""
        events = self._socket_of(zmq.SUB)
        for topic in topics:
            events.subscribe(topic.encode())
        events.connect(reachable(str(self.hello["endpoints"]["events"]), self.control))
        return events

    def close(self) -> None:
        """Let go of everything, subscriptions too."""
        self.context.destroy(linger=0)


def reachable(endpoint: str, control: str) -> str:
    """An endpoint as the server states it, from where `control` reached it: a server that listens everywhere does not know its address."""
    for everywhere in ("tcp://0.0.0.0:", "tcp://[::]:", "tcp://*:"):
        if endpoint.startswith(everywhere) and control.startswith("tcp://"):
            return f"{control.rpartition(':')[0]}:{endpoint.removeprefix(everywhere)}"
    return endpoint
