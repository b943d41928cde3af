"""Cutting a stream of one block size into hops of another, and back.

Brute force over all pairs shows the smallest delay that never runs dry: ``hop − gcd(hop, block)`` frames (S. Letz, "Callback adaptation
techniques", 2001).
"""

from __future__ import annotations

import math

import numpy as np

from rtserver.errors import SpecError
from rtserver.node import Array, Node, Spec, expect_signal


def reblock_latency(block_size: int, hop_size: int) -> int:
    """Frames that cutting blocks into hops and back adds, within one process."""
    return hop_size - math.gcd(hop_size, block_size)


def burst_latency(period: int, block_size: int) -> int:
    """Frames that a hand-over takes longer where blocks come in bursts, one burst a period of the device.

    Within a burst the engine cannot run: the last block of one plays what the input up to the burst before has brought, which lies
    one period, rounded to blocks, and not one block back. 0 where the period is not longer than the block.
    """
    if period <= block_size:
        return 0
    return period - math.gcd(period, block_size)


def handoff_latency(block_size: int, hop_size: int, spare_blocks: int) -> int:
    """The same across two processes, where a block is heard one block after it came, plus the slack of `spare_blocks`."""
    return reblock_latency(block_size, hop_size) + (1 + spare_blocks) * block_size


class Fifo:
    """A queue: ``(..., frames)`` blocks in, blocks of any other size out. Fixed capacity, no allocation after creation."""

    def __init__(self, leading_shape: tuple[int, ...], capacity: int) -> None:
        self._buffer = np.zeros((*leading_shape, capacity), np.float32)
        self.count = 0

    def clear(self, prefill: int = 0) -> None:
        """Empty the queue but for `prefill` frames of silence."""
        self._buffer[...] = 0.0
        self.count = prefill

    def push(self, x: Array) -> None:
        """Append a block; the caller sees to it that it fits."""
        n = x.shape[-1]
        self._buffer[..., self.count : self.count + n] = x
        self.count += n

    def pop(self, out: Array) -> None:
        """Take the oldest block of `out`'s size; the caller sees to it that it is there."""
        n = out.shape[-1]
        out[...] = self._buffer[..., :n]
        rest = self.count - n
        # Moved in pieces no longer than the gap: overlapping NumPy assignment would make a temporary copy.
        for start in range(0, rest, n):
            stop = min(start + n, rest)
            self._buffer[..., start:stop] = self._buffer[..., start + n : stop + n]
        self.count = rest


class Reblock:
    """Runs a node of hop H inside a stream of blocks B. Output rate and channels must equal the input's.

    Input    (n_channels, block_size) float32
    Output   (..., n_channels, block_size) float32, as the node's with block_size frames
    Latency  hop_size − gcd(hop_size, block_size) + the node's, frames
    State    two queues of at most block_size + 2 · hop_size frames
    """

    def __init__(self, node: Node, hop_size: int) -> None:
        self.node = node
        self.inner_hop = hop_size  # not `hop_size`: this node takes blocks of any size
        self._added = 0

    @property
    def latency(self) -> int:
        return self._added + self.node.latency

    def prepare(self, spec: Spec) -> Spec:
        expect_signal(spec, "Reblock")
        inner = self.node.prepare(Spec.signal(spec.sample_rate, spec.shape[0], self.inner_hop))
        if inner.hop_size != self.inner_hop or inner.shape[-1] != self.inner_hop:
            raise SpecError(f"Reblock expects a node that returns signals of {self.inner_hop} frames, got {inner.shape}")
        self._added = reblock_latency(spec.hop_size, self.inner_hop)
        capacity = spec.hop_size + 2 * self.inner_hop
        self._in = Fifo(spec.shape[:-1], capacity)
        self._out = Fifo(inner.shape[:-1], capacity)
        self._x = np.zeros((*spec.shape[:-1], self.inner_hop), np.float32)
        self._y = inner.empty()
        self._out.clear(self._added)
        return Spec(spec.sample_rate, spec.hop_size, (*inner.shape[:-1], spec.hop_size), inner.dtype, inner.labels)

    def process(self, x: Array, out: Array) -> None:
        self._in.push(x)
        while self._in.count >= self.inner_hop:
            self._in.pop(self._x)
            self.node.process(self._x, self._y)
            self._out.push(self._y)
        self._out.pop(out)

    def reset(self) -> None:
        self.node.reset()
        self._in.clear()
        self._out.clear(self._added)
