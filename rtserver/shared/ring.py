"""Rings in shared memory: one producer each, positions that only grow, no locks, no waiting.

Stores become visible in order on x86; on other processors a reader may see a position before the data for nanoseconds, which the
wakers' system calls order in practice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rtserver.node import Array
from rtserver.shared.memory import Block, Layout


class SampleRing:
    """Samples addressed by session frame: frame f lies at ``f mod capacity``. One writer, any number of readers.

    Fields: ``<name>.samples`` float32 (n_channels, capacity); ``<name>.span`` int64 (2,) = [valid_from, written_to): the frames that
    may be read. Capacity is a power of two.
    """

    def __init__(self, samples: Array, span: Array) -> None:
        self.samples = samples
        self.span = span
        self.capacity = samples.shape[1]

    @staticmethod
    def of(block: Block, name: str) -> SampleRing:
        """The ring declared as `name`."""
        return SampleRing(block[f"{name}.samples"], block[f"{name}.span"])

    @staticmethod
    def declare(layout: Layout, name: str, n_channels: int, capacity: int) -> None:
        """Reserve the fields."""
        if capacity & (capacity - 1):
            raise ValueError(f"capacity of {name} must be a power of two, got {capacity}")
        layout.add(f"{name}.samples", "<f4", (n_channels, capacity))
        layout.add(f"{name}.span", "<i8", (2,))

    @property
    def written_to(self) -> int:
        """One past the last frame written."""
        return int(self.span[1])

    def restart(self, frame: int) -> None:
        """Forget what was written; the next write starts at `frame`. Between the two stores the ring reads as empty."""
        self.span[0] = max(frame, int(self.span[1]))
        self.span[1] = frame
        self.span[0] = frame

    def write(self, x: Array, frame: int) -> None:
        """Write ``(n_channels, n)`` at `frame` (which must be `written_to`)."""
        n = x.shape[1]
        start = frame & (self.capacity - 1)
        head = min(n, self.capacity - start)
        self.samples[:, start : start + head] = x[:, :head]
        if head < n:
            self.samples[:, : n - head] = x[:, head:]
        self.span[1] = frame + n

    def read(self, frame: int, out: Array, channels: Sequence[int] | None = None) -> bool:
        """Copy ``(n_channels, n)`` frames from `frame` into `out`: those `channels`, all if None. False (and `out` undefined) if they
        are not there, or gone."""
        n = out.shape[1]
        if frame < self.span[0] or frame + n > self.span[1]:
            return False
        start = frame & (self.capacity - 1)
        head = min(n, self.capacity - start)
        for row, channel in enumerate(range(len(out)) if channels is None else channels):
            out[row, :head] = self.samples[channel, start : start + head]
            if head < n:
                out[row, head:] = self.samples[channel, : n - head]
        return bool(frame > self.span[1] - self.capacity)


class VectorRing:
    """Feature vectors, one a hop, each with the session frame at its end. One writer, any number of readers by index."""

    def __init__(self, block: Block, name: str) -> None:
        self.vectors = block[f"{name}.vectors"]
        self.frames = block[f"{name}.frames"]
        self.count = block[f"{name}.count"]
        self.capacity = len(self.frames)

    @staticmethod
    def declare(layout: Layout, name: str, size: int, capacity: int) -> None:
        """Reserve the fields."""
        layout.add(f"{name}.vectors", "<f4", (capacity, size))
        layout.add(f"{name}.frames", "<i8", (capacity,))
        layout.add(f"{name}.count", "<i8", (1,))

    def write(self, x: Array, frame: int) -> None:
        """Append one vector that ends just before session frame `frame`."""
        n = int(self.count[0])
        self.vectors[n % self.capacity] = x
        self.frames[n % self.capacity] = frame
        self.count[0] = n + 1

    def read(self, index: int, out: Array) -> int | None:
        """Copy vector `index`, or as much of its beginning as `out` holds, into `out` and return its frame; None if it is not there yet.

        Raises `IndexError` if it is gone.
        """
        n = int(self.count[0])
        if index >= n:
            return None
        if index <= n - self.capacity:
            raise IndexError(f"vector {index} is gone, the oldest is {n - self.capacity + 1}")
        out[:] = self.vectors[index % self.capacity, : len(out)]
        return int(self.frames[index % self.capacity])


class MessageRing:
    """Messages of at most `slot_size` − 2 bytes. One producer, one consumer. What does not fit is dropped and counted.

    Fields: ``<name>.slots`` uint8 (n_slots, slot_size), the first two bytes of a slot are the length; ``<name>.written``,
    ``<name>.read``, ``<name>.dropped`` int64 (1,).
    """

    def __init__(self, block: Block, name: str) -> None:
        self.slots = block[f"{name}.slots"]
        self.written = block[f"{name}.written"]
        self.taken = block[f"{name}.read"]
        self.dropped = block[f"{name}.dropped"]
        self.n_slots, self.slot_size = self.slots.shape

    @staticmethod
    def declare(layout: Layout, name: str, n_slots: int = 1024, slot_size: int = 256) -> None:
        """Reserve the fields."""
        layout.add(f"{name}.slots", "u1", (n_slots, slot_size))
        for counter in ("written", "read", "dropped"):
            layout.add(f"{name}.{counter}", "<i8", (1,))

    def put(self, message: bytes) -> bool:
        """Append a message. False if the ring is full or the message too long: dropped and counted."""
        n = int(self.written[0])
        size = len(message)
        if n - int(self.taken[0]) >= self.n_slots or size > self.slot_size - 2:
            self.dropped[0] += 1
            return False
        slot = self.slots[n % self.n_slots]
        slot[2 : 2 + size] = np.frombuffer(message, np.uint8)
        slot[0], slot[1] = size & 0xFF, size >> 8
        self.written[0] = n + 1
        return True

    def get(self) -> bytes | None:
        """The next message, or None."""
        n = int(self.taken[0])
        if n >= int(self.written[0]):
            return None
        slot = self.slots[n % self.n_slots]
        size = int(slot[0]) | int(slot[1]) << 8
        message = slot[2 : 2 + size].tobytes()
        self.taken[0] = n + 1
        return message

    def drain(self) -> list[bytes]:
        """All messages that are there."""
        messages: list[bytes] = []
        while (message := self.get()) is not None:
            messages.append(message)
        return messages


def statistics(ring: MessageRing) -> dict[str, Any]:
    """How full a message ring is and what it lost."""
    return {"waiting": int(ring.written[0] - ring.taken[0]), "written": int(ring.written[0]), "dropped": int(ring.dropped[0])}
