"""How a server ends: by signal, by request, by the death of its supervisor; and that the next one starts at once."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
import pytest
from faults import PERIOD, Synth, ask


class Run:
    """``rtserver run`` as a process, with a synth that its performer plays."""

    def __init__(self, folder: Path, synth: Synth) -> None:
        self.synth = synth
        self.control = f"ipc://{folder}/control"
        show = folder / "show.toml"
        show.write_text(
            f"""
            name = "rtend"
            [audio]
            block_size = {PERIOD}
            device = "system"
            [generation]
            mode = "free"
            part = "all"
            tempo_bpm = 200.0
            [midi]
            connect = ["rtend-synth"]
            [wire]
            control = "{self.control}"
            events = "ipc://{folder}/events"
            bulk = "ipc://{folder}/bulk"
            """
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rtserver", "run", str(show)], start_new_session=True, stderr=subprocess.PIPE, text=True
        )
        until_s = time.monotonic() + 60.0
        while len(synth.sounding()) < 2:
            assert time.monotonic() < until_s, "no two notes at once within a minute"
            time.sleep(0.01)

    def children(self) -> list[int]:
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == self.process.pid]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=30.0)


def _parent(pid: int) -> int:
    """The parent of a process that lives; 0 if there is none."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return 0
    return 0 if state == "Z" else int(parent)


@pytest.fixture
def synth(jack_server):
    synth = Synth("rtend-synth")
    yield synth
    synth.close()


@pytest.fixture
def run(synth, tmp_path):
    made = []

    def start():
        made.append(Run(tmp_path, synth))
        return made[-1]

    yield start
    for run in made:
        run.close()


def strike(run, row, action):
    """Do it and wait for the end; what hung, how long the end took, and for how long the machine stood still meanwhile."""
    held = run.synth.sounding()
    fault_s = time.monotonic()
    action()
    status = run.process.wait(30.0)
    row.back_s = None
    took_s = time.monotonic() - fault_s
    until_s = time.monotonic() + 10.0
    while run.synth.sounding() and time.monotonic() < until_s:
        time.sleep(0.01)
    row.hang_s = run.synth.hang_s(dict.fromkeys(held, fault_s), fault_s)
    row.audio = "ends with the server"
    assert held
    assert not run.synth.sounding(), "every note is off"
    return status, took_s, machine.watch().total_s(fault_s)


ENDS = {
    "SIGTERM": [signal.SIGTERM],
    "SIGINT twice": [signal.SIGINT, signal.SIGINT],
}


@pytest.mark.parametrize("name", ENDS)
def test_a_signal(run, row, name):
    server = run()
    row.fault = f"supervisor: {name}"
    row.lost = "nothing: files are ended"
    row.learned = "`role … down`, then silence of the heartbeat"

    def send():
        for number in ENDS[name]:
            server.process.send_signal(number)
            time.sleep(0.05)

    status, took_s, stalled_s = strike(server, row, send)
    row.learned = f"the end after {took_s:.1f} s; no more heartbeats"
    assert status == 0
    assert took_s < 2.0 + stalled_s
    assert row.hang_s < 2.0 + stalled_s


def test_supervisor_killed_and_started_again_at_once(run, row):
    row.fault = "supervisor: `kill -9`, and `rtserver run` again at once"
    server = run()
    children = server.children()
    assert len(children) >= 6
    before = set(Path("/dev/shm").iterdir())
    fault_s = time.monotonic()
    _, _, stalled_s = strike(server, row, server.process.kill)
    again = run()
    row.back_s = time.monotonic() - fault_s
    row.audio = "ends with the roles, which see that their parent has gone"
    row.lost = "the session: boot id and frames begin anew"
    row.learned = "no heartbeat for 0.3 s; then another boot id"
    assert row.hang_s < 1.0 + stalled_s
    until_s = time.monotonic() + 20.0
    while (alive := [pid for pid in children if _parent(pid)]) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not alive, "no role outlives its supervisor"
    assert ask(again.control, "ping")["ok"], "the new server has the endpoints of the old one"
    left = set(Path("/dev/shm").iterdir()) - before
    assert not [path for path in left if "rtserver" in path.name], "no shared memory is left behind"
    folders = [p for p in Path(tempfile.gettempdir()).glob("rtserver-*-*") if p.name.split("-")[1] == str(server.process.pid)]
    assert not folders, "the new server has cleared away the old one's folder"
