"""Does the click drift? Minutes of it against the sample clock, in the sound and as MIDI, beside a player that sleeps from beat to beat.

    python benchmarks/drift.py [--minutes 10] [--period 256] [--tempo 113] [--output FILE.json]

A live server on a private jackd (dummy driver) clicks at a fixed tempo on an audio output and on a MIDI port, and records what it plays. An
ear, a JACK client in a process of its own, writes down in JACK's frames when a click begins in the sound (its first sample) and when a
note-on arrives. Beside it, into the same ear, a naive player sends a note-on and then sleeps for a beat (`time.sleep`), over and over, as
programs do that have no clock.

recorded     clicks in the recording, in session frames: the sample clock of what is played
sound, midi  the same clicks at JACK's ports, in JACK's frames: a block that JACK took without the server moves them by a block for good
midi - sound note-ons against the sound of the same beat
naive        the naive player's note-ons, in JACK's frames

Beat k should come k beats of so many frames after the first. What it differs from that is its error:

slope_ppm    of a line through the errors: how much slower than the clock it runs
last_ms      median error in the last minute, against that of the first
spread_ms    p50, p99 and most of the errors' size, against their median
exact        how many lie within half a frame of one line: a beat need not be whole frames, a click is
steps        how often the error differs by a block or more from the one before
heard        of how many; what is missing came while the ear was late, or was lost by JACK

JACK's MIDI is as fine as its period here, for the driver hands over messages at the start of one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from machine import machine, private_jackd, write_result

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from liveserver import RATE, LiveServer

from rtserver.audio import file as audio_file
from rtserver.audio import table as t

NAME = "rtdrift"
QUIET_S = 0.1  # silence after which a sample that is not zero begins a click
FIRST_S = 60.0


def ear() -> None:
    """Run in a child: print, at SIGTERM, the frames at which clicks begin, and those at which note-ons arrive with their pitches."""
    import jack

    client = jack.Client(f"{NAME}-ear", no_start_server=True)
    sound = client.inports.register("sound")
    ports = {name: client.midi_inports.register(name) for name in ("midi", "naive")}
    found: dict[str, list[tuple[int, int]]] = {"sound": [], "midi": [], "naive": []}
    silent_from = [0]
    quiet = round(QUIET_S * RATE)

    @client.set_process_callback
    def process(n_frames: int) -> None:
        now = client.last_frame_time
        loud = np.flatnonzero(sound.get_array())
        if loud.size:
            if now + loud[0] - silent_from[0] > quiet:
                found["sound"].append((now + int(loud[0]), 0))
            silent_from[0] = now + int(loud[-1])
        for name, port in ports.items():
            for offset, data in port.incoming_midi_events():
                message = bytes(data)
                if message[0] & 0xF0 == 0x90 and message[2]:
                    found[name].append((now + offset, message[1]))

    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    with client:
        print("ready", flush=True)
        while not ended:
            time.sleep(0.1)
    print(json.dumps(found), flush=True)


def naive(tempo_bpm: float) -> None:
    """Run in a child: a note-on, then a beat's sleep, and again."""
    import rtmidi

    port = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name=f"{NAME}-naive")
    port.open_virtual_port("out")
    print("ready", flush=True)
    sys.stdin.readline()
    k = 0
    while True:
        port.send_message([0x90, k % 128, 100])
        port.send_message([0x80, k % 128, 0])
        k += 1
        time.sleep(60.0 / tempo_bpm)


def child(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """This program again, once it is ready."""
    command = [sys.executable, __file__, *arguments]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def join(source: str, destination: str, *, midi: bool) -> None:
    """Connect the first port of a JACK client to a port."""
    import jack

    client = jack.Client(f"{NAME}-patch", no_start_server=True)
    until = time.monotonic() + 10.0
    while not (ports := client.get_ports(f"^{source}:", is_midi=midi, is_audio=not midi, is_output=True)):
        if time.monotonic() > until:
            raise SystemExit(f"no JACK client {source!r} plays anything")
        time.sleep(0.1)
    client.connect(ports[0], destination)
    client.close()


def listen(minutes: float, period: int, tempo_bpm: float) -> dict[str, Any]:
    """Run everything: what the ear heard, and what the server counted."""
    raw = {
        "name": NAME,
        "audio": {"block_size": period, "spare_blocks": 2, "device": "system"},
        "outputs": {"click": {"source": "click", "channels": [1]}},
        "generation": {"enabled": False, "tempo_bpm": tempo_bpm},
        "click": {"enabled": True},
        "midi": {"api": "jack", "ports": {"click": {"parts": ["click"], "connect": [f"{NAME}-ear:midi"]}}},
        "recording": {"input": False},
    }
    with tempfile.TemporaryDirectory() as folder, private_jackd(period, RATE, name="drift") as environment:
        os.environ.update(environment)
        listener, player = child(environment, "--ear"), child(environment, "--naive", "--tempo", str(tempo_bpm))
        server = LiveServer(Path(folder), raw)
        try:
            join(NAME, f"{NAME}-ear:sound", midi=False)
            join(f"{NAME}-naive", f"{NAME}-ear:naive", midi=True)
            time.sleep(3.0)
            assert player.stdin is not None
            player.stdin.write("\n")
            player.stdin.flush()
            before = os.getloadavg()[0]
            time.sleep(60.0 * minutes)
            load = before, os.getloadavg()[0]
            table = server.session.block["audio.table"]
            counted = {
                "long_intervals": int(table[t.LONG_INTERVALS]),
                "callbacks": int(table[t.CALLBACKS]),
                "late_clicks_sound": int(table[t.LATE_CLICKS]),
                "restarts": sum(c.restarts for c in server.supervisor.children.values()),
            } | {key: server.session.counters("midi")[key] for key in ("notes_on", "late_notes", "dropped_notes")}
        finally:
            player.kill()
            player.wait()
            listener.terminate()
            found, _ = listener.communicate()
            server.close()
        heard = json.loads(found)
        played, _ = audio_file.read(next(Path(folder).glob("record/*/played.wav")))
        heard["recorded"] = [(int(k), 0) for k in onsets(played[0])]
    return {"heard": heard, "counted": counted, "load_1_min": load}


def onsets(y: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Frames at which a click begins after silence."""
    loud = np.flatnonzero(y)
    return loud[np.diff(loud, prepend=-RATE) > QUIET_S * RATE]


def against(rows: list[tuple[int, int]], others: list[tuple[int, int]], beat: float) -> list[tuple[int, int]]:
    """How much later than the other's each came, of those beats that both have, laid on even beats."""
    theirs = np.array([frame for frame, _ in others])
    found: list[tuple[int, int]] = []
    for frame, _ in rows:
        nearest = int(theirs[np.argmin(np.abs(theirs - frame))])
        if abs(frame - nearest) < 0.4 * beat:
            found.append((frame - nearest, round((nearest - theirs[0]) / beat)))
    return [(round(k * beat) + late, 0) for late, k in found]


def judge(rows: list[tuple[int, int]], period: int, tempo_bpm: float, counts: bool) -> dict[str, Any]:
    """Errors against beats of even length. counts: pitches say which beat it is; else the distance from the one before does."""
    beat = 60.0 * RATE / tempo_bpm
    frames = np.array([frame for frame, _ in rows], np.float64)
    if counts:
        pitches = np.array([pitch for _, pitch in rows])
        k = np.concatenate(([0], np.cumsum(np.diff(pitches) % 128)))
    else:
        k = np.concatenate(([0], np.cumsum(np.round(np.diff(frames) / beat)))).astype(np.int64)
    error = frames - frames[0] - k * beat
    at_s = k * beat / RATE
    first = np.median(error[at_s < FIRST_S])
    slope = np.polyfit(at_s, error / RATE, 1)[0]
    size = np.abs(error - np.median(error)) / RATE * 1e3
    return {
        "heard": len(frames),
        "of": int(k[-1]) + 1,
        "minutes": float(at_s[-1] / 60.0),
        "slope_ppm": float(slope * 1e6),
        "last_ms": float((np.median(error[at_s > at_s[-1] - FIRST_S]) - first) / RATE * 1e3),
        "spread_ms": {"p50": float(np.median(size)), "p99": float(np.quantile(size, 0.99)), "most": float(size.max())},
        "steps": int(np.count_nonzero(np.abs(np.diff(error)) >= period - 1)),
        "exact": int(np.count_nonzero(np.abs(error - _mode(error)) <= 0.5)),
    }


def _mode(error: npt.NDArray[np.float64]) -> float:
    """The error that most have, to half a frame."""
    values, n = np.unique(np.round(error), return_counts=True)
    near = np.abs(error - values[np.argmax(n)]) <= 1.0
    return float((error[near].max() + error[near].min()) / 2.0)


def main() -> None:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--period", type=int, default=256)
    parser.add_argument("--tempo", type=float, default=113.0)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--ear", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--naive", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ear:
        return ear()
    if arguments.naive:
        return naive(arguments.tempo)
    found = listen(arguments.minutes, arguments.period, arguments.tempo)
    heard = found.pop("heard")
    heard["sound"] = heard["sound"][1:]  # the ear may have been connected within a click
    heard["midi - sound"] = against(heard["midi"], heard["sound"], 60.0 * RATE / arguments.tempo)
    names = ("recorded", "sound", "midi", "midi - sound", "naive")
    rows = {name: judge(heard[name], arguments.period, arguments.tempo, counts=name == "naive") for name in names}
    print("| | heard | slope, ppm | last minute, ms | p50 / p99 / most, ms | exact | steps |\n|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        spread = " / ".join(f"{row['spread_ms'][key]:.3f}" for key in ("p50", "p99", "most"))
        told = f"{row['slope_ppm']:.3f} | {row['last_ms']:.3f} | {spread} | {row['exact']} | {row['steps']}"
        print(f"| {name} | {row['heard']} of {row['of']} | {told} |")
    result = {"machine": machine(), "period": arguments.period, "tempo_bpm": arguments.tempo, "rate": RATE, **found, **rows}
    write_result("drift", result, arguments.output)
    return None


if __name__ == "__main__":
    main()
