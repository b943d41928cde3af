"""The machine is busy, gives no privilege, has no MIDI, and its wall clock jumps."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import PERIOD, RATE, Trial, ask

from rtserver.clock import MOST_OFF

PACKAGE = Path(__file__).parent.parent.parent / "rtserver"
HOG_S = 0.8
HOG = f"""
import os, sys, time
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(70))  # above every role, below JACK
except OSError:
    pass
until = time.monotonic() + {HOG_S}
while time.monotonic() < until:
    pass
"""


def test_processors_hogged(stage, row):
    row.fault = f"every processor busy for {HOG_S} s at a priority above the roles'"
    with Trial(stage, 4.0, note_s=0.5) as trial:
        hogs = []
        trial.strike(lambda: hogs.extend(subprocess.Popen([sys.executable, "-c", HOG]) for _ in range(os.cpu_count() or 1)))
        for hog in hogs:
            hog.wait(20.0)
        trial.back_s = time.monotonic() - trial.fault_s
        time.sleep(0.5)
    row.take(trial)
    row.audio = "yes: dry where the engine is late"
    assert trial.went_on(1.0)
    assert trial.let_go(5.0), "let go as soon as midi runs again"
    assert stage.wait(lambda: stage.session.frame - int(stage.session.block["deck0.spans"][0, 1]) < RATE // 2, 5.0), "no queue has grown"
    assert stage.wait(stage.on_time, 5.0), "frames stay tied to the clock"
    _, _, rate, _ = stage.session.clock.line()
    assert abs(rate / RATE - 1.0) <= MOST_OFF + 1e-9, "the rate is a device's"


def test_performer_too_slow(stage, row):
    row.fault = "performer: gets a tenth of the time that it needs"
    late = stage.session.counters("performer")["late_notes"]
    dropped = stage.session.counters("midi")["dropped_notes"]
    with Trial(stage, 4.0, note_s=0.5) as trial:
        trial.strike(lambda: None)
        performer = stage.server.process("performer")
        for _ in range(4):
            performer.send_signal(signal.SIGSTOP)
            time.sleep(0.45)
            performer.send_signal(signal.SIGCONT)
            time.sleep(0.05)
    row.take(trial)
    row.audio = "yes"
    count = stage.session.counters("performer")["late_notes"] - late
    row.lost = "notes too late to play are left out whole, and counted"
    row.learned = "`status`: late_notes, dropped_notes"
    assert trial.went_on()
    assert trial.let_go()
    assert trial.told() == [], "slow is not dead"
    assert count > 0 or stage.session.counters("midi")["dropped_notes"] > dropped, "what is late is counted"


def hops(status):
    return status["roles"]["engine"]["counters"]["hops"]


def test_no_privilege_and_no_midi(jack_server, row, tmp_path):
    row.fault = "no SCHED_FIFO, no MIDI system"
    show = tmp_path / "show.toml"
    show.write_text(
        f"""
        name = "rtplain"
        [audio]
        block_size = {PERIOD}
        spare_blocks = 4
        device = "system"
        [midi]
        api = "alsa"
        [wire]
        control = "ipc://{tmp_path}/control"
        events = "ipc://{tmp_path}/events"
        bulk = "ipc://{tmp_path}/bulk"
        """
    )
    command = [sys.executable, "-m", "rtserver", "run", str(show)]
    if os.geteuid() == 0:  # root may do anything: without the capability it is a plain user in this respect
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed")
        command = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", *command]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert "is up" in server.stdout.readline()
        begun = ask(f"ipc://{tmp_path}/control", "status", 20.0)["result"]
        until_s = time.monotonic() + 20.0
        while True:
            status = ask(f"ipc://{tmp_path}/control", "status", 20.0)["result"]
            if (hops(status) > hops(begun) > 0 and status["frame"] > begun["frame"]) or time.monotonic() > until_s:
                break
        row.audio = "yes; set `spare_blocks` to 2 to 4"
        row.learned = "a line on stderr; `rtserver doctor` says what to mend"
        row.lost = "the engine's priority" + ("" if os.path.exists("/dev/snd/seq") else "; notes go to the null backend")
        assert status["frame"] > begun["frame"], "audio flows"
        roles = status["roles"]
        assert all(role["state"] == "up" for role in roles.values())
        assert os.sched_getscheduler(roles["engine"]["pid"]) == os.SCHED_OTHER
        assert hops(status) > hops(begun) > 0
    finally:
        server.terminate()
        _, complaints = server.communicate(timeout=30.0)
    if not os.path.exists("/dev/snd/seq"):
        assert "notes go nowhere" in complaints
    doctor = subprocess.run([sys.executable, "-m", "rtserver", "doctor", "--json"], capture_output=True, text=True, check=False)
    assert json.loads(doctor.stdout), "doctor has an answer wherever it runs"


def test_the_wall_clock_jumps(row):
    """Nothing reads it but what writes a date into a log or a recording: what is not read cannot jump."""
    row.fault = "the wall clock jumps (NTP, summer time)"
    row.audio, row.lost, row.learned = "yes: everything is timed by frames and CLOCK_MONOTONIC", "nothing", "nothing"
    reads = re.compile(r"\btime\.time(_ns)?\b|\bdatetime\.now|\blocaltime|\bgmtime|\bCLOCK_REALTIME\b|\bsem_timedwait\b")
    found = {p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py") if reads.search(p.read_text(encoding="utf-8"))}
    assert found <= {"recording/take.py", "operations/log.py"}
