"""``rtserver demo``: the built-in performance, then a band, is played into a live server; what comes out is written, measured and judged.

Everything is real: a JACK server, the server's processes, a tape machine that plays and records through JACK, a MIDI port that listens,
a ZeroMQ subscriber that prints. It fails, with the figure, where a stated limit is passed.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from rtserver.audio import file as audio_file
from rtserver.config import Config, parse
from rtserver.demo import RECORDING, SCORE
from rtserver.demo.again import again
from rtserver.demo.results import Results
from rtserver.demo.stage import RATE, jack_server
from rtserver.demo.stems import Stems, separate_band
from rtserver.demo.tape import play, start
from rtserver.demo.view import View
from rtserver.errors import SynthesisError
from rtserver.preflight import preflight
from rtserver.roles.supervisor import Supervisor
from rtserver.show import Song

N_OUTPUTS = 3  # harmonic, percussive, monitor


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
            start(supervisor)
            print(f"server up after {time.monotonic() - began:.1f} s: {', '.join(supervisor.children)}", flush=True)
            minuet = audio_file.read(RECORDING)[0].mean(axis=0, keepdims=True)
            take = play(supervisor, minuet, N_OUTPUTS, Path(scratch), view.show)
            origin_s = supervisor.session.clock.time_at(take.origin)
        finally:
            supervisor.close()
            view.close()
            synth.cancel_callback()
            synth.close_port()
            synth.delete()
        (recording,) = (Path(scratch) / "recording").iterdir()
        shutil.copyfile(recording / "events.jsonl", folder / "events.jsonl")
        stems = _stems(folder, Path(scratch) / "band", stage.period)
        replayed = again(recording, Path(scratch) / "again")
    results = Results(folder, supervisor, take, [(at - origin_s, message) for at, message in heard], replayed, stems)
    return results.judge()


def _stems(folder: Path, scratch: Path, period: int) -> Stems | None:
    """The band's part; None, with a line, where FluidSynth is missing."""
    print("a band plays, and a network takes it apart", flush=True)
    try:
        return separate_band(folder, scratch, period)
    except SynthesisError as error:
        print(f"the band is left out: {error}")
        return None


def _listen(heard: list[tuple[float, bytes]]) -> Any:
    """A MIDI input port that stamps what it hears, as a synthesiser would."""
    import rtmidi

    port: Any = rtmidi.MidiIn(rtapi=rtmidi.API_UNIX_JACK, name="rtserver-demo-synth")

    def stamp(got: tuple[list[int], float], _data: object = None) -> None:
        heard.append((time.monotonic(), bytes(got[0])))

    port.set_callback(stamp)
    port.open_virtual_port("in")
    return port
