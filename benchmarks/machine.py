"""What every benchmark needs: which machine this is, a private JACK server, a dated file for the results."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from models.machine import machine  # noqa: F401 (benchmarks take it from here, with the rest)

RESULTS = Path(__file__).parent / "results"


def may_run_realtime() -> bool:
    """Whether SCHED_FIFO is allowed here."""
    probe = [sys.executable, "-c", "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))"]
    return subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 0


@contextmanager
def private_jackd(period: int, rate: int, channels: int = 8, realtime: bool = True, name: str = "bench") -> Iterator[dict[str, str]]:
    """A jackd on its dummy driver, real-time where wanted and allowed; yields the environment in which processes find it."""
    import jack

    jack.set_error_function(lambda _: None)
    jack.set_info_function(lambda _: None)
    name = f"rtserver-{name}-{os.getuid()}"
    # Above the priorities that the server's roles ask for, as on a stage.
    command = [
        "jackd",
        "-n",
        name,
        *(("--realtime", "-P80") if realtime and may_run_realtime() else ("--no-realtime",)),
        "-d",
        "dummy",
        "-r",
        str(rate),
    ]
    command += ["-p", str(period), "-C", str(channels), "-P", str(channels)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                jack.Client("rtserver-probe", no_start_server=True, servername=name).close()
                break
            except jack.JackOpenError:
                time.sleep(0.05)
        else:
            raise SystemExit(f"jackd {name} does not start")
        if server.poll() is not None:
            raise SystemExit(f"a jackd called {name} runs already: is another benchmark at work?")
        yield os.environ | {"JACK_DEFAULT_SERVER": name, "JACK_NO_START_SERVER": "1"}
    finally:
        server.terminate()
        server.wait()


def write_result(name: str, result: dict[str, Any], path: Path | None = None) -> None:
    """Leave `result` as JSON in benchmarks/results, dated, and say where."""
    path = path or RESULTS / f"{name}-{datetime.date.today().isoformat()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")
