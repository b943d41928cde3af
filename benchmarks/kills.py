"""Every role killed again and again at random moments, while it plays: the longest hang, the gap in the sound, how long until it is back.

    python benchmarks/kills.py [--kills 20] [--period 256] [--seed 0] [--output FILE.json]

One live server on a private jackd (dummy driver), a sine through it all the time, notes of the performer and of a client. The roles are
killed (SIGKILL) in random order, 1.5 to 2.2 s apart; the supervisor's memory of failures is cleared each time, so that every restart is
a first one. Measured from outside, as in tests/faults: a tape records the outputs, a JACK MIDI port hears the notes. A hang is counted
from the note's due end; for midi and a port's sender, which were to play that end, from the kill.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, private_jackd, write_result

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from faults import SILENT, Stage, settings, sine
from liveserver import RATE, Tape

ROLES = ("audio", "engine", "performer", "midi", "sender", "standby", "cables", "gateway", "recorder")
PACE_S = (1.5, 2.2)
PROMISE_S = 0.3


def sender(stage: Stage) -> int:
    """The process of the first MIDI port."""
    return next(int(pid) for pid in stage.session.block["midi.senders"] if pid)


def kill(stage: Stage, tape: Tape, role: str, wait_s: float) -> dict[str, Any]:
    """Kill it while notes sound, wait, and look; everything but the gap."""
    children = stage.server.supervisor.children
    for child in children.values():
        child.failures = 0
    stage.wait(stage.well, 20.0)
    for pitch in (40, 47, 52, 59):
        stage.ask("note", pitch=pitch, duration_s=1.0, channel=3)
    stage.wait(lambda: any(key[0] == 3 for key in stage.synth.sounding()), 1.0)
    cells = stage.session.block["notes"]
    held = {key: int(cells[key]) * 1e-9 for key in stage.synth.sounding() if cells[key] > 0}
    pid = sender(stage) if role == "sender" else stage.server.process(role).pid
    before = 0 if role == "sender" else children[role].restarts
    tape.mark()
    at_s = time.monotonic()
    os.kill(pid, 9)

    def back() -> bool:
        if role == "sender":
            return any(int(p) not in (0, pid) for p in stage.session.block["midi.senders"])
        return children[role].restarts > before and children[role].was_up

    back_s = time.monotonic() - at_s if stage.wait(back, 20.0) else float("inf")
    time.sleep(max(0.0, at_s + wait_s - time.monotonic()))
    due = dict.fromkeys(held, at_s) if role in ("midi", "sender") else held
    return {"role": role, "at_s": at_s, "notes": len(held), "hang_s": stage.synth.hang_s(due, at_s), "back_s": back_s}


def gaps(rows: list[dict[str, Any]], record: np.ndarray, marks: list[int]) -> None:
    """The longest silence after each kill, until the next one. `marks`: how far the tape was at each."""
    loud = np.abs(record.sum(axis=0)) >= SILENT
    for row, start, end in zip(rows, marks, [*marks[1:], len(loud)], strict=True):
        edges = np.concatenate([[start], start + np.flatnonzero(loud[start:end]), [end]])
        row["gap_s"] = float(np.diff(edges).max(initial=0)) / RATE


def run(folder: Path, kills: int, period: int, seed: int) -> list[dict[str, Any]]:
    """One server, all kills."""
    chance = random.Random(seed)
    order = [role for role in ROLES for _ in range(kills)]
    chance.shuffle(order)
    raw = settings("rtkills")
    raw["audio"] = {**raw["audio"], "block_size": period}
    stage = Stage(folder, raw)
    try:
        stage.wait(stage.well, 60.0)
        tape = stage.server.play(sine(len(order) * (PACE_S[1] + 1.0) + 10.0), channels=2)
        time.sleep(3.0)
        rows = []
        for n, role in enumerate(order):
            rows.append(kill(stage, tape, role, chance.uniform(*PACE_S)))
            print(f"\r{n + 1}/{len(order)} {role:<10}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        time.sleep(1.5)
        record = tape.stop()
    finally:
        stage.close()
    gaps(rows, record, tape.marks)
    return rows


def main() -> None:
    """Kill, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of each role")
    parser.add_argument("--period", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, private_jackd(args.period, RATE) as environment:
        os.environ.update(environment)
        rows = run(Path(scratch), args.kills, args.period, args.seed)
    print("| killed | times | notes sounding | longest hang | gap p50 | gap max | back p50 | back max |\n|---|---|---|---|---|---|---|---|")
    for role in ROLES:
        of = [row for row in rows if row["role"] == role]
        hang = max(row["hang_s"] for row in of)
        gap, back = (np.array([row[key] for row in of]) for key in ("gap_s", "back_s"))
        print(
            f"| {role} | {len(of)} | {sum(row['notes'] for row in of)} | {hang * 1e3:.0f} ms | {np.median(gap) * 1e3:.1f} ms"
            f" | {gap.max() * 1e3:.1f} ms | {np.median(back):.2f} s | {back.max():.2f} s |"
        )
    write_result("kills", {"rows": rows, "period": args.period, "seed": args.seed, "machine": machine()}, args.output)
    worst = max(row["hang_s"] for row in rows)
    if worst > PROMISE_S:
        raise SystemExit(f"a note hung for {worst * 1e3:.0f} ms; the promise is {PROMISE_S * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
