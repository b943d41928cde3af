"""Time of one real Fourier transform there and back: the kernel's own, numpy's into arrays that are there, scipy's; taking turns.

usage: fft.py [--rounds N] [--output FILE]

ours   `rtserver.dsp.fft` called as `Stft` and `Istft` call it, sizes constants of the kernel
numpy  numpy.fft.rfft and irfft of float32 with ``out=``
scipy  scipy.fft.rfft and irfft of float32

All three include what Python takes for the call. p50 and p99 in microseconds; *bytes* is what a pair of calls allocates at its peak.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.fft
from machine import machine, write_result
from numba.core.runtime import _nrt_python, rtsys
from tqdm import tqdm

from rtserver.dsp.fft import fft_plan, fold, unfold
from rtserver.kernels import jit

SIZES = (512, 1024, 2048, 4096, 8192, 16384)
CALLS_A_ROUND = 100
N_ARRAYS = 4  # that a pair of ours takes: numba makes a record of each, 64 bytes
Pair = Callable[[], object]


def ours(size: int) -> Callable[[np.ndarray], Pair]:
    """Forward and back by the kernel."""
    h = size // 2

    @jit("void(float32[::1], float32[::1], float32[::1], float32[::1])", cache=False)
    def pair(x, bins, back, plan):
        for i in range(h):
            plan[i] = x[2 * i]
            plan[h + i] = x[2 * i + 1]
        unfold(plan, h, bins)
        z = fold(plan, h, bins)
        for i in range(h):
            back[2 * i] = plan[z + h + i]
            back[2 * i + 1] = plan[z + i]

    plan, bins, back = fft_plan(size), np.zeros(size + 2, np.float32), np.zeros(size, np.float32)
    return lambda x: lambda: pair(x, bins, back, plan)


def with_numpy(size: int) -> Callable[[np.ndarray], Pair]:
    """Forward and back by numpy's pocketfft."""
    bins, back = np.zeros(size // 2 + 1, np.complex64), np.zeros(size, np.float32)
    return lambda x: lambda: np.fft.irfft(np.fft.rfft(x, out=bins), out=back)


def with_scipy(_size: int) -> Callable[[np.ndarray], Pair]:
    """Forward and back by scipy's pocketfft."""
    return lambda x: lambda: scipy.fft.irfft(scipy.fft.rfft(x), overwrite_x=True)


METHODS = {"ours": ours, "numpy": with_numpy, "scipy": with_scipy}


def allocated(pair: Pair) -> int:
    """Bytes at the peak of one call, as Python's and numba's allocators count them."""
    pair()
    _nrt_python.memsys_enable_stats()
    before_kernel = rtsys.get_allocation_stats().alloc
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        kept = pair()
        records = rtsys.get_allocation_stats().alloc - before_kernel
        peak = tracemalloc.get_traced_memory()[1] - before
        del kept
    finally:
        tracemalloc.stop()
    assert records in (0, N_ARRAYS), "a kernel allocates"
    return peak


def main() -> None:
    """Measure every size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help=f"of {CALLS_A_ROUND} calls each")
    parser.add_argument("--output", type=Path, help="default: results/fft-DATE.json beside this script")
    args = parser.parse_args()
    print("| size | " + " | ".join(f"{name} p50 / p99 µs | bytes" for name in METHODS) + " | ours faster than numpy | scipy |")
    print("|---" * (3 + 2 * len(METHODS)) + "|")
    rows: list[dict[str, object]] = []
    for size in tqdm(SIZES, unit="size", disable=None):
        x = np.random.default_rng(size).uniform(-0.5, 0.5, size).astype(np.float32)
        pairs = {name: method(size)(x) for name, method in METHODS.items()}
        times: dict[str, list[int]] = {name: [] for name in pairs}
        ratios: dict[str, list[float]] = {name: [] for name in pairs}
        for i in range(args.rounds + 1):  # the first round warms up
            medians = {}
            for name, pair in pairs.items():
                spent = []
                for _ in range(CALLS_A_ROUND):
                    begun = time.perf_counter_ns()
                    pair()
                    spent.append(time.perf_counter_ns() - begun)
                medians[name] = float(np.median(spent))
                if i:
                    times[name] += spent
            if i:
                for name, median in medians.items():
                    ratios[name].append(median / medians["ours"])
        row = {
            name: {
                "p50_us": round(float(np.median(t)) / 1e3, 2),
                "p99_us": round(float(np.percentile(t, 99)) / 1e3, 2),
                "bytes": allocated(pairs[name]),
                "times_ours": round(float(np.median(ratios[name])), 2),
            }
            for name, t in times.items()
        }
        rows.append({"size": size} | row)
        cells = [f"{of['p50_us']:.1f} / {of['p99_us']:.1f} | {of['bytes']}" for of in row.values()]
        cells += [f"{row[name]['times_ours']:.1f}×" for name in ("numpy", "scipy")]
        print(f"| {size} | " + " | ".join(cells) + " |", flush=True)
    write_result("fft", {"transforms": rows, "machine": machine()}, args.output)


if __name__ == "__main__":
    main()
