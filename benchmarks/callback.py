"""Our native callback against an ordinary sounddevice Python callback, in the same run, with busy Python threads beside them.

    python benchmarks/callback.py [--seconds 5] [--repeats 3] [--output FILE.json]

Each cell is a stream on a private jackd (dummy driver, real-time where allowed) in a process of its own, with 0, 1 or 2 threads of pure
Python arithmetic in the same process. Both callbacks copy input to output and stamp themselves; ours also runs the mixer, the counters
and the engine's semaphore. A block is missed when the next callback comes more than 1.5 periods after it. The two are taken in turn,
and with them the machine's own limit: a real-time thread alone in its process that does nothing but sleep from period to period. What
the limit misses, nobody can keep. On a virtual machine the host takes the processor away now and then; quiet runs are those in which it
took less than 0.5 % of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from machine import machine, may_run_realtime, private_jackd, write_result

RATE = 48000
PERIODS = (64, 128, 256)
BUSY = (0, 1, 2)
QUIET = 0.5  # percent of the processors' time that the host of a virtual machine took


def burn(stop: threading.Event) -> None:
    """A thread that holds the GIL as any busy Python code does."""
    x = 1
    while not stop.is_set():
        for _ in range(1000):
            x = (x * 1103515245 + 12345) & 0x7FFFFFFF


def ours(period: int, seconds: float) -> np.ndarray:
    """Intervals in ns of the native callback, as it counts them itself."""
    from rtserver.audio import table as t
    from rtserver.audio.callback import bind, stream_callback
    from rtserver.audio.device import Stream
    from rtserver.config import parse
    from rtserver.plan import open_session, plan
    from rtserver.shared.session import Setup

    outputs = {"monitor": {"source": "dry", "channels": [1], "align": False}}
    config = parse({"audio": {"block_size": period}, "outputs": outputs, "generation": {"enabled": False}})
    session = open_session(Setup(config, ""), plan(config, [], 1))
    bind(session.block, [session.waker(name).offset for name in ("engine", "engine.b")])
    stream = Stream(
        "system", sample_rate=RATE, block_size=period, channels=(1, 1), callback=stream_callback.address, user=session.block.address
    )
    stream.start()
    time.sleep(0.3)
    table = session.block["audio.table"]
    first = int(table[t.CALLBACKS])
    time.sleep(seconds)
    last = int(table[t.CALLBACKS])
    ring = session.block["audio.intervals"]
    intervals = ring[np.arange(max(first, last - t.INTERVAL_RING), last) % t.INTERVAL_RING].copy()
    stream.close()
    return intervals


def ordinary(period: int, seconds: float) -> np.ndarray:
    """Intervals in ns of a Python callback."""
    import sounddevice as sd

    stamps = np.zeros(int(2 * (seconds + 2) * RATE / period), np.int64)
    count = 0

    def callback(indata, outdata, frames, time_info, status) -> None:
        nonlocal count
        outdata[:] = indata
        if count < len(stamps):
            stamps[count] = time.monotonic_ns()
            count += 1

    with sd.Stream(samplerate=RATE, blocksize=period, channels=1, dtype="float32", latency="low", device="system", callback=callback):
        time.sleep(0.3)
        first = count
        time.sleep(seconds)
        last = count
    return np.diff(stamps[first:last])


def limit(period: int, seconds: float) -> np.ndarray:
    """Intervals in ns of a sleeping real-time thread: what the machine can do at all."""
    if may_run_realtime():
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(80))
    stamps = []
    start = due = time.monotonic()
    while due < start + seconds:
        due += period / RATE
        time.sleep(max(0.0, due - time.monotonic()))
        stamps.append(time.monotonic_ns())
    return np.diff(np.array(stamps))


def stolen() -> np.ndarray:
    """(jiffies stolen by the host of a virtual machine, all jiffies) so far."""
    try:
        values = [int(v) for v in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError):
        return np.zeros(2)
    return np.array([values[7], sum(values)], float)


def cell(which: str, period: int, busy: int, seconds: float) -> None:
    """Run in the child: one stream; prints its figures."""
    stop = threading.Event()
    threads = [threading.Thread(target=burn, args=(stop,), daemon=True) for _ in range(busy)]
    for thread in threads:
        thread.start()
    intervals = {"native": ours, "python": ordinary, "limit": limit}[which](period, seconds)
    stop.set()
    expected = int(seconds * RATE / period)
    longest = 1.5e9 * period / RATE
    # A late callback stands for the blocks that would have come in its interval.
    missed = int(np.maximum(np.round(intervals[intervals > longest] * RATE / period / 1e9) - 1, 1).sum())
    p50, p99 = np.percentile(intervals, [50, 99]) if len(intervals) else (np.nan, np.nan)
    print(json.dumps({"callbacks": len(intervals), "expected": expected, "missed": missed, "p50_us": p50 / 1e3, "p99_us": p99 / 1e3}))


def run_cell(which: str, period: int, busy: int, seconds: float, environment: dict[str, str]) -> dict:
    """One stream in a process of its own; its figures, and what share of the processors the host took meanwhile."""
    command = [sys.executable, __file__, "--seconds", str(seconds), "--cell", which, str(period), str(busy)]
    before = stolen()
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    taken, whole = stolen() - before
    return json.loads(out.splitlines()[-1]) | {"stolen_percent": 100 * taken / max(whole, 1)}


def main() -> None:
    """Run every cell and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--cell", nargs=3, metavar=("WHICH", "PERIOD", "BUSY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        cell(args.cell[0], int(args.cell[1]), int(args.cell[2]), args.seconds)
        return
    rows = []
    print("| period | busy threads | callback | missed, median (range) | in quiet runs (how many) | p50 | p99 | in periods |")
    print("|---|---|---|---|---|---|---|---|")
    for period in PERIODS:
        for busy in BUSY:
            runs: dict[str, list[dict]] = {"native": [], "python": [], "limit": []}
            for _ in range(args.repeats):
                # A new server each time: the dummy driver can fall into step with the kernel's tick, and then stays there.
                with private_jackd(period, RATE) as environment:
                    for which, done in runs.items():
                        if which != "limit" or not busy:
                            done.append(run_cell(which, period, busy, args.seconds, environment))
            for which, done in runs.items():
                if not done:
                    continue
                missed = [100 * r["missed"] / (r["callbacks"] + r["missed"]) for r in done]
                quiet = [m for m, r in zip(missed, done, strict=True) if r["stolen_percent"] < QUIET]
                p50, p99 = (float(np.median([r[k] for r in done])) for k in ("p50_us", "p99_us"))
                row = {"period": period, "busy": busy, "callback": which, "missed_percent": missed, "p50_us": p50, "p99_us": p99}
                rows.append(row | {"runs": done})
                print(
                    f"| {period} | {busy} | {which} | {np.median(missed):.2f} % ({min(missed):.2f}–{max(missed):.2f})"
                    f" | {f'{np.median(quiet):.2f} % ({len(quiet)})' if quiet else '-'}"
                    f" | {p50:.0f} µs | {p99:.0f} µs | {p99 * RATE / period / 1e6:.2f} |",
                    flush=True,
                )
    write_result("callback", {"rows": rows, "seconds": args.seconds, "machine": machine()}, args.output)


if __name__ == "__main__":
    main()
