"""The JACK connections of the audio stream: learned while it plays, made again when it comes back.

Whoever connected them, a hand or a program: a stream that is opened anew has the ports of the last one and none of its connections, but
for those that PortAudio makes by itself to the physical ports, wanted or not.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rtserver.errors import DeviceError

if TYPE_CHECKING:
    import jack


class Kept(msgspec.Struct):
    """What outlives whoever keeps it: the process whose stream was seen last, and the peers of each of its ports by short name."""

    pid: int = 0
    peers: dict[str, list[str]] = msgspec.field(default_factory=dict[str, list[str]])


class Connections:
    """The connections of one client's audio ports.

    Parameters
    ----------
    client : jack.Client
        Any client on the same server; it needs no ports.
    name : str
        The audio client whose connections are kept.
    kept : Kept
        What was known before.
    """

    def __init__(self, client: jack.Client, name: str, kept: Kept) -> None:
        self._client = client
        self._name = name
        self._wanted = {port: set(peers) for port, peers in kept.peers.items()}
        self._there: set[str] | None = None  # peers at the last look
        self._suspect: dict[str, set[str]] = {}  # connections that were missing at the last look

    @property
    def peers(self) -> dict[str, list[str]]:
        """Whom each port is to be connected to."""
        return {port: sorted(wanted) for port, wanted in self._wanted.items()}

    def look(self) -> None:
        """While the stream plays: learn what is connected, and connect what was away and has come back.

        A connection counts as taken off by hand when both its ends are there and it is missing at two looks in a row: at one, the stream
        may just be going down.
        """
        there = self._others()
        before = there if self._there is None else self._there
        for port in self._ours():
            wanted = self._wanted.setdefault(port.shortname, set())
            now = self._now(port)
            missing = (wanted - now) & there
            for peer in missing - before:
                self._attempt(self._client.connect, port, peer)
            missing &= before
            wanted -= missing & self._suspect.get(port.shortname, set())
            wanted |= now
            self._suspect[port.shortname] = missing
        self._there = there

    def restore(self, exactly: bool) -> int:
        """Connect the ports of a new stream as the last one's; if `exactly`, take off what that had not. Returns how many were made."""
        there, made = self._others(), 0
        for port in self._ours():
            if port.shortname not in self._wanted:
                continue
            wanted, now = self._wanted[port.shortname], self._now(port)
            made += sum(self._attempt(self._client.connect, port, peer) for peer in (wanted & there) - now)
            for peer in now - wanted if exactly else ():
                self._attempt(self._client.disconnect, port, peer)
        self._there, self._suspect = there, {}
        return made

    def _ours(self) -> list[jack.Port]:
        return self._client.get_ports(f"^{re.escape(self._name)}:", is_audio=True)

    def _others(self) -> set[str]:
        return {port.name for port in self._client.get_ports(is_audio=True) if not port.name.startswith(f"{self._name}:")}

    def _now(self, port: jack.Port) -> set[str]:
        import jack

        try:
            return {peer.name for peer in self._client.get_all_connections(port)}
        except jack.JackError:  # it has gone since we looked
            return set()

    def _attempt(self, action: Callable[[str, str], None], port: jack.Port, peer: str) -> bool:
        import jack

        with contextlib.suppress(jack.JackError):  # an end may have gone since we looked: the next look tells
            action(*((peer, port.name) if port.is_input else (port.name, peer)))
            return True
        return False


def save(path: Path, kept: Kept) -> None:
    """Keep it for the next one. Readers see the old file or the new one, never a half. Raises `DeviceError` where that fails."""
    try:
        new = path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(kept))
        new.replace(path)
    except OSError as error:
        raise DeviceError(f"cannot keep the JACK connections in {path}: {error.strerror}; is the disk full?") from None


def load(path: Path) -> Kept:
    """What `save` kept; nothing where there is nothing readable."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError):
        return Kept()
