"""Where a server says that it is there: one file by its name in the user's run-time folder. Clients find a server by that name.

The file is written whole or not at all, and removed at the end. One that a crash has left names a process that is gone, or a session that
the server at its endpoint does not know.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote

import msgspec

from rtserver.errors import RtserverError

MAX_SIZE = 1 << 16  # bytes of such a file


class Notice(msgspec.Struct, frozen=True):
    """What the file says. Keys that are not listed here are ignored: a later version may add some."""

    name: str
    versions: list[int]
    release: str
    pid: int  # of the supervisor: it lives as long as the session
    boot_id: str
    epoch: int
    endpoints: dict[str, str]
    public_key: str = ""  # of the server, Z85; empty where the sockets ask for no keys


def folder() -> Path:
    """``$XDG_RUNTIME_DIR/rtserver``; where that is not set, ``rtserver-UID`` in the folder for temporary files."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "rtserver" if runtime else Path(tempfile.gettempdir()) / f"rtserver-{os.getuid()}"


def path_of(name: str) -> Path:
    """The file of the server called `name`."""
    return folder() / f"{quote(name, safe='')[:200]}.json"


def write(notice: Notice) -> Path:
    """Leave `notice` for clients. Raises `OSError`, also where the folder is not this user's alone: others could lead clients astray."""
    path = path_of(notice.name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _own(path.parent)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(notice)))
    os.replace(fresh, path)
    return path


def read(name: str) -> Notice:
    """The notice of the server called `name`. Raises `RtserverError` where there is none, or one of a server that is gone."""
    path = path_of(name)
    try:
        _own(path.parent)
        with path.open("rb") as file:
            notice = decode(file.read(MAX_SIZE + 1))
    except FileNotFoundError:
        raise RtserverError(f"no server called {name!r} runs here: there is no {path}") from None
    except OSError as error:
        raise RtserverError(f"{path}: {error.strerror}") from None
    if not _alive(notice.pid):
        raise RtserverError(f"the server called {name!r} has ended without a word: {path} names process {notice.pid}, which is gone")
    return notice


def decode(data: bytes) -> Notice:
    """The notice in a file. Raises `RtserverError`."""
    try:
        return msgspec.json.decode(data, type=Notice)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RtserverError(f"not a notice of a server: {error}") from None


def remove(notice: Notice) -> None:
    """Take `notice` away, unless another server has put its own there."""
    path = path_of(notice.name)
    with contextlib.suppress(OSError, RtserverError):
        if decode(path.read_bytes()) == notice:
            path.unlink()


def _own(there: Path) -> None:
    found = there.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(1, "the folder is not this user's alone", str(there))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return pid > 0
