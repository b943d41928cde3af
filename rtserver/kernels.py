"""How kernels are compiled and where they are kept.

numba keys its cache by the file of the compiled function alone: editing a callee in another file leaves the caller's kernel
stale. So the cache folder is named after a hash of all kernel sources, the numba version and the processor; whoever imports numba
goes through this module, which sets the folder before numba is imported.
"""

from __future__ import annotations

import hashlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent
KERNEL_FOLDERS = ("dsp", "audio", "following", "generation", "shared")


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


os.environ["NUMBA_CACHE_DIR"] = str(cache_folder())

import numba  # noqa: E402  (the cache folder must be set first)

# fastmath=True would delete NaN guards ('nnan', 'ninf'); these flags keep them.
FASTMATH = {"nsz", "arcp", "contract", "reassoc", "afn"}


def jit(signature: Any, **options: Any) -> Any:
    """`numba.njit` with an explicit signature, cached, without the GIL, NaN guards kept, division by zero as numpy has it."""
    defaults: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": FASTMATH, "error_model": "numpy", "boundscheck": False}
    return numba.njit(signature, **(defaults | options))
