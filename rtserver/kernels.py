"""How kernels are compiled, and how often one was.

Whoever imports numba goes through this module, which sets the folder of its cache first (`kernelcache`).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from rtserver.kernelcache import cache_folder

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


def inlined(function: Callable[..., Any]) -> Any:
    """A function that becomes part of each kernel that calls it, as if it had been written there: sizes that are constants of the kernel
    are constants in it too. It has no signature, for it is never compiled by itself."""
    return numba.njit(inline="always")(function)


def cfunc(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.cfunc` for a native callback: cached, division by zero as numpy has it."""

    def decorate(function: Callable[..., Any]) -> Any:
        made = numba.cfunc(signature, nopython=True, cache=True, error_model="numpy")(function)
        if not made.cache_hits:  # numba tells of its other kernels, not of these
            _compiled()
        return made

    return decorate
