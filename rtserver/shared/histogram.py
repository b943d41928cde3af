"""Histograms of durations in shared memory: eight buckets an octave, one writer, any number of readers, nobody waits.

A duration of *n* ns falls into the bucket of its highest bit and the three bits behind it, as in Gil Tene's HdrHistogram: a bucket is
never wider than an eighth of what is in it, and finding it takes no logarithm. Adding costs well under a microsecond.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from rtserver.node import Array
from rtserver.shared.memory import Block, Layout

LOWEST, N_OCTAVES = 8, 24  # from 2^8 ns (0.3 µs) to 2^32 ns (4 s); what is shorter or longer counts in the first or last bucket
N_BUCKETS = 8 * N_OCTAVES
SUM_NS, MAX_NS = N_BUCKETS, N_BUCKETS + 1  # cells behind the buckets
N_CELLS = N_BUCKETS + 8

MAX_ROWS, NAME_SIZE = 32, 40  # histograms in a table; bytes of a name
Process = Callable[..., None]


def bucket(ns: int) -> int:
    """Index of the bucket of a duration."""
    octave = ns.bit_length() - 1 - LOWEST
    if octave < 0:
        return 0
    return min((octave << 3) + (ns >> (octave + LOWEST - 3) & 7), N_BUCKETS - 1)


def edge_ns(index: int) -> int:
    """Lower edge of a bucket, ns."""
    return (8 + index % 8) << (LOWEST - 3 + index // 8)


class Histogram:
    """One histogram over `N_CELLS` int64.

    Parameters
    ----------
    cells : (N_CELLS,) int64, or None for one of its own
    """

    def __init__(self, cells: Array | None = None) -> None:
        self.cells: Array = np.zeros(N_CELLS, np.int64) if cells is None else cells
        self._view = self.cells.data  # one value at a time costs a fifth of what it does through NumPy

    def add(self, ns: int) -> None:
        """Count a duration; only the owner does."""
        cells = self._view
        cells[bucket(ns)] += 1
        cells[SUM_NS] += ns
        cells[MAX_NS] = max(cells[MAX_NS], ns)

    @property
    def count(self) -> int:
        """How many durations there are."""
        return int(self.cells[:N_BUCKETS].sum())

    @property
    def sum_s(self) -> float:
        """All durations together."""
        return float(self.cells[SUM_NS]) * 1e-9

    @property
    def max_s(self) -> float:
        """The longest duration since the owner started."""
        return float(self.cells[MAX_NS]) * 1e-9

    def quantile(self, q: float) -> float:
        """Seconds that a share `q` (0..1) of the durations does not exceed, off by an eighth at most. 0 if empty."""
        counts = self.cells[:N_BUCKETS].copy()  # the owner goes on counting
        total = int(counts.sum())
        if not total:
            return 0.0
        rank = q * total
        before = np.cumsum(counts)
        i = int(np.searchsorted(before, max(rank, 1e-9)))
        within = float((rank - (before[i] - counts[i])) / counts[i])
        low, high = edge_ns(i), edge_ns(i + 1)
        return min(low + max(within, 0.0) * (high - low), float(self.cells[MAX_NS])) * 1e-9

    def cumulative(self) -> list[tuple[float, int]]:
        """(upper edge in seconds, durations up to it) at each octave."""
        sums = np.cumsum(self.cells[:N_BUCKETS])
        return [(edge_ns(8 * (o + 1)) * 1e-9, int(sums[8 * o + 7])) for o in range(N_OCTAVES)]

    def since(self, earlier: Histogram) -> Histogram:
        """What came after `earlier`, a copy of this one made before; the maximum stays that of all time."""
        difference = self.cells - earlier.cells
        difference[MAX_NS] = self.cells[MAX_NS]
        return Histogram(difference)

    def copy(self) -> Histogram:
        """The histogram as it is now."""
        return Histogram(self.cells.copy())

    def summary(self) -> dict[str, float | int]:
        """Count, median, 99th percentile and maximum, ready for JSON."""
        return {"count": self.count, "p50_s": self.quantile(0.5), "p99_s": self.quantile(0.99), "max_s": self.max_s}


class HopTimes:
    """The histograms of a deck's engine, one a node and one for whole hops, by name. Rows are claimed by name; only the engine does."""

    @staticmethod
    def declare(layout: Layout, deck: int = 0) -> None:
        """Reserve the table of a deck."""
        layout.add(f"deck{deck}.hop_names", "|u1", (MAX_ROWS, NAME_SIZE))
        layout.add(f"deck{deck}.hop_times", "<i8", (MAX_ROWS, N_CELLS))

    def __init__(self, block: Block, deck: int = 0) -> None:
        self._names, self._cells = block[f"deck{deck}.hop_names"], block[f"deck{deck}.hop_times"]

    def clear(self) -> None:
        """Forget names and counts: a new engine begins."""
        self._names[:] = 0
        self._cells[:] = 0

    def claim(self, name: str) -> Histogram:
        """The histogram called `name`; a new one if there is none. When the table is full, one that nobody reads."""
        taken = self.names()
        if name in taken:
            return Histogram(self._cells[taken.index(name)])
        if len(taken) == MAX_ROWS:
            return Histogram()
        text = name.encode()[:NAME_SIZE]
        self._names[len(taken), : len(text)] = np.frombuffer(text, np.uint8)
        return Histogram(self._cells[len(taken)])

    def names(self) -> list[str]:
        """Names in the order they were claimed."""
        texts = (row.tobytes().rstrip(b"\0").decode(errors="replace") for row in self._names)
        return [text for text in texts if text]

    def all(self) -> dict[str, Histogram]:
        """Every histogram by name; they go on counting."""
        return {name: Histogram(self._cells[i]) for i, name in enumerate(self.names())}

    def timed(self, name: str, process: Process) -> Process:
        """`process`, timed into the histogram `name`; what `Graph.watch` takes."""
        add, clock_ns = self.claim(name).add, time.perf_counter_ns

        def run(*arguments: object) -> None:
            start = clock_ns()
            process(*arguments)
            add(clock_ns() - start)

        return run
