"""The performer in a live server, on time or not: from a key to its first note, and from a note's due time to whoever hears it.

    python benchmarks/performing.py [--minutes 3] [--keys 100] [--period 128] [--output FILE.json]

Everything is real and runs at once: a private jackd (dummy driver, 48 kHz), the demonstration's performance as audio in, separation,
the follower on its score, the performer, the MIDI port, the gateway, the recorder. Who measures stands outside: a JACK client that stamps
what it plays and hears to the frame, and ZeroMQ clients (performing_client.py), each a process of its own without priority.

event: what a sampled note costs (benchmarks/performer.py).
key: no score; `reset`, a while of nothing, a key through JACK, the performer's first note (`[generation] start = "first_note"`). From when
the key is played into JACK, which hands it to our input in the same period, until the server's stamp of it, until the note-on is sent,
until a ZeroMQ client has received the note, and until a JACK port hears it.
delivery: from the due time of each note until a JACK port hears it (the time of the frame; JACK quantises to the period, and nothing is
taken off for that) and until a client plays it that schedules by due time; beside them, in the same run, two clients that play on
receipt and by relative sleeps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, private_jackd, write_result
from performer import costs

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from faults import Stage, settings
from jackmidi import JackMidi, Stamped
from liveserver import RATE
from performing_client import WAYS

from rtserver.audio import file as audio_file
from rtserver.demo import RECORDING, SCORE
from rtserver.generation.performer import Performer

NAME = "rtperforming"
KEY, KEY_CHANNEL = 60, 0
Row = tuple[str, int, int, int, int]  # of performing_client.py


def summary(seconds: list[float] | np.ndarray) -> dict[str, float]:
    """Milliseconds."""
    ms = 1e3 * np.asarray(seconds)
    if not len(ms):
        return {"n": 0}
    low, p1, p50, p99, high = np.percentile(ms, (0, 1, 50, 99, 100))
    return {"n": len(ms), "min": low, "p50": p50, "p99": p99, "max": high, "p1_to_p99": p99 - p1}


class Clients:
    """The ZeroMQ clients."""

    def __init__(self, endpoint: str, ways: list[str]) -> None:
        program = [sys.executable, str(Path(__file__).parent / "performing_client.py")]
        self.processes = {way: subprocess.Popen([*program, way, endpoint], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for way in ways}
        for process in self.processes.values():
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"

    def close(self) -> dict[str, list[Row]]:
        """End them; what each has written down."""
        return {way: [tuple(json.loads(row)) for row in p.communicate(b"")[0].splitlines()] for way, p in self.processes.items()}


def show(period: int, **changes: Any) -> dict[str, Any]:
    """The server: the performer's notes go to our ear, our keys to its input."""
    raw = settings(NAME, midi={"connect": [f"{NAME}-ear"], "connect_input": [f"{NAME}-ear"]}, **changes)
    return raw | {"audio": {**raw["audio"], "block_size": period}}


def heard_at(ear: JackMidi, sent: list[tuple[int, int, int]]) -> dict[int, Stamped]:
    """What our ear heard of each note, by its id. `sent`: (sent_ns, pitch, note_id); what JACK lost is missing."""
    ons: dict[int, list[Stamped]] = {}
    for stamped in ear.heard:
        if stamped.data[0] & 0xF0 == 0x90 and stamped.data[2]:
            ons.setdefault(stamped.data[1], []).append(stamped)
    found: dict[int, Stamped] = {}
    for sent_ns, pitch, note_id in sorted(sent):
        ours = ons.get(pitch, [])
        while ours and ours[0].worked_ns < sent_ns - 1_000_000:  # `sent_ns` is read when it has been handed to the port's process
            ours.pop(0)
        if ours and ours[0].worked_ns < sent_ns + 50_000_000:
            found[note_id] = ours.pop(0)
    return found


def deliver(folder: Path, period: int, minutes: float) -> dict[str, Any]:
    """Everything plays; each note's error at the port and at the clients."""
    performance, rate = audio_file.read(RECORDING)
    assert rate == RATE, f"the demonstration is at {rate} Hz"
    ear = JackMidi(f"{NAME}-ear")
    generation = {"scale": "G major", "pitch_low": 55, "pitch_high": 79, "polyphony": 3, "grid": 6}
    stage = Stage(folder, show(period, score={"file": str(SCORE)}, generation=generation), synth=False)
    try:
        stage.wait(stage.well, 60.0)
        assert stage.ask("record", action="start")["ok"]
        n = round(60.0 * minutes * RATE)
        tape = stage.server.play(np.tile(performance[:1], n // performance.shape[1] + 2)[:, : n + 5 * RATE], channels=2)
        clients = Clients(stage.server.config.wire.events, list(WAYS))
        began_s = next_loop_s = time.monotonic()
        while time.monotonic() < began_s + 60.0 * minutes:
            if time.monotonic() >= next_loop_s:  # the piece begins again
                next_loop_s += performance.shape[1] / RATE
                stage.ask("seek", quarter=0.0)
            time.sleep(0.1)
        rows = clients.close()
        status = stage.ask("status")["result"]
        tape.process.kill()
        tape.process.wait()
        events = stage.subscriber.since(began_s, "note_on")
        restarts = sum(child.restarts for child in stage.server.supervisor.children.values())
    finally:
        stage.close()
        ear.close()
    heard = heard_at(ear, [(e["sent_ns"], e["pitch"], e["note_id"]) for e in events])
    found = {
        "sent_after_due": summary([(e["sent_ns"] - e["due_ns"]) * 1e-9 for e in events]),
        "jack_after_due": summary([(heard[e["note_id"]].at_ns - e["due_ns"]) * 1e-9 for e in events if e["note_id"] in heard]),
    }
    for way, of in rows.items():
        found[f"client_{way}"] = summary([(played - due) * 1e-9 for topic, _, due, _, played in of if topic == "note"])
    ahead = [(due - received) * 1e-9 for topic, _, due, received, _ in rows["due"] if topic == "note"]
    found["received_before_due"] = summary(ahead)
    counters = {name: role["counters"] for name, role in status["roles"].items() if name in ("performer", "midi", "gateway", "follower")}
    return {"minutes": minutes, "period": period, "milliseconds": found, "counters": counters, "restarts": restarts}


def first_notes(folder: Path, period: int, n: int, seed: int = 0) -> dict[str, Any]:
    """From a key to the performer's first note, n times."""
    chance = random.Random(seed)
    ear = JackMidi(f"{NAME}-ear")
    generation = {"scale": "C major", "tempo_bpm": 120.0, "grid": 6, "polyphony": 3, "start": "first_note"}
    stage = Stage(folder, show(period, generation=generation), synth=False)
    rows: list[tuple[int, int, int, int]] = []  # key, its stamp, note-on sent, note id
    missed = 0
    try:
        stage.wait(stage.well, 60.0)
        tape = stage.server.play(np.zeros((1, round((n * 2.5 + 30) * RATE)), np.float32), channels=2)
        clients = Clients(stage.server.config.wire.events, ["receipt"])
        for _ in range(n):
            assert stage.ask("reset")["ok"]
            time.sleep(chance.uniform(0.5, 0.9))  # by then what was committed has been played
            from_s, before = time.monotonic(), len(ear.sent)
            ear.send(bytes((0x90 | KEY_CHANNEL, KEY, 80)))
            if stage.wait(lambda since_s=from_s: stage.subscriber.since(since_s, "note_on"), 2.0):
                stage.wait(lambda n_before=before: len(ear.sent) > n_before, 1.0)
                key_ns = ear.sent[before].worked_ns
                first = min(stage.subscriber.since(from_s, "note_on"), key=lambda e: e["sent_ns"])
                stage.wait(lambda since_s=from_s: stage.subscriber.since(since_s, "midi_in"), 1.0)
                stamp = stage.subscriber.since(from_s, "midi_in")[0]["frame"]
                rows.append((key_ns, round(stage.session.clock.time_at(stamp) * 1e9), first["sent_ns"], first["note_id"]))
            else:
                missed += 1
            time.sleep(0.2)
            ear.send(bytes((0x80 | KEY_CHANNEL, KEY, 0)))
        received = {row[1]: row[3] for row in clients.close()["receipt"] if row[0] == "note"}
        sent_all = [(e["sent_ns"], e["pitch"], e["note_id"]) for e in stage.subscriber.since(0.0, "note_on")]
        tape.process.kill()
        tape.process.wait()
    finally:
        stage.close()
        ear.close()
    heard = heard_at(ear, sent_all)
    return {
        "period": period,
        "keys": n,
        "without_a_note": missed,
        "milliseconds": {
            "key_to_its_stamp_by_the_server": summary([(stamp - key) * 1e-9 for key, stamp, _, _ in rows]),
            "key_to_note_sent": summary([(sent - key) * 1e-9 for key, _, sent, _ in rows]),
            "key_to_note_received_by_zeromq": summary([(received[n] - key) * 1e-9 for key, _, _, n in rows if n in received]),
            "key_to_note_heard_at_jack": summary([(heard[n].worked_ns - key) * 1e-9 for key, _, _, n in rows if n in heard]),
        },
    }


def table(figures: dict[str, dict[str, float]]) -> None:
    """Print it."""
    print(f"| {'milliseconds':42s} |      n |      min |      p50 |      p99 |      max |  p1..p99 |")
    print("|" + "-" * 44 + "|" + "|".join(["--------"] + ["----------"] * 5) + "|")
    for name, row in figures.items():
        cells = " | ".join(f"{row.get(key, float('nan')):8.2f}" for key in ("min", "p50", "p99", "max", "p1_to_p99"))
        print(f"| {name.replace('_', ' '):42s} | {row['n']:6d} | {cells} |")


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0, help="of delivery; 0: none")
    parser.add_argument("--keys", type=int, default=100, help="first notes; 0: none")
    parser.add_argument("--events", type=int, default=5000, help="sampled notes; 0: none")
    parser.add_argument("--period", type=int, default=128)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    result: dict[str, Any] = {"machine": machine()}
    if args.events:
        result["event_us"] = costs(Performer(seed=1, top_p=0.95), args.events)["sampled_event"]
        print("a sampled note: " + "  ".join(f"{key} {value:.0f}" for key, value in result["event_us"].items()) + " us")
    with tempfile.TemporaryDirectory() as scratch, private_jackd(args.period, RATE) as environment:
        os.environ.update(environment)
        folders = (Path(scratch) / str(i) for i in itertools.count())
        for name, wanted, measure in (
            ("key", args.keys, lambda folder: first_notes(folder, args.period, args.keys)),
            ("delivery", args.minutes, lambda folder: deliver(folder, args.period, args.minutes)),
        ):
            if wanted:
                folder = next(folders)
                folder.mkdir()
                result[name] = measure(folder)
                print(f"\n{name}, period {args.period}")
                table(result[name]["milliseconds"])
    write_result("performing", result, args.output)


if __name__ == "__main__":
    main()
