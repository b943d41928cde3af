"""Waking another process from real-time code: a process-shared POSIX semaphore in the shared block.

``sem_post`` neither blocks nor allocates, so the native audio callback calls it. Where process-shared semaphores are missing
(macOS) the waiter polls every half millisecond.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # who only wakes somebody needs no NumPy
    from rtserver.shared.memory import Block, Layout

SEM_SIZE = 64  # bytes reserved; glibc's sem_t takes 32
POLL_S = 0.0005


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class Waker:
    """One semaphore: anyone may `post`, one process waits."""

    def __init__(self, block: Block, name: str) -> None:
        self.fd, self.offset = block.fd, block.offset(name)
        self._use(block.address + self.offset, block)

    @classmethod
    def inherited(cls, fd: int, offset: int) -> Waker:
        """The one at `offset` of the block behind an inherited descriptor, for a process that needs nothing else of it."""
        waker = cls.__new__(cls)
        waker.fd, waker.offset = fd, offset
        mapped = mmap.mmap(fd, os.fstat(fd).st_size)
        waker._use(ctypes.addressof(ctypes.c_char.from_buffer(mapped)) + offset, mapped)
        return waker

    def _use(self, address: int, keep: Any) -> None:
        self._keep = keep  # mapped for as long as we are there
        self._address = ctypes.c_void_p(address)
        self.native = sys.platform == "linux"
        if self.native:
            self._libc = ctypes.CDLL(None, use_errno=True)

    @staticmethod
    def declare(layout: Layout, name: str) -> None:
        """Reserve the field."""
        layout.add(name, "u1", (SEM_SIZE,))

    def init(self) -> None:
        """Make the semaphore; once, by the creator of the block."""
        if self.native and self._libc.sem_init(self._address, 1, 0) != 0:
            raise OSError(ctypes.get_errno(), "sem_init failed")

    def post(self) -> None:
        """Wake the waiter."""
        if self.native:
            self._libc.sem_post(self._address)

    def wait(self, timeout_s: float) -> bool:
        """Wait for a post; False after `timeout_s`. Several posts may be taken as one: look at the data, not at the count."""
        if not self.native:
            time.sleep(min(timeout_s, POLL_S))
            return True
        if self._libc.sem_trywait(self._address) != 0:
            until_s = time.monotonic() + timeout_s
            until = _Timespec(int(until_s), int((until_s % 1.0) * 1e9))
            if self._libc.sem_clockwait(self._address, time.CLOCK_MONOTONIC, ctypes.byref(until)) != 0:
                return False
        while self._libc.sem_trywait(self._address) == 0:
            pass
        return True
