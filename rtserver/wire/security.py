"""Who may connect: CURVE key files, the allow-list, and the answer to ZeroMQ's question whether a key is known.

Key files are ZeroMQ certificates (``NAME.key`` public, ``NAME.key_secret`` both keys), as czmq and pyzmq write and read them. The question
comes as ZAP (ZeroMQ RFC 27) on a socket inside the process, answered in the gateway's own loop: a look at a folder, no thread, no waiting.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

import zmq
from zmq.auth import load_certificate  # pyright: ignore[reportUnknownVariableType]
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from rtserver.config import Wire
from rtserver.errors import ConfigError, DeviceError, RtserverError

ZAP_ENDPOINT = "inproc://zeromq.zap.01"  # where ZeroMQ asks; a name that RFC 27 gives
ZAP_VERSION = b"1.0"
DOMAIN = b"rtserver"
PUBLIC, SECRET = ".key", ".key_secret"
MAX_KEY_FILE = 4096  # bytes; ours have some 200
HANDSHAKE_S = 3  # a peer that has not finished its handshake by then is let go (ZeroMQ's default is 30 s)
COMPLAIN_S = 10.0  # a line on stderr about refused clients at most this often
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(rb"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")  # 32 bytes in Z85 (ZeroMQ RFC 32)


class KeyPair(NamedTuple):
    """A CURVE key pair, each 40 characters of Z85."""

    public: bytes
    secret: bytes


def default_folder() -> Path:
    """Where ``rtserver keys`` keeps keys: ``$XDG_CONFIG_HOME/rtserver/keys``, else ``~/.config/rtserver/keys``."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "rtserver" / "keys"


def new_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a key pair; returns its public and its secret file (mode 0600). Raises `RtserverError` if `name` is taken or no file name."""
    if not _NAME.fullmatch(name):
        raise RtserverError(f"a key's name has 1 to 64 letters, digits, dots, dashes and underscores, got {name!r}")
    public_file, secret_file = folder / f"{name}{PUBLIC}", folder / f"{name}{SECRET}"
    public, secret = (key.decode() for key in zmq.curve_keypair())
    body = f'metadata\n    name = "{name}"\ncurve\n    public-key = "{public}"\n'
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_new(secret_file, f'# rtserver: secret key of {name}. Show it to nobody\n{body}    secret-key = "{secret}"\n', 0o600)
        _write_new(public_file, f"# rtserver: public key of {name}\n{body}", 0o644)
    except FileExistsError as error:
        raise RtserverError(f"{error.filename} exists already; choose another name, or delete it if nobody needs it any more") from None
    return public_file, secret_file


def allow(folder: Path, public_file: Path) -> Path:
    """Put a public key on the allow-list in `folder`. Raises `RtserverError` if the file holds none."""
    key = read_public(public_file)
    there = folder / f"{public_file.stem}{PUBLIC}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    body = f'metadata\n    name = "{public_file.stem}"\ncurve\n    public-key = "{key.decode()}"\n'
    fresh = there.with_suffix(".new")  # not a name that the gateway reads
    fresh.write_text(body)
    os.replace(fresh, there)
    return there


def read_public(path: Path) -> bytes:
    """The public key in a key file, Z85. Raises `RtserverError`."""
    return _read(path)[0]


def read_pair(path: Path) -> KeyPair:
    """Both keys of a secret file. Raises `RtserverError`, also where others than the owner may read it."""
    public, secret = _read(path)
    if secret is None:
        raise RtserverError(f"{path} holds no secret key; name the file that ends in {SECRET}")
    if path.stat().st_mode & 0o077:
        raise RtserverError(f"{path} can be read by others; chmod 600 it, and make new keys if somebody may have")
    return KeyPair(public, secret)


def _read(path: Path) -> tuple[bytes, bytes | None]:
    try:
        if path.stat().st_size > MAX_KEY_FILE:
            raise RtserverError(f"{path} is too long for a key file")
        public, secret = load_certificate(str(path))
    except FileNotFoundError:
        raise RtserverError(f"no such key file: {path}; `rtserver keys new` makes one") from None
    except (OSError, ValueError, LookupError) as error:
        raise RtserverError(f"{path} is not a key file: {error}") from None
    for key in (public, secret):
        if key is not None and not _KEY.fullmatch(key):
            raise RtserverError(f"{path} is not a key file: a key has 40 characters of Z85")
    return public, secret


def _write_new(path: Path, text: str, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(fd, "w") as file:
        file.write(text)


class AllowList:
    """The clients that may connect: a folder of public key files, read again whenever it has changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[bytes, str] = {}
        self.unread: list[str] = []
        self._seen: list[tuple[str, int, int]] | None = None

    def refresh(self) -> set[bytes]:
        """Read the folder if it has changed; returns the keys that were taken off the list. A folder that is gone allows nobody."""
        try:
            with os.scandir(self.folder) as entries:
                found = sorted((e.name, e.stat().st_mtime_ns, e.stat().st_size) for e in entries if e.name.endswith(PUBLIC) and e.is_file())
        except OSError:
            found = []
        if found == self._seen:
            return set()
        self._seen = found
        before = set(self.names)
        self.names, self.unread = {}, []
        for name, _, _ in found:
            try:
                self.names[read_public(self.folder / name)] = name.removesuffix(PUBLIC)
            except RtserverError as error:
                self.unread.append(str(error))
        return before - set(self.names)


class Security:
    """What the configuration says of keys, read and checked. `pair` is None where there are none: then the endpoints are local.

    Raises `ConfigError` naming the field where a file is missing, unreadable or open to others.
    """

    def __init__(self, wire: Wire) -> None:
        self.pair: KeyPair | None = None
        self.allowed: AllowList | None = None
        if not wire.server_key:
            return
        if not zmq.has("curve"):
            raise DeviceError("wire.server_key: this build of ZeroMQ knows no CURVE; install pyzmq's own wheel")
        try:
            self.pair = read_pair(Path(wire.server_key).expanduser())
        except RtserverError as error:
            raise ConfigError("wire.server_key", str(error)) from None
        folder = Path(wire.allow).expanduser()
        if not folder.is_dir():
            raise ConfigError("wire.allow", f"no such folder: {folder}; `rtserver keys allow` makes it and puts a client's key in")
        self.allowed = AllowList(folder)
        self.allowed.refresh()
        if self.allowed.unread:
            raise ConfigError("wire.allow", self.allowed.unread[0])

    def protect(self, socket: zmq.Socket[bytes]) -> None:
        """Make a socket a CURVE server, before it is bound."""
        if self.pair is not None:
            socket.curve_server = True
            socket.curve_publickey, socket.curve_secretkey = self.pair
            socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # nobody to ask: nobody comes in


class Doorman:
    """Answers ZeroMQ when it asks whether a key may come in, and counts those who were not let in.

    `denied` counts connections that never finished the handshake: unknown keys, no keys, wrong server keys, bytes that are not ZeroMQ's.
    ZeroMQ says nothing of some of them, but it reports every connection and every finished handshake, and no handshake takes longer than
    `HANDSHAKE_S`: so many seconds later the difference is known. `revoked` turns true when a key is taken off the list: whoever holds it
    may still be connected.
    """

    EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_HANDSHAKE_SUCCEEDED

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], security: Security) -> None:
        self.allowed = security.allowed
        self.denied = 0
        self.revoked = False
        self._monitors: list[zmq.Socket[bytes]] = []
        self._accepted = self._admitted = 0
        self._earlier = deque([0] * (HANDSHAKE_S + 2), HANDSHAKE_S + 2)  # what was accepted at the last ticks
        self._complained_s = -COMPLAIN_S
        self._zap: zmq.Socket[bytes] | None = None
        if self.allowed is not None:
            self._zap = context.socket(zmq.REP)
            self._zap.linger = 0
            self._zap.bind(ZAP_ENDPOINT)

    def watch(self, socket: zmq.Socket[bytes]) -> None:
        """Count who comes to `socket`, from before it is bound."""
        self._monitors.append(socket.get_monitor_socket(self.EVENTS))

    def sockets(self) -> list[zmq.Socket[bytes]]:
        """What the gateway's poller is to watch."""
        return [*([self._zap] if self._zap else []), *self._monitors]

    def serve(self) -> None:
        """Answer and count everything that waits. Never waits itself."""
        while self._zap is not None and self._zap.poll(0):
            question = self._zap.recv_multipart()  # version, request id, domain, address, identity, mechanism, credentials
            address = question[3].decode("utf-8", "replace") if len(question) > 3 else ""
            key = question[6] if len(question) == 7 and question[5] == b"CURVE" else b""
            name = self._name(key, address)
            answer = (b"200", b"OK", name.encode()) if name else (b"400", b"key not on the allow-list", b"")
            self._zap.send_multipart([ZAP_VERSION, question[1] if len(question) > 1 else b"", *answer, b""])
        for monitor in self._monitors:
            while monitor.poll(0):
                if parse_monitor_message(monitor.recv_multipart())["event"] == zmq.EVENT_ACCEPTED:
                    self._accepted += 1
                else:
                    self._admitted += 1

    def tick(self) -> None:
        """Once a second: settle the count, look at the allow-list."""
        self._earlier.append(self._accepted)
        self.denied = max(self.denied, self._earlier[0] - self._admitted)
        self._refresh()

    def _refresh(self) -> None:
        if self.allowed is not None:
            unread = self.allowed.unread
            self.revoked |= bool(self.allowed.refresh())
            for message in self.allowed.unread:
                if message not in unread:
                    print(f"rtserver gateway: wire.allow: {message}", file=sys.stderr, flush=True)

    def _name(self, key: bytes, address: str) -> str:
        if self.allowed is None or len(key) != 32:
            return ""
        self._refresh()
        known = z85.encode(key)
        name = self.allowed.names.get(known, "")
        if not name and time.monotonic() - self._complained_s >= COMPLAIN_S:
            self._complained_s = time.monotonic()
            where = f"put its {PUBLIC} file into {self.allowed.folder} to let it in"
            print(f"rtserver gateway: refused the unknown key {known.decode()} from {address}; {where}", file=sys.stderr, flush=True)
        return name

    def close(self) -> None:
        """Close its sockets, after those that they watch."""
        for socket in self.sockets():
            socket.close(linger=0)
