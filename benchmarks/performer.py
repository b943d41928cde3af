"""What a sampled event costs, and whether the performer follows what it hears. Writes a dated JSON with the machine."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, write_result
from tqdm import tqdm

from rtserver import zoo
from rtserver.events import Note
from rtserver.generation import vocabulary as v
from rtserver.generation.constraints import Constraints
from rtserver.generation.modes import Accompanist
from rtserver.generation.performer import Performer
from rtserver.transport import Transport

PARTS = {
    "sampled_event": "query and feed: a whole new note",
    "sampled_event_told": "the same, told bars, what comes, density and register",
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


def listening(performer: Performer, seeds: int = 10, minutes: float = 1.0) -> dict[str, float]:
    """Share of notes in the triad, and in the major key, of a held triad that the performer hears, and does not hear.

    Ten roots, free of any scale, simulated time; by chance a quarter would be in the triad and 7/12 in the key.
    """
    rate, hop = 48000, 960
    hits: dict[str, list[bool]] = {f"{what}_{how}": [] for how in ("heard", "not_heard") for what in ("triad", "key")}
    for seed in range(seeds):
        root = seed * 5 % 12
        triad = np.isin((np.arange(12) - root) % 12, (0, 4, 7)).astype(np.float32)
        for how in ("heard", "not_heard"):
            performer.seed = seed
            transport = Transport(rate)
            accompanist = Accompanist(performer, transport, constraints=Constraints(None, 48, 84, 4))
            transport.start(0)
            notes: list[Note] = []
            for frame in range(0, round(60 * minutes * rate), hop):
                if how == "heard":
                    accompanist.hear_chroma(frame, triad)
                accompanist.advance(frame, 2 * hop, notes.append)  # type: ignore[arg-type]
            degrees = [(n.pitch - root) % 12 for n in notes]
            hits[f"triad_{how}"] += [d in (0, 4, 7) for d in degrees]
            hits[f"key_{how}"] += [d in (0, 2, 4, 5, 7, 9, 11) for d in degrees]
    return {k: round(float(np.mean(x)), 3) for k, x in hits.items()}


def costs(performer: Performer, events: int) -> dict[str, dict[str, float]]:
    """What each of `PARTS` takes, in microseconds."""
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

    takes = performer.network.takes
    known: dict[str, Any] = {"ahead": v.ahead(rng.random((2, 12)))} if "ahead" in takes else {}
    known |= {"controls": v.controls(3.0, 60.0)} if "controls" in takes else {}

    def told() -> None:
        performer.feed(performer.query(limits, None, **known))

    calls = dict(zip(PARTS, (sampled, told, fed, new_harmony, rollback), strict=True))
    figures: dict[str, dict[str, float]] = {}
    for name, call in tqdm(calls.items(), unit="part"):
        performer.set_bar(0, 96 if call is told else 0)
        figures[name] = measure(call, events)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--model", default="performer", help="a model of the zoo (default: the one that is shipped)")
    parser.add_argument("--zoo", type=Path, default=zoo.FOLDER)
    parser.add_argument("--output", type=Path, help="default: results/performer-DATE.json beside this script")
    args = parser.parse_args()
    performer = Performer(args.model, seed=1, top_p=0.95, folder=args.zoo)
    figures = costs(performer, args.events)
    for name, figure in figures.items():
        print(f"{PARTS[name]:55s} " + "  ".join(f"{k} {x:7.1f}" for k, x in figure.items()) + " us")
    followed = listening(performer)
    print("follows a held triad:  " + "  ".join(f"{k} {x:.0%}" for k, x in followed.items()))
    result = {"model": args.model, "events": args.events, "microseconds": figures, "share_of_notes": followed, "machine": machine()}
    write_result("performer", result, args.output)


if __name__ == "__main__":
    main()
