"""How kernels are compiled, where they are kept, and how often one was compiled.

numba keys its cache by the file of the compiled function alone: editing a callee in another file leaves the caller's kernel
stale. So the cache folder is named after a hash of all kernel sources, the numba version and the processor; whoever imports numba
goes through this module, which sets the folder before numba is imported.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

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


os.environ["NUMBA_CACHE_DIR"] = str(cache_folder())


@contextmanager
def _without_scipy() -> Generator[None]:
    """numba loads scipy for its BLAS, a quarter of a second and 17 MB in every process; no kernel here multiplies matrices."""
    if "scipy" in sys.modules:
        yield
        return
    modules: dict[str, Any] = sys.modules
    modules["scipy"] = None
    try:
        yield
    finally:
        del modules["scipy"]


with _without_scipy():
    import numba

    importlib.import_module("numba.np.arraymath")  # where it asks
from numba.core import event as _event  # noqa: E402

# fastmath=True would delete NaN guards ('nnan', 'ninf'); these flags keep them.
FASTMATH = {"nsz", "arcp", "contract", "reassoc", "afn"}

_listeners: list[Callable[[], object]] = []
_compilations = 0


def _compiled() -> None:
    global _compilations  # noqa: PLW0603 (numba's compiler is one for the whole process, and so is this count of its work)
    _compilations += 1
    for listener in _listeners:
        listener()


class _Counter(_event.Listener):
    """Hears of every kernel that was not in the cache."""

    def on_start(self, event: Any) -> None:
        _compiled()

    def on_end(self, event: Any) -> None:
        return None


_event.register("numba:compile", _Counter())


def compilations() -> int:
    """How many kernels this process has compiled, and not found in the cache."""
    return _compilations


def on_compile(listener: Callable[[], object]) -> None:
    """Call `listener` whenever a kernel is compiled from now on."""
    _listeners.append(listener)


def jit(signature: Any, **options: Any) -> Any:
    """`numba.njit` with an explicit signature, cached, without the GIL, NaN guards kept, division by zero as numpy has it."""
    defaults: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": FASTMATH, "error_model": "numpy", "boundscheck": False}
    return numba.njit(signature, **(defaults | options))


def cfunc(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.cfunc` for a native callback: cached, division by zero as numpy has it."""

    def decorate(function: Callable[..., Any]) -> Any:
        made = numba.cfunc(signature, nopython=True, cache=True, error_model="numpy")(function)
        if not made.cache_hits:  # numba tells of its other kernels, not of these
            _compiled()
        return made

    return decorate
