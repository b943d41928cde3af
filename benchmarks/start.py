"""How long ``rtserver run`` takes from the command to the first sound, and what of it each phase takes; then, what each role weighs.

usage: start.py [--runs N] [--block N] [--output FILE.json]

A private jackd, a show with a score, a performer and a gateway, the kernel cache warm. The server is watched from outside: its shared
memory is attached through /proc, and nothing in it is told to hurry. Seconds since the command was given:

preflight  the session's memory exists: command line, devices, preflight are done
ROLE       this role is up
callback   the device called for the first block
sound      the first block that held what the engine made of the input, unconcealed, for every output

On a machine that has other things to do the seconds are more; what the processors spent until the sound, in all processes, is not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, private_jackd, write_result
from tqdm import tqdm

from rtserver.audio import table as t
from rtserver.demo import SCORE
from rtserver.errors import RtserverError
from rtserver.roles.locking import memory_of
from rtserver.shared.session import COMPILATIONS, PID, STATE, UP, Session

RATE = 48000
LIMIT_S = 60.0
ROLES = ("standby", "midi", "engine", "follower", "performer", "gateway", "audio")
SHOW = """
name = "rtstart"
[audio]
device = "system"
block_size = {block}
[score]
file = "{score}"
[midi]
api = "jack"
[wire]
control = "ipc://{folder}/control"
events = "ipc://{folder}/events"
bulk = "ipc://{folder}/bulk"
"""


def attach(pid: int) -> Session | None:
    """The session of a supervisor, once there is one."""
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            if os.readlink(link).startswith("/memfd:rtserver"):
                return Session.attach(os.open(link, os.O_RDWR))
    except (OSError, RtserverError, ValueError):  # not yet, or half-written
        pass
    return None


def sounding(session: Session) -> bool:
    """Whether every output plays what the engine made of input that has come."""
    table, mix = session.block["audio.table"], session.block["audio.mix"]
    for o in range(int(table[t.DECKS + t.N_OUTPUTS])):
        row = table[t.OUTPUTS + o * t.OUTPUT_WIDTH :][: t.OUTPUT_WIDTH]
        if table[t.FRAME] <= row[t.DRY_DELAY] or row[t.CONCEALING] or mix[o, t.WET] < 1.0:
            return False
    return True


def processor_s(session: Session, supervisor: int) -> float:
    """What the supervisor, its children that ended and its roles have had of the processors."""
    ticks = 0
    for pid in (supervisor, *(int(session.role(name)[PID]) for name in ROLES)):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(v) for v in fields[11:15])  # user and system, of itself and of children that it has waited for
    return ticks / os.sysconf("SC_CLK_TCK")


def start(show: Path, environment: dict[str, str]) -> tuple[dict[str, float], float, dict[str, dict[str, int]]]:
    """One server: when each phase was over, the processors' seconds until the sound, and the memory of each role in bytes once it plays."""
    begun = time.monotonic()
    server = subprocess.Popen([sys.executable, "-m", "rtserver", "run", str(show)], env=environment, stdout=subprocess.DEVNULL)
    try:
        done: dict[str, float] = {}
        session, spent = None, 0.0
        while "sound" not in done or len(done) < len(ROLES) + 3:
            if server.poll() is not None or time.monotonic() - begun > LIMIT_S:
                raise SystemExit(f"the server does not start: {done}")
            time.sleep(0.001)
            now = time.monotonic() - begun
            if session is None:
                session = attach(server.pid)
                if session is not None:
                    done["preflight"] = now
                continue
            for name in ROLES:
                if name not in done and session.role(name)[STATE] == UP:
                    done[name] = now
            if "callback" not in done and session.block["audio.table"][t.CALLBACKS]:
                done["callback"] = now
            if "callback" in done and "sound" not in done and sounding(session):
                done["sound"] = now
                spent = processor_s(session, server.pid)
        memory = {name: memory_of(int(session.role(name)[PID])) for name in ROLES} | {"supervisor": memory_of(server.pid)}
        compiled = {name: int(session.role(name)[COMPILATIONS]) for name in ROLES}
        if any(compiled.values()):
            raise SystemExit(f"kernels were compiled while roles were up: {compiled}")
        return done, spent, memory
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Start servers one after another and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--block", type=int, default=256)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    phases: list[dict[str, float]] = []
    memory: dict[str, dict[str, int]] = {}
    loads: list[float] = []
    processors: list[float] = []
    with tempfile.TemporaryDirectory() as scratch, private_jackd(args.block, RATE) as environment:
        show = Path(scratch) / "show.toml"
        show.write_text(SHOW.format(block=args.block, score=SCORE, folder=scratch))
        start(show, environment)  # warms the cache of kernels and the system's of files
        for _ in tqdm(range(args.runs), unit="start", disable=None):
            loads.append(round(os.getloadavg()[0], 2))
            done, spent, memory = start(show, environment)
            processors.append(round(spent, 2))
            phases.append({name: round(at, 3) for name, at in done.items()})
    print("| phase | median s | max s |\n|---|---|---|")
    median = {name: float(np.median([run[name] for run in phases])) for name in phases[0]}
    for name, at in sorted(median.items(), key=lambda item: item[1]):
        print(f"| {name} | {at:.2f} | {max(run[name] for run in phases):.2f} |")
    print(f"\nprocessors until the sound, median: {np.median(processors):.2f} s")
    print("\n| role | PSS MB | RSS MB |\n|---|---|---|")
    for name, of in memory.items():
        print(f"| {name} | {of.get('pss', 0) / 1e6:.0f} | {of.get('rss', 0) / 1e6:.0f} |")
    result: dict[str, Any] = {
        "runs": phases,
        "load_1_min": loads,
        "processor_s": processors,
        "memory_bytes": memory,
        "block_size": args.block,
        "machine": machine(),
    }
    write_result("start", result, args.output)


if __name__ == "__main__":
    main()
