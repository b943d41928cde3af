"""Where compiled kernels are kept: a folder that is named after all that they were compiled from.

numba keys its cache by the file of the compiled function alone: editing a callee in another file leaves the caller's kernel stale. So
the folder's name is a hash of all kernel sources, the numba version and the processor. This module does not load numba.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

_PACKAGE = Path(__file__).parent
KERNEL_FOLDERS = ("dsp", "audio", "following", "generation", "shared")
KEEP_FOLDERS, KEEP_S = 2, 86400.0  # the last used caches stay, and any used within a day of them: another checkout may be at work


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def source_hash() -> str:
    """A hash of every source that can hold a kernel, of numba and of the processor."""
    h = hashlib.sha256(f"{metadata.version('numba')} {platform.python_version()} {_processor()}".encode())
    for folder in KERNEL_FOLDERS:
        for path in sorted((_PACKAGE / folder).glob("*.py")):
            h.update(path.name.encode())
            h.update(path.read_bytes())
    return h.hexdigest()[:16]


def cache_folder() -> Path:
    """The folder of compiled kernels for the sources as they are now."""
    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return root / "rtserver" / "kernels" / source_hash()


@contextmanager
def warming() -> Generator[None]:
    """Hold the lock of the cache while kernels are compiled, so that two servers do not compile the same ones. Old caches go afterwards."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.utime(file.fileno())
        yield
    prune(folder.parent)


def prune(root: Path) -> list[Path]:
    """Remove the caches of sources that are no more: all but the `KEEP_FOLDERS` last used and those used within `KEEP_S` of the last."""

    def used_s(folder: Path) -> float:
        lock = folder / "lock"
        return (lock if lock.exists() else folder).stat().st_mtime

    folders = sorted((p for p in root.iterdir() if p.is_dir()), key=used_s, reverse=True)
    stale = [folder for folder in folders[KEEP_FOLDERS:] if used_s(folder) < used_s(folders[0]) - KEEP_S]
    for folder in stale:
        shutil.rmtree(folder, ignore_errors=True)
    return stale
