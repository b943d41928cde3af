"""The JACK connections of a MIDI port: made by pattern, watched, kept in a file, made again.

A user connects with whatever tool is at hand, so what was connected by hand must survive a restart as well as what the configuration
asks for. On ALSA and CoreMIDI ports are opened by name instead (`rtserver.midi.ports`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Set
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import jack

POLL_S = 0.25  # how often connections are looked at: one look takes about 0.5 ms


def jack_client(name: str) -> jack.Client | None:
    """A client without ports for looking at and making connections; None where no JACK server answers. Never starts a server.

    The server is the one that ``JACK_DEFAULT_SERVER`` names.
    """
    try:
        import jack
    except (ImportError, OSError):  # OSError: libjack itself is missing
        return None
    jack.set_error_function(_quiet)
    jack.set_info_function(_quiet)
    try:
        return jack.Client(name, no_start_server=True)
    except jack.JackOpenError:
        return None


def _quiet(_message: str) -> None:
    """libjack tells stderr that there is no server; the caller says it once, in words."""


class Links:
    """The connections of one of our ports.

    Parameters
    ----------
    client
        From `jack_client`.
    port
        Full name of our port.
    is_output
        Whether our port sends.
    patterns
        Ports whose name contains one of these (in any case) are connected as soon as they appear.
    exclude
        Ports whose name starts so are our own and never connected.
    """

    def __init__(self, client: jack.Client, port: str, is_output: bool, patterns: Collection[str] = (), exclude: str = "") -> None:
        self.port = port
        self.connected: set[str] = set()
        self.gone = 0  # connected ports that went away
        self.back = 0  # of them, those that came back and were connected again
        self._client = client
        self._is_output = is_output
        self._patterns = [p.lower() for p in patterns]
        self._exclude = exclude
        self._wanted: set[str] = set()  # connected once and not disconnected by hand: to be connected again when it comes back
        self._missed: set[str] = set()
        self._seen: set[str] = set()

    def restore(self, names: Collection[str]) -> None:
        """Take over what an earlier port was connected to; it is connected at the next `poll`, patterns or not."""
        self._wanted |= set(names)

    def poll(self, match: bool = True, fresh: Set[str] = frozenset()) -> set[str]:
        """Look, and connect what has appeared since the last look and is wanted or, if `match`, fits a pattern.

        `fresh` are ports that were registered since then: one that goes and comes back between two looks is there at both.
        Returns the new connections, whoever made them.
        """
        peers, now = self._peers(), self._now()
        replaced = (self.connected & fresh) - now
        self.gone += len(replaced)
        self.connected -= replaced
        self._seen -= fresh
        self.gone += len(self.connected - now - peers)
        missing = (self.connected - now) & peers  # taken off by hand, or our own port is just going down: the next look tells
        self._wanted -= missing & self._missed
        self._missed = missing - self._missed
        made: set[str] = set()  # counts as connected even if it goes before we are done: making a connection takes a period or two
        failed: set[str] = set()
        for name in peers - self._seen - now:
            if name in self._wanted or (match and any(p in name.lower() for p in self._patterns)):
                if self._attempt(self._client.connect, name):
                    made.add(name)
                    self.back += name in self._wanted
                else:
                    failed.add(name)
        self._seen = peers - failed  # those are tried again: our own port may not be there yet, or JACK be busy
        now = self._now() | made
        new = now - self.connected
        self.connected = now | self._missed
        self._wanted |= now
        return new

    def follow(self, names: Collection[str]) -> None:
        """Make the connections equal to `names`, as far as they exist."""
        now = self._now()
        for name in (set(names) & self._peers()) - now:
            self._attempt(self._client.connect, name)
        for name in now - set(names):
            self._attempt(self._client.disconnect, name)

    @property
    def wanted(self) -> list[str]:
        """What to keep for a later port: everything connected, and what was connected when it went away."""
        return sorted(self._wanted)

    def _peers(self) -> set[str]:
        """Names of the ports that ours could be connected to."""
        ports = self._client.get_ports(is_midi=True, is_input=self._is_output, is_output=not self._is_output)
        return {p.name for p in ports if not (self._exclude and p.name.startswith(self._exclude))}

    def _now(self) -> set[str]:
        import jack

        try:
            names = {p.name for p in self._client.get_all_connections(self.port)}
            return {name for name in names if not (self._exclude and name.startswith(self._exclude))}
        except jack.JackError:  # our port is not there
            return set()

    def _attempt(self, action: Callable[[str, str], None], name: str) -> bool:
        """Whether it could be done: the peer may have gone between the look and the deed. The next look will tell."""
        import jack

        try:
            action(*((self.port, name) if self._is_output else (name, self.port)))
        except jack.JackError:
            return False
        return True


def save(path: Path, connections: dict[str, list[str]]) -> None:
    """Keep the connections of ports by their short names. Readers see the old file or the new one, never a half."""
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(connections))
    new.replace(path)


def load(path: Path) -> dict[str, list[str]] | None:
    """What `save` kept; None if there is nothing (readable)."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, list[str]])
    except (OSError, msgspec.DecodeError):
        return None
