"""What timing every node costs: the graph of each preset with and without the histograms of `status`, hop by hop in turn.

    python benchmarks/watch.py [--hops N]

Each hop is processed twice by two graphs in the same state, one watched, one not, in alternating order; the figure is the median of the
differences, in ns a hop, beside what one `Histogram.add` takes. Results lie in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from machine import machine, write_result

from rtserver.config import parse
from rtserver.pipeline import build
from rtserver.shared.histogram import Histogram, HopTimes
from rtserver.shared.memory import Block, Layout


def compare(preset: str, n_hops: int) -> dict[str, float]:
    """Median hop with and without watch, and the median difference, ns."""
    plain, watched = (build(parse({"separation": {"preset": preset}}))["main"] for _ in range(2))
    layout = Layout()
    HopTimes.declare(layout)
    times = HopTimes(Block.create(layout))
    watched.watch(times.timed)
    n_nodes, hop = len(times.names()), plain.block.hop_size
    x = np.random.default_rng(0).uniform(-0.3, 0.3, (n_hops, 1, hop)).astype(np.float32)
    out = np.zeros((len(plain.outputs), 1, hop), np.float32)
    spent = {plain: np.zeros(n_hops), watched: np.zeros(n_hops)}
    for i in range(n_hops):
        for graph in (plain, watched) if i % 2 else (watched, plain):
            start = time.perf_counter_ns()
            graph.process(x[i], i * hop, out)
            spent[graph][i] = time.perf_counter_ns() - start
    late = n_hops // 10  # the first hops warm the caches
    difference = (spent[watched] - spent[plain])[late:]
    # Of each pair the second finds the input in the cache; the two orders are told apart and averaged.
    cost = (np.median(difference[::2]) + np.median(difference[1::2])) / 2
    return {
        "nodes": n_nodes,
        "hop_ns": float(np.median(spent[plain][late:])),
        "watched_ns": float(np.median(spent[watched][late:])),
        "cost_ns": float(cost),
    }


def one_add() -> float:
    """Nanoseconds of one `Histogram.add`, median of 20 runs of 10 000."""
    times, runs = Histogram(), list[float]()
    for _ in range(20):
        start = time.perf_counter_ns()
        for ns in range(100_000, 110_000):
            times.add(ns)
        runs.append((time.perf_counter_ns() - start) / 10_000)
    return statistics.median(runs)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hops", type=int, default=20_000)
    hops = parser.parse_args().hops
    presets = {preset: compare(preset, hops) for preset in ("stage", "default", "quality")}
    add_ns = one_add()
    print(f"one add: {add_ns:.0f} ns")
    for preset, r in presets.items():
        hop_us, watched_us = r["hop_ns"] / 1e3, r["watched_ns"] / 1e3
        print(f"{preset}: {r['nodes']:.0f} nodes, hop {hop_us:.1f} µs, watched {watched_us:.1f} µs, cost {r['cost_ns']:.0f} ns")
    write_result("watch", {"machine": machine(), "add_ns": add_ns, "presets": presets})


if __name__ == "__main__":
    main()
