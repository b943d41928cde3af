"""Minutes of everything at once: does anything miss, grow, leak or restart?

    python benchmarks/soak.py [--seconds 600] [--period 128] [--output FILE.json]

A live server on a private jackd (dummy driver) with everything on: separation, follower, performer, MIDI, recorder, gateway with a
subscriber. Its input is the demonstration's performance, over and over. Beside it, in the same jackd, a plain pass-through: the same native
callback in a process of its own, with no server behind it. What it misses, the machine misses. A block that the server missed, or a
sample that an output lacked, while the plain stream missed nothing, is an excess. After a tenth of the time (at most a minute) all is warm:
from then on the memory that every role has allocated for itself (anonymous pages) is fitted by a line, its file descriptors are compared,
its page faults counted. PSS is kept too, but not fitted: it changes with every program that has the same libraries in memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, private_jackd, write_result

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from faults import Stage, settings
from liveserver import RATE

from rtserver.audio import file as audio_file
from rtserver.audio import table as t
from rtserver.roles.locking import memory_of

DEMO = Path(t.__file__).parent.parent / "demo"
SAMPLE_S = 5.0  # between two looks at memory
WINDOW_S = 0.2  # misses of both streams in one window, or in two that touch, have one cause: the machine


def plain(period: int) -> None:
    """Run in a child: the native callback alone, copying input to output; prints its count of long intervals every tenth of a second."""
    from rtserver.audio.callback import bind, stream_callback
    from rtserver.audio.device import Stream, name_jack_client
    from rtserver.config import parse
    from rtserver.plan import open_session, plan
    from rtserver.shared.session import Setup

    outputs = {"monitor": {"source": "dry", "channels": [1], "align": False}}
    config = parse({"audio": {"block_size": period}, "outputs": outputs, "generation": {"enabled": False}})
    session = open_session(Setup(config, ""), plan(config, [], 1))
    bind(session.block, [session.waker("engine").offset] * 2)
    name_jack_client("rtplain")
    stream = Stream(
        "system", sample_rate=RATE, block_size=period, channels=(1, 1), callback=stream_callback.address, user=session.block.address
    )
    stream.start()
    table = session.block["audio.table"]
    while True:
        print(json.dumps([time.monotonic(), int(table[t.LONG_INTERVALS])]), flush=True)
        time.sleep(0.1)


@contextlib.contextmanager
def plain_stream(period: int, log: Path) -> Iterator[None]:
    """The plain pass-through as a process, its counts in `log`."""
    with log.open("w") as out:
        child = subprocess.Popen([sys.executable, __file__, "--plain", "--period", str(period)], stdout=out)
        try:
            yield
        finally:
            child.kill()
            child.wait()


def look(pid: int) -> dict[str, int]:
    """Memory in kB, file descriptors and page faults of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    faults = int(fields[7]) + int(fields[9])  # minor and major
    memory = {f"{kind}_kb": size >> 10 for kind, size in memory_of(pid).items() if kind in ("pss", "anonymous")}
    return memory | {"fds": len(os.listdir(f"/proc/{pid}/fd")), "faults": faults}


def soak(folder: Path, seconds: float, period: int) -> dict[str, Any]:
    """Run it; raw samples."""
    raw = settings("rtsoak", score={"file": str(DEMO / "score.musicxml")}, midi={"connect": ["rtsoak-synth"]})
    raw["audio"] = {**raw["audio"], "block_size": period}
    performance, rate = audio_file.read(DEMO / "performance.flac")
    assert rate == RATE, f"the demonstration is at {rate} Hz"
    length = performance.shape[1]
    stage = Stage(folder, raw)
    counts: list[tuple[float, int, int]] = []
    memory: list[dict[str, Any]] = []
    try:
        stage.wait(stage.well, 60.0)
        tape = stage.server.play(np.tile(performance[:1], round(seconds * RATE / length) + 1)[:, : round((seconds + 5) * RATE)], channels=2)
        begun = next_look = next_loop = time.monotonic()
        table = stage.session.block["audio.table"]
        while (now := time.monotonic()) < begun + seconds:
            counts.append((now, int(table[t.LONG_INTERVALS]), int(table[t.MISSES])))
            if now >= next_loop:  # the piece begins again
                next_loop += length / RATE
                stage.ask("seek", quarter=0.0)
            if now >= next_look:
                next_look += SAMPLE_S
                roles = {name: look(stage.server.process(name).pid) for name in stage.server.supervisor.children}
                memory.append({"s": now - begun, "roles": roles})
            time.sleep(0.1)
        status = stage.ask("status")["result"]
        restarts = {name: child.restarts for name, child in stage.server.supervisor.children.items()}
        tape.process.kill()
        tape.process.wait()
        heard, lost = len(stage.synth.heard), stage.subscriber.lost
    finally:
        stage.close()
    counters = {name: role["counters"] for name, role in status["roles"].items()}
    found = {"counts": counts, "memory": memory, "restarts": restarts, "midi_messages": heard, "events_lost": lost, "counters": counters}
    return found | {"begun_s": begun}


def growth(counts: list[tuple[float, ...]], column: int, begun_s: float, n: int) -> np.ndarray:
    """How much a counter grew in each window."""
    stamps, values = np.array([c[0] for c in counts]), np.array([c[column] for c in counts])
    return np.diff(np.interp(begun_s + WINDOW_S * np.arange(n + 1), stamps, values))


def judge(found: dict[str, Any], log: Path, seconds: float) -> dict[str, Any]:
    """Excess misses, slopes, descriptors, faults, restarts."""
    limit = [tuple(json.loads(line)) for line in log.read_text().splitlines() if line.endswith("]")]
    n = int((seconds - 2) / WINDOW_S)
    begun_s = found["begun_s"] + 1.0
    plain_missed = growth(limit, 1, begun_s, n)
    calm = np.convolve(plain_missed > 0, np.ones(3), "same") == 0  # nor in the windows beside it
    blocks, outputs = (growth(found["counts"], k, begun_s, n) for k in (1, 2))
    warm = [m for m in found["memory"] if m["s"] >= min(60.0, seconds / 10)]
    minutes = np.array([m["s"] for m in warm]) / 60.0
    roles = {}
    for name in warm[0]["roles"]:
        keys = ("pss_kb", "anonymous_kb", "fds", "faults")
        pss, own, fds, faults = (np.array([m["roles"][name][key] for m in warm]) for key in keys)
        slope = float(np.polyfit(minutes, own, 1)[0]) if len(warm) > 2 else 0.0
        roles[name] = {
            "pss_mb": float(pss[-1]) / 1024,
            "own_kb": [int(own[0]), int(own[-1])],
            "slope_kb_min": slope,
            "fds": [int(fds[0]), int(fds[-1])],
            "faults_s": float(faults[-1] - faults[0]) / max(1e-9, 60 * (minutes[-1] - minutes[0])),
        }
    return {
        "seconds": seconds,
        "blocks_missed": float(blocks.sum()),
        "plain_blocks_missed": float(plain_missed.sum()),
        "output_misses": float(outputs.sum()),
        "calm_s": float(calm.sum() * WINDOW_S),
        "excess_blocks": float(blocks[calm].sum()),
        "excess_output_misses": float(outputs[calm].sum()),
        "restarts": sum(found["restarts"].values()),
        "roles": roles,
    }


def main() -> None:
    """Soak, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--period", type=int, default=128)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.plain:
        plain(args.period)
        return
    with tempfile.TemporaryDirectory() as scratch, private_jackd(args.period, RATE) as environment:
        os.environ.update(environment)
        folder = Path(scratch)
        with plain_stream(args.period, folder / "plain.jsonl"):
            found = soak(folder, args.seconds, args.period)
        judged = judge(found, folder / "plain.jsonl", args.seconds)
    print(f"{args.seconds:.0f} s at period {args.period}: restarts {judged['restarts']}, events lost {found['events_lost']}")
    print(f"blocks missed: server {judged['blocks_missed']:.0f}, plain pass-through beside it {judged['plain_blocks_missed']:.0f}")
    print(f"outputs lacked samples: {judged['output_misses']:.0f} times")
    print(
        f"in the {judged['calm_s']:.0f} s around which the plain one missed nothing: {judged['excess_blocks']:.0f} blocks,"
        f" {judged['excess_output_misses']:.0f} output misses"
    )
    print("| role | PSS | its own | slope of its own | file descriptors | page faults |\n|---|---|---|---|---|---|")
    for name, role in judged["roles"].items():
        first, last = role["fds"]
        memory = f"{role['pss_mb']:.0f} MB | {role['own_kb'][-1]} kB | {role['slope_kb_min']:+.1f} kB/min"
        print(f"| {name} | {memory} | {first} → {last} | {role['faults_s']:.2f}/s |")
    samples = {"memory": found["memory"], "counters": found["counters"]}
    write_result("soak", {**judged, **samples, "period": args.period, "machine": machine()}, args.output)


if __name__ == "__main__":
    main()
