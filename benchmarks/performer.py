"""Time of one sampled event: what the performer costs, and what each part of it does. Writes a dated JSON with the machine."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rtserver.generation import vocabulary as v
from rtserver.generation.constraints import Constraints
from rtserver.generation.performer import Performer

PARTS = {
    "sampled_event": "query and feed: a whole new note",
    "fed_event": "feed alone: a note of somebody else",
    "query_new_harmony": "query after the condition has changed",
    "snapshot_restore": "snapshot and restore",
}


def measure(call: Callable[[], object], n: int) -> dict[str, float]:
    """Microseconds of `n` calls."""
    taken = np.empty(n)
    for i in range(n):
        start = time.perf_counter_ns()
        call()
        taken[i] = (time.perf_counter_ns() - start) / 1000.0
    return {k: round(float(np.percentile(taken, p)), 1) for k, p in (("min", 0), ("p50", 50), ("p95", 95), ("p99", 99), ("max", 100))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / f"performer-{datetime.date.today()}.json")
    args = parser.parse_args()
    performer = Performer(seed=1, top_p=0.95)
    limits = Constraints("C major", 36, 84, 4, grid=6)
    rng = np.random.default_rng(0)

    def sampled() -> None:
        performer.feed(performer.query(limits, None))

    def fed() -> None:
        performer.feed(v.NoteEvent(6, 60, 6), sounding=False)

    def new_harmony() -> None:
        performer.query(limits, v.condition(rng.random(12)))

    def rollback() -> None:
        performer.restore(performer.snapshot())

    calls = dict(zip(PARTS, (sampled, fed, new_harmony, rollback), strict=True))
    figures = {name: measure(call, args.events) for name, call in tqdm(calls.items(), unit="part")}
    for name, figure in figures.items():
        print(f"{PARTS[name]:45s} " + "  ".join(f"{k} {x:7.1f}" for k, x in figure.items()) + " us")
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)},
        "events": args.events,
        "microseconds": figures,
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
