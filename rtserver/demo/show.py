"""``rtserver demo``: the built-in performance is played into a live server; what comes out is written, measured and judged.

Everything is real: a JACK server, the server's processes, a tape machine that plays and records through JACK, a MIDI port that listens,
a ZeroMQ subscriber that prints. It fails, with the figure, where a stated limit is passed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rtserver.audio import file as audio_file
from rtserver.config import Config, parse
from rtserver.demo import RECORDING, SCORE
from rtserver.demo.again import again
from rtserver.demo.results import Results, Take
from rtserver.demo.stage import CHANNELS, RATE, jack_server
from rtserver.demo.view import View
from rtserver.errors import DeviceError, RtserverError
from rtserver.preflight import preflight
from rtserver.roles.supervisor import Supervisor
from rtserver.shared.session import Session
from rtserver.show import Song

START_S = 120.0  # with a cold kernel cache


def settings(folder: Path, sockets: Path, period: int) -> Config:
    """The show: harmonic and percussive out, the dry input as monitor; blocks of JACK's period.

    The performer accompanies in the piece's key; from bar 17 on, by a cue, it plays the piece itself along with the player.
    """
    return parse(
        {
            "name": "rtserver-demo",
            "audio": {"block_size": period, "spare_blocks": 2, "device": "system", "sample_rate": RATE},
            "outputs": {
                "harmonic": {"source": "harmonic", "channels": [1], "on_late": "dry"},
                "percussive": {"source": "percussive", "channels": [2], "on_late": "mute"},
                "monitor": {"source": "dry", "channels": [3], "align": False},
            },
            "score": {"file": str(SCORE)},
            "generation": {"scale": "G major", "seed": 1725, "pitch_low": 55, "pitch_high": 79, "polyphony": 2, "parts": ["Piano"]},
            "cues": {"cue": [{"name": "along", "at": "bar 17", "parameter": "generation.mode", "value": "along"}]},
            "midi": {"ports": {"synth": {"connect": ["rtserver-demo-synth"], "programs": {"1": 48, "2": 6}}}},
            "wire": {key: f"ipc://{sockets}/{key}" for key in ("control", "events", "bulk")},
            "recording": {"folder": str(sockets / "recording")},
        }
    )


def run(folder: Path) -> int:
    """Run the demonstration; 0 if everything stayed within its limits, 1 otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rtserver-demo-") as scratch, jack_server() as stage:
        print(f"rtserver demo: {stage.words}", flush=True)
        began = time.monotonic()
        config = settings(folder, Path(scratch), stage.period)
        supervisor = Supervisor(preflight([Song("demo", config)], Path(scratch)), Path(scratch))
        heard: list[tuple[float, bytes]] = []
        synth = _listen(heard)
        view = View(config)
        try:
            supervisor.start()
            _turn_until(supervisor, lambda: supervisor.ready, START_S, "the server did not start")
            print(f"server up after {time.monotonic() - began:.1f} s: {', '.join(supervisor.children)}", flush=True)
            take = _play(supervisor, Path(scratch), view)
            origin_s = supervisor.session.clock.time_at(take.origin)
        finally:
            supervisor.close()
            view.close()
            synth.cancel_callback()
            synth.close_port()
            synth.delete()
        (recording,) = (Path(scratch) / "recording").iterdir()
        shutil.copyfile(recording / "events.jsonl", folder / "events.jsonl")
        replayed = again(recording, Path(scratch) / "again")
    results = Results(folder, supervisor, take, [(at - origin_s, message) for at, message in heard], replayed)
    return results.judge()


def _listen(heard: list[tuple[float, bytes]]) -> Any:
    """A MIDI input port that stamps what it hears, as a synthesiser would."""
    import rtmidi

    port: Any = rtmidi.MidiIn(rtapi=rtmidi.API_UNIX_JACK, name="rtserver-demo-synth")

    def stamp(got: tuple[list[int], float], _data: object = None) -> None:
        heard.append((time.monotonic(), bytes(got[0])))

    port.set_callback(stamp)
    port.open_virtual_port("in")
    return port


def _turn_until(supervisor: Supervisor, done: Callable[[], bool], limit_s: float, complaint: str) -> None:
    until = time.monotonic() + limit_s
    while not done():
        if not supervisor.turn() or time.monotonic() > until:
            raise RtserverError(f"{complaint} within {limit_s:.0f} s")


def _play(supervisor: Supervisor, scratch: Path, view: View) -> Take:
    """Play the recording into the server from a tape machine of its own process, showing what the server says meanwhile."""
    stereo, _ = audio_file.read(RECORDING)
    mono = stereo.mean(axis=0, keepdims=True)
    tail = np.zeros((1, RATE // 2), np.float32)  # what is still on its way through the server when the recording ends
    signal = np.concatenate([mono, tail], axis=1)
    played, recorded = scratch / "play.wav", scratch / "record.wav"
    audio_file.write(played, signal, RATE)
    command = [sys.executable, "-m", "rtserver.audio.tape", str(played), str(recorded), "--channels", str(CHANNELS)]
    command += [
        "--block-size",
        str(supervisor.session.config.audio.block_size),
        "--play-to",
        supervisor.session.config.name,
        "--name",
        "rtserver-demo-tape",
    ]
    command += ["--record-from", supervisor.session.config.name]
    tape = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    origin = 0
    first = int(np.argmax(signal[0] != 0))
    try:
        while tape.poll() is None:
            supervisor.turn()
            view.show()
            origin = origin or _origin(supervisor.session, first)
    finally:
        tape.kill()
        said = tape.communicate()[0]
    if tape.returncode != 0 or not origin:
        raise DeviceError("the tape machine failed: see its message above")
    view.show()
    return Take(signal, audio_file.read(recorded)[0], origin, int(said.split("faults ")[1]))


def _origin(session: Session, first: int) -> int:
    """The session frame of the recording's frame 0, once its first sound (frame `first`) has come in; 0 before."""
    ring = session.input_ring
    end = ring.written_to
    frames = np.arange(max(0, end - RATE), end)
    sound = ring.samples[0][frames & (ring.capacity - 1)] != 0
    return int(frames[int(np.argmax(sound))]) - first if sound.any() else 0
