"""Running a node somewhere else, a declared number of hops later.

The result of hop k is asked for at hop k + n_hops. If it is there, the output is the node's, delayed; if not, it is the fallback
(silence) and a count. Nobody waits.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from rtserver.node import Array, Node, Spec


class Executor(Protocol):
    """Where the work is done. Generations make `reset` wait-free: results of an older generation are stale and dropped."""

    def prepare(self, node: Node, spec: Spec) -> Spec:
        """Prepare the node where it will run."""
        ...

    def submit(self, generation: int, hop: int, x: Array) -> None:
        """Hand over one hop; `x` is copied."""
        ...

    def collect(self, generation: int, hop: int, out: Array) -> bool:
        """Copy the result of `hop` into `out` if it has come. Never waits."""
        ...


class Inline:
    """The executor of freewheeling and tests: does the work at once, so that nothing is ever late."""

    def __init__(self, n_hops: int) -> None:
        self._n = n_hops + 1

    def prepare(self, node: Node, spec: Spec) -> Spec:
        self._node = node
        out = node.prepare(spec)
        self._results = [out.empty() for _ in range(self._n)]
        self._generation = 0
        return out

    def submit(self, generation: int, hop: int, x: Array) -> None:
        if generation != self._generation:
            self._node.reset()
            self._generation = generation
        self._node.process(x, self._results[hop % self._n])

    def collect(self, generation: int, hop: int, out: Array) -> bool:
        np.copyto(out, self._results[hop % self._n])
        return True


class Deferred:
    """A node whose result is used `n_hops` hops later.

    Input, output   as the node's
    Latency         the node's + n_hops · hop_size, frames
    State           counters; the executor holds the rest. `misses` counts hops whose result was not there.
    """

    def __init__(self, node: Node, n_hops: int, executor: Executor | None = None) -> None:
        self.node = node
        self.n_hops = n_hops
        self.executor: Executor = executor or Inline(n_hops)
        self.misses = 0
        self._hop = 0
        self._generation = 0
        self._hop_size = 0

    @property
    def latency(self) -> int:
        return self.node.latency + self.n_hops * self._hop_size

    def prepare(self, spec: Spec) -> Spec:
        self._hop_size = spec.hop_size
        return self.executor.prepare(self.node, spec)

    def process(self, x: Array, out: Array) -> None:
        self.executor.submit(self._generation, self._hop, x)
        due = self._hop - self.n_hops
        self._hop += 1
        if due < 0:
            out[...] = 0.0
        elif not self.executor.collect(self._generation, due, out):
            out[...] = 0.0
            self.misses += 1

    def reset(self) -> None:
        self._generation += 1
        self._hop = 0
