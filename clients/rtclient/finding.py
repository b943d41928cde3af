"""Where a server is."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote


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
