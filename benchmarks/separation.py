"""What a separation by networks costs: microseconds of a hop, and what a live server misses with it.

    python benchmarks/separation.py [MODEL ...] [--seconds 30] [--rounds 2] [--worker-hops 2] [--random small large] [--cases NAME ...]
                                    [--output FILE.json]

MODEL: names in the zoo, or files with a manifest beside them. Beside them always the medians alone; with --random, networks of random
weights (random_network.py): small, and large with 41.9 million weights, run in every hop.

hop: the whole graph of a stereo input, transform to transform, and the network alone, at 48 kHz with hops of 128 and 256, at the engine's
priority where that is allowed.
live: a server on a private jackd (dummy driver, 48 kHz, period and hop 128, preset stage, one input, one spare block), its input a drum
loop over a chord. Networks run inline, and in the worker. Cases take turns, `rounds` times. Beside each, in the same jackd, a plain
pass-through in a process of its own: what that misses, the machine misses. excess: stretches in which outputs lacked samples, in windows
around which the plain one missed nothing. frames lacking: of the first output, beside those that were played. peak MB: the most resident
memory that engine and separator have had; in the JSON that of every role. --cases: only those whose names hold one of these words.

Ten minutes of each case, in turns of a minute: --seconds 60 --rounds 10, which takes about twelve minutes a case; in one go: --seconds 600
--rounds 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, private_jackd, write_result
from random_network import SIZES, random_network
from soak import WINDOW_S, growth, plain_stream

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from liveserver import RATE, LiveServer

from rtserver.audio import table as t
from rtserver.config import Config, Separation, parse
from rtserver.events import Absent
from rtserver.preflight import check
from rtserver.roles.role import realtime
from rtserver.separation.model import read_model
from rtserver.separation.network import Heard, SeparationNetwork
from rtserver.shared.histogram import HopTimes
from rtserver.verdict import keep, write_verdict
from rtserver.zoo.pace import hop_of, timed

PERIOD = 128
PRESETS = ("stage", "default")


@dataclass(frozen=True)
class Case:
    """One way to separate."""

    name: str
    options: Separation

    @property
    def stems(self) -> tuple[str, ...]:
        return read_model(self.options.model).stems if self.options.model else ("harmonic", "percussive")


def hops(models: list[str], n: int) -> dict[str, dict[str, float]]:
    """Times of whole hops and of the networks alone."""
    found: dict[str, dict[str, float]] = {}
    for model in ["", *models]:
        name = Path(model).stem if model else "medians"
        if model:
            network, heard, rng = SeparationNetwork(read_model(model)), Heard(), np.random.default_rng(0)
            heard.features[...], heard.prior[...] = rng.standard_normal(440), rng.standard_normal(1025)
            few = n if _quick(lambda network=network, heard=heard: network.run(0, heard)) else max(20, n // 50)
            found[f"{name}: network alone"] = timed(lambda network=network, heard=heard: network.run(0, heard), few)
        for preset in PRESETS:
            step = hop_of(Separation(preset, model=model), RATE)
            found[f"{name}: hop, {preset}"] = timed(step, n if _quick(step) else max(20, n // 50))
    return found


def _quick(step: Any) -> bool:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start < 2e-3


def music(seconds: float) -> np.ndarray:
    """A drum loop over a chord."""
    rng, at_s = np.random.default_rng(0), np.arange(round(seconds * RATE)) / RATE
    chord = sum(np.sin(2 * np.pi * f * at_s) for f in (110.0, 277.2, 329.6)) * 0.08
    hits = rng.uniform(-0.5, 0.5, len(at_s)) * np.exp(-((at_s % 0.25) * 40))
    return (chord + hits).astype(np.float32)[None]


def peak_mb(pid: int) -> float:
    """The most resident memory that a process has had."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) / 1024 if found else 0.0


def _let_pass(config: Config, folder: Path) -> None:
    """The preflight refuses networks that cannot keep up; here they are to be seen failing."""
    verdict = folder / "verdict"
    verdict.mkdir()
    write_verdict(check(config, verdict), verdict)
    keep(config, verdict)


def live(case: Case, folder: Path, seconds: float) -> dict[str, Any]:
    """One server for `seconds`."""
    outputs = {stem: {"source": stem, "channels": [k + 1]} for k, stem in enumerate(case.stems)}
    options = case.options
    separation: dict[str, Any] = {"preset": options.preset}
    if options.model:
        separation |= {"model": options.model, "where": options.where}
        if options.where == "worker":
            separation["worker_hops"] = options.worker_hops
    raw = {
        "name": "rtseparation",
        "audio": {"block_size": PERIOD, "spare_blocks": 1, "device": "system"},
        "outputs": outputs,
        "separation": separation,
        "generation": {"enabled": False},
        "midi": {"api": "null"},
    }
    counts: list[tuple[float, int, int]] = []
    log = folder / "plain.jsonl"
    _let_pass(parse(raw), folder)
    with plain_stream(PERIOD, log):
        server = LiveServer(folder, raw)
        try:
            tape = server.play(music(seconds + 5.0))
            table = server.session.block["audio.table"]
            server.wait(lambda: False, 2.0)
            times = HopTimes(server.session.block).all()["hop"]
            before, begun_s = times.copy(), time.monotonic()
            engine, begun = server.session.counters("engine"), server.session.frame
            while time.monotonic() < begun_s + seconds:
                counts.append((time.monotonic(), int(table[t.LONG_INTERVALS]), int(table[t.MISSES])))
                time.sleep(0.05)
            died = {name: child.restarts for name, child in server.supervisor.children.items() if child.restarts}
            spent = times if "engine" in died else times.since(before)  # a new engine begins to count anew
            now, ended = server.session.counters("engine"), server.session.frame
            peaks = {role: peak_mb(child.process.pid) for role, child in server.supervisor.children.items() if child.process}
            tape.process.kill()
            tape.process.wait()
            server.wait(lambda: False, 0.5)
            absent = [e for e in server.events() if isinstance(e, Absent) and e.output == case.stems[0]]
        finally:
            server.close()
    lacking = sum(max(0, min(e.frame + e.n_frames, ended) - max(e.frame, begun)) for e in absent)
    short = ended - begun - (now["hops"] - engine["hops"]) * PERIOD
    lacking = (
        short if short > 0.1 * RATE else lacking
    )  # an absence is told when it ends; one that lasts is seen by the hops that were not made
    limit = [tuple(json.loads(line)) for line in log.read_text().splitlines() if line.endswith("]")]
    n = int((seconds - 1.0) / WINDOW_S)
    plain = growth(limit, 1, begun_s, n)
    calm = np.convolve(plain > 0, np.ones(3), "same") == 0
    blocks, misses = (growth(counts, k, begun_s, n) for k in (1, 2))
    found: dict[str, Any] = {
        "seconds": seconds,
        "hops": now["hops"] - engine["hops"],
        "hop_p50_us": 1e6 * spent.quantile(0.5),
        "hop_p99_us": 1e6 * spent.quantile(0.99),
        "output_misses": float(misses.sum()),
        "excess_output_misses": float(misses[calm].sum()),
        "calm_s": float(calm.sum() * WINDOW_S),
        "blocks_missed": float(blocks.sum()),
        "plain_blocks_missed": float(plain.sum()),
        "frames_lacking": lacking,
        "role_restarts": sum(died.values()),
        "peak_mb": peaks,
    }
    return found | {name: now[name] - engine[name] for name in ("late_masks", "slow_networks", "lagged_frames", "restarts")}


def summed(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Several rounds as one: counts added, times and peaks the worst."""
    worst = ("hop_p50_us", "hop_p99_us")
    found: dict[str, Any] = {
        key: max(r[key] for r in rounds) if key in worst else sum(r[key] for r in rounds) for key in rounds[0] if key != "peak_mb"
    }
    return found | {"peak_mb": {role: max(r["peak_mb"].get(role, 0.0) for r in rounds) for role in rounds[0]["peak_mb"]}}


def print_hops(figures: dict[str, dict[str, float]]) -> None:
    print(f"| {'microseconds':40s} |      p50 |      p99 |      max |\n|{'-' * 42}|----------|----------|----------|")
    for name, row in figures.items():
        print(f"| {name:40s} | {row['p50_us']:8.0f} | {row['p99_us']:8.0f} | {row['max_us']:8.0f} |")


def print_live(figures: dict[str, dict[str, Any]]) -> None:
    print(
        "| live | s | hop p50, p99 µs | output misses (excess) | frames lacking | blocks, plain | late masks | slow | restarts | peak MB |"
    )
    print("|---" * 10 + "|")
    for name, row in figures.items():
        memory = ", ".join(f"{row['peak_mb'][role]:.0f}" for role in ("engine", "separator") if role in row["peak_mb"])
        misses = f"{row['output_misses']:.0f} ({row['excess_output_misses']:.0f} in {row['calm_s']:.0f} s)"
        blocks = f"{row['blocks_missed']:.0f}, {row['plain_blocks_missed']:.0f}"
        costs = f"{row['hop_p50_us']:.0f}, {row['hop_p99_us']:.0f}"
        lacking = f"{row['frames_lacking'] / (row['seconds'] * RATE):.2%}"
        masks = f"{row['late_masks']} of {row['hops']} | {row['slow_networks']}"
        print(
            f"| {name} | {row['seconds']:.0f} | {costs} | {misses} | {lacking} | {blocks} | {masks} | {row['role_restarts']} | {memory} |"
        )


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each case and round; 0: nothing live")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--hops", type=int, default=3000, help="timed hops of each; 0: none")
    parser.add_argument("--worker-hops", type=int, default=2)
    parser.add_argument("--cases", nargs="*", default=[], metavar="NAME", help="of the live ones, for example: medians large inline")
    parser.add_argument("--random", nargs="*", choices=tuple(SIZES), default=[])
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    result: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        models, sizes = list(args.models), dict[str, int]()
        for size in args.random:
            path, sizes[f"random-{size}"] = random_network(folder, size)
            models.append(str(path))
        result["weights"] = sizes
        if args.hops:
            result["realtime"] = realtime(
                50
            )  # the engine's priority, where it is allowed: the load of the machine is not what is asked for
            result["hop_us"] = hops(models, args.hops)
            if result["realtime"]:
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            print_hops(result["hop_us"])
        if args.seconds:
            cases = [Case("medians", Separation("stage"))]
            for model in models:
                name = Path(model).stem
                cases.append(Case(f"{name}, inline", Separation("stage", model=model)))
                worker = Separation("stage", model=model, where="worker", worker_hops=args.worker_hops)
                cases.append(Case(f"{name}, worker, {args.worker_hops} hops", worker))
            cases = [case for case in cases if not args.cases or any(word in case.name for word in args.cases)]
            rounds: dict[str, list[dict[str, Any]]] = {case.name: [] for case in cases}
            with private_jackd(PERIOD, RATE) as environment:
                os.environ.update(environment)
                for k in range(args.rounds):
                    for i, case in enumerate(cases):
                        place = folder / f"live{k}-{i}"
                        place.mkdir()
                        rounds[case.name].append(live(case, place, args.seconds))
                        shutil.rmtree(place)  # recordings: half a gigabyte for ten minutes
            result["live"] = {name: summed(of) for name, of in rounds.items()}
            print_live(result["live"])
    write_result("separation", result, args.output)


if __name__ == "__main__":
    main()
