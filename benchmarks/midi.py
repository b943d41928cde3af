"""MIDI through JACK, from the roles to a receiver: deaths, lost messages, and the clock.

    python benchmarks/midi.py [--output FILE.json] [--notes N] [--kills N] [--loss N] [--clock SECONDS]

notes: how long after their due times notes are sent, and heard.
kills: ``kill -9`` of the midi process while some sixteen notes sound; when the last note-off is heard.
loss: notes on a jackd without real-time priority beside two busy real-time processes; once from a plain port, once through the midi role.
clock: 120 quarters a minute for some time; distances of ticks as heard, and the tempo that a second server's midi role makes of them.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import machine, private_jackd, write_result

from rtserver.config import Audio, Config, Midi
from rtserver.events import Beat, Note, NoteOn
from rtserver.shared.memory import Layout
from rtserver.shared.session import PID, RESTARTS, STARTING, STATE, UP, Session, Setup

RATE = 48000
HOG = """
import os, time
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
while True:
    until = time.monotonic() + 0.02
    while time.monotonic() < until:
        pass
    time.sleep(0.08)
"""


class Receiver:
    """A JACK input that stamps what it hears."""

    def __init__(self, name: str) -> None:
        import rtmidi

        self.heard: list[tuple[int, bytes]] = []
        self.port = rtmidi.MidiIn(rtapi=rtmidi.API_UNIX_JACK, name=name)
        self.port.ignore_types(sysex=False, timing=False, active_sense=False)
        self.port.set_callback(lambda got, _: self.heard.append((time.monotonic_ns(), bytes(got[0]))))
        self.port.open_virtual_port("in")

    def hanging(self) -> list[tuple[int, int]]:
        """Notes that sound after all that was heard."""
        down: set[tuple[int, int]] = set()
        for _, m in self.heard:
            if m[0] & 0xF0 == 0x90:
                down.add((m[0] & 15, m[1]))
            elif m[0] & 0xF0 == 0x80:
                down.discard((m[0] & 15, m[1]))
        return sorted(down)

    def close(self) -> None:
        self.port.cancel_callback()
        self.port.close_port()
        self.port.delete()


class Stage:
    """A session with midi and standby processes; we are its supervisor, its performer and its clock."""

    def __init__(self, name: str, period: int, **midi: Any) -> None:
        layout = Layout()
        Session.declare(layout, n_in=1, n_out=2, n_features=208)
        self.folder = tempfile.TemporaryDirectory()
        config = Config(name=name, audio=Audio(block_size=period), midi=Midi(api="jack", **midi))
        self.session = Session.create(layout, Setup(config=config, run_folder=self.folder.name))
        self.session.clock.publish(0.0, time.monotonic(), RATE, 0.0)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.n = 0

    def start(self, role: str) -> None:
        fd = self.session.block.fd
        process = subprocess.Popen([sys.executable, "-m", "rtserver.roles.role", role, str(fd)], pass_fds=[fd])
        row = self.session.role(role)
        row[STATE], row[PID] = STARTING, process.pid
        self.processes[role] = process
        while row[STATE] != UP:
            time.sleep(0.01)

    def now(self, in_s: float = 0.0) -> int:
        return round(self.session.clock.frame_at(time.monotonic() + in_s))

    def play(self, in_s: float, pitch: int, duration_s: float, channel: int = 0) -> None:
        self.n += 1
        frame = self.now(in_s)
        self.session.emit("performer", Note(frame, frame, self.n, pitch, 80, round(duration_s * RATE), channel), "midi")

    def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait()
        self.folder.cleanup()


def notes(n: int, period: int) -> dict[str, Any]:
    """Seconds after their due times at which notes were sent, and heard."""
    with private_jackd(period, RATE) as environment:
        os.environ.update(environment)
        synth = Receiver("rtbench-synth")
        stage = Stage("rtbench", period, connect=["rtbench-synth"])
        stage.start("midi")
        time.sleep(1.0)
        due_s: list[float] = []
        sent: list[NoteOn] = []
        for i in range(n):
            frame = stage.now(0.05)
            due_s.append(stage.session.clock.time_at(frame))
            stage.session.emit("performer", Note(frame, frame, i, i % 128, 80, 480, i // 128 % 16), "midi")
            sent += [e for e in stage.session.receive("gateway") if isinstance(e, NoteOn)]
            time.sleep(0.0137)
        time.sleep(0.5)
        sent += [e for e in stage.session.receive("gateway") if isinstance(e, NoteOn)]
        heard = {(m[0] & 15, m[1]): at * 1e-9 for at, m in synth.heard if m[0] & 0xF0 == 0x90}
        heard_s = sorted(heard[i // 128 % 16, i % 128] - due for i, due in enumerate(due_s) if (i // 128 % 16, i % 128) in heard)
        sent_s = sorted((e.sent_ns - e.due_ns) * 1e-9 for e in sent)
        stage.close()
        synth.close()
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "worst": 1.0}

    def picked(of: list[float]) -> dict[str, float]:
        return {name: of[min(int(share * len(of)), len(of) - 1)] for name, share in shares.items()}

    return {"period": period, "notes": n, "heard": len(heard_s), "sent_s": picked(sent_s), "heard_s": picked(heard_s)}


def kills(n: int, period: int) -> dict[str, Any]:
    """Seconds from the kill to the last note-off, of each kill."""
    with private_jackd(period, RATE) as environment:
        os.environ.update(environment)
        synth = Receiver("rtbench-synth")
        stage = Stage("rtbench", period, connect=["rtbench-synth"])
        stage.start("midi")
        stage.start("standby")
        time.sleep(1.0)
        last_s: list[float] = []
        hanging = 0
        for _ in range(n):
            synth.heard.clear()
            for i in range(16):
                stage.play(0.02, 40 + i, 60.0, i % 3)
            for i in range(30):
                stage.play(0.02 * i, 80 + i % 12, 0.03)
            time.sleep(0.4)
            killed_ns = time.monotonic_ns()
            stage.processes["midi"].send_signal(signal.SIGKILL)
            time.sleep(0.8)
            hanging += len(synth.hanging())
            down: set[tuple[int, int]] = set()
            ends: list[int] = []
            for at, m in list(synth.heard):
                key = (m[0] & 15, m[1])
                if m[0] & 0xF0 == 0x90:
                    down.add(key)
                elif m[0] & 0xF0 == 0x80 and key in down:
                    down.discard(key)
                    ends.append(at)
            last_s.append((max(ends) - killed_ns) * 1e-9)
            stage.processes["midi"].wait()
            stage.session.role("midi")[RESTARTS] += 1
            stage.start("midi")
            time.sleep(0.5)
        stage.close()
        synth.close()
    return {
        "period": period,
        "kills": n,
        "hanging": hanging,
        "last_s": sorted(last_s),
        "worst_s": max(last_s),
        "p50_s": statistics.median(last_s),
    }


def loss(n: int) -> list[dict[str, Any]]:
    """How many note-offs of a plain port get lost, and how many notes hang with it and with the midi role."""
    import jack
    import rtmidi

    results: list[dict[str, Any]] = []
    for how in ("plain port", "midi role"):
        with private_jackd(128, RATE, realtime=False) as environment:
            os.environ.update(environment)
            synth = Receiver("rtbench-synth")
            stage = Stage("rtbench", 128, connect=["rtbench-synth"])
            plain = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name="rtbench-plain")
            plain.open_virtual_port("out")
            if how == "midi role":
                stage.start("midi")
            client = jack.Client("rtbench-connect", no_start_server=True)
            if how == "plain port":
                client.connect("rtbench-plain:out", "rtbench-synth:in")
            time.sleep(1.0)
            hogs = [subprocess.Popen([sys.executable, "-c", HOG]) for _ in range(2)]
            time.sleep(0.3)
            synth.heard.clear()
            for i in range(n):
                pitch = 10 + i % 100
                if how == "midi role":
                    stage.play(0.0, pitch, 0.006)
                    stage.session.receive("gateway")
                    time.sleep(0.012)
                else:
                    plain.send_message([0x90, pitch, 64])
                    time.sleep(0.006)
                    plain.send_message([0x80, pitch, 0])
                    time.sleep(0.006)
            for hog in hogs:
                hog.terminate()
                hog.wait()
            time.sleep(1.0)
            ons = sum(m[0] & 0xF0 == 0x90 for _, m in synth.heard)
            offs = sum(m[0] & 0xF0 == 0x80 for _, m in synth.heard)
            sent = n if how == "plain port" else stage.session.counters("midi")["notes_on"]
            results.append({"how": how, "notes": n, "sent": sent, "ons": ons, "offs": offs, "hanging": len(synth.hanging())})
            stage.close()
            client.close()
            synth.close()
    return results


def clock(seconds: float, period: int) -> dict[str, Any]:
    """Distances of ticks as heard, in seconds, and what a second midi role makes of them."""
    with private_jackd(period, RATE) as environment:
        os.environ.update(environment)
        ear = Receiver("rtbench-ear")
        master = Stage("rtbench-master", period, clock=True, connect=["rtbench-ear"])
        slave = Stage("rtbench-slave", period, connect_input=["rtbench-master-midi:midi_out"])
        master.start("midi")
        slave.start("midi")
        time.sleep(1.0)
        frame = master.now()
        master.session.emit("performer", Beat(frame, frame, 0.0, 120.0, True, "performer"), "midi")
        beats: list[Beat] = []
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            time.sleep(0.05)
            beats += [e for e in slave.session.receive("gateway") if isinstance(e, Beat)]
        frame = master.now()
        master.session.emit("performer", Beat(frame, frame, 2 * seconds, 120.0, False, "performer"), "midi")
        time.sleep(0.5)
        ticks = [at for at, m in ear.heard if m == b"\xf8"]
        gaps_s = sorted((b - a) * 1e-9 for a, b in itertools.pairwise(ticks))
        settled = [b.tempo_bpm for b in beats if b.quarter > 16 and b.running]
        errors = [abs(b.quarter - 2.0 * (b.frame / RATE - beats[0].frame / RATE) - beats[0].quarter) / 2.0 for b in beats if b.running]
        result = {
            "period": period,
            "ticks_sent": master.session.counters("midi")["ticks_out"],
            "ticks_heard": len(ticks),
            "ticks_of_the_other_server": slave.session.counters("midi")["ticks_in"],
            "gap_s": {"p1": gaps_s[len(gaps_s) // 100], "p50": statistics.median(gaps_s), "p99": gaps_s[-len(gaps_s) // 100]},
            "tempo_bpm": {"mean": statistics.mean(settled), "least": min(settled), "most": max(settled)},
            "position_error_s": {"p50": statistics.median(errors), "worst": max(errors)},
        }
        master.close()
        slave.close()
        ear.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--notes", type=int, default=500)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--loss", type=int, default=1200)
    parser.add_argument("--clock", type=float, default=30.0)
    arguments = parser.parse_args()
    result: dict[str, Any] = {"machine": machine()}
    if arguments.notes:
        result["notes"] = notes(arguments.notes, 128)
    if arguments.kills:
        result["kills"] = [kills(arguments.kills, period) for period in (1024, 128)]
    if arguments.loss:
        result["loss"] = loss(arguments.loss)
    if arguments.clock:
        result["clock"] = [clock(arguments.clock, period) for period in (128, 1024)]
    write_result("midi", result, arguments.output)


if __name__ == "__main__":
    main()
