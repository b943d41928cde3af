"""The section `wire`: where clients connect, and which keys they need."""

from __future__ import annotations

import re

import msgspec

from rtserver.config.bounds import within
from rtserver.errors import ConfigError

# An endpoint that other machines cannot reach.
LOCAL = re.compile(r"tcp://(127\.\d+\.\d+\.\d+|localhost|\[::1\]):(\d{1,5}|\*)|ipc:///.+")
_REMOTE = re.compile(r"tcp://([\w.*-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5}|\*)")


class Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """ZeroMQ endpoints. Anything but loopback and ipc is refused without keys (docs/protocol.md, "Security").

    server_key : file of the server's secret key; with it all three sockets are encrypted and let nobody in whose public key does not lie in
    the folder `allow`. `rtserver keys` makes both. Relative paths count from the configuration file.
    """

    enabled: bool = True
    control: str = "tcp://127.0.0.1:5580"
    events: str = "tcp://127.0.0.1:5581"
    bulk: str = "tcp://127.0.0.1:5582"
    server_key: str = ""  # empty: no encryption, and only programs on this machine
    allow: str = ""  # folder of the public keys of the clients that may connect
    lookahead_s: float = 0.02  # how long before it is due the performer's notes are told at the latest: 0 to 1; the way to a client


def check_wire(wire: Wire) -> None:
    """What types cannot say. Raises `ConfigError` with the path of the field."""
    within("wire.lookahead_s", wire.lookahead_s, 0, 1)
    for key in ("control", "events", "bulk"):
        field, endpoint = f"wire.{key}", getattr(wire, key)
        if LOCAL.fullmatch(endpoint):
            continue
        if not _REMOTE.fullmatch(endpoint):
            raise ConfigError(field, f"expected tcp://ADDRESS:PORT or ipc:///PATH, got {endpoint!r}")
        if not wire.server_key:
            remedy = "make keys with `rtserver keys new` and set wire.server_key and wire.allow, or stay on tcp://127.0.0.1"
            raise ConfigError(field, f"{endpoint!r} is open to other machines, where nobody may come in without keys: {remedy}")
    if wire.server_key and not wire.allow:
        raise ConfigError("wire.allow", "with wire.server_key, expected the folder of the public keys of the clients that may connect")
    if wire.allow and not wire.server_key:
        raise ConfigError("wire.server_key", "with wire.allow, expected the file of the server's secret key; `rtserver keys new` makes one")
