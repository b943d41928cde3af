"""A whole server on a private JACK server, and a tape machine to play into it."""

from __future__ import annotations

import signal as signals
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rtserver.audio import file as audio_file
from rtserver.config import parse
from rtserver.preflight import preflight
from rtserver.replay import Log
from rtserver.roles.supervisor import Supervisor
from rtserver.show import Song

RATE = 48000


class LiveServer:
    """A supervisor with all its roles as processes, looked after by a thread of the test."""

    def __init__(self, folder: Path, raw: dict, songs: dict[str, dict] | None = None) -> None:
        """`songs`: what each song of the set list sets over `raw`, by name; None: a show of one song."""
        self.folder = folder
        self.name = raw["name"]
        wire = {key: f"ipc://{folder}/{key}" for key in ("control", "events", "bulk")}
        recording = {"folder": str(folder / "record")} | raw.get("recording", {})
        base = {"wire": wire, **raw, "recording": recording}
        self.config = parse(base, with_map=not songs)
        self.show = [Song(name, parse(base | song, with_map=not songs)) for name, song in (songs or {self.name: {}}).items()]
        run_folder = folder / "run"
        run_folder.mkdir()
        self.supervisor = Supervisor(preflight(self.show, run_folder), run_folder, lambda: self.show)
        self.session = self.supervisor.session
        self.supervisor.start()
        self._stop = False
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        if not self.wait(lambda: self.supervisor.ready, 60.0):
            self.close()
            raise AssertionError("the server did not come up")

    def _run(self) -> None:
        while not self._stop:
            with self._turn:
                self.supervisor.turn()
            time.sleep(0)  # whoever waits for the lock gets it

    def held(self) -> threading.Lock:
        """A supervisor that stands still for the length of a `with`."""
        return self._turn

    def wait(self, condition: Callable[[], object], timeout_s: float = 10.0) -> bool:
        until = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def process(self, role: str) -> subprocess.Popen[bytes]:
        process = self.supervisor.children[role].process
        assert process is not None
        return process

    def kill(self, role: str) -> float:
        """SIGKILL a role; returns when."""
        self.process(role).kill()
        return time.monotonic()

    def restarted(self, role: str) -> bool:
        child = self.supervisor.children[role]
        return child.restarts > 0 and child.was_up and self.supervisor.up(role)

    def play(self, signal: np.ndarray, channels: int = 3) -> Tape:
        return Tape(self, signal, channels)

    def events(self) -> list:
        """What the recorder has written so far."""
        return self.log().events

    def log(self) -> Log:
        (folder,) = (self.folder / "record").iterdir()
        return Log.read(folder)

    def close(self) -> None:
        if self._stop:
            return
        self._stop = True
        self._thread.join()
        self.supervisor.close()


class Tape:
    """The tape machine as a process of its own: PortAudio survives no restart of JACK within one process."""

    def __init__(self, server: LiveServer, signal: np.ndarray, channels: int) -> None:
        self.server = server
        self.files = server.folder / "play.wav", server.folder / "record.wav"
        audio_file.write(self.files[0], signal, RATE)
        command = [sys.executable, "-m", "rtserver.audio.tape", *map(str, self.files), "--channels", str(channels)]
        command += ["--play-to", server.name, "--record-from", server.name]
        command += ["--block-size", str(server.config.audio.block_size), "--name", f"{server.name}-tape"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "playing\n"
        self.started = time.monotonic()

    def mark(self) -> None:
        """Let it remember how far it is; the frames are in `marks` at the end."""
        self.process.send_signal(signals.SIGUSR1)

    def stop(self) -> np.ndarray:
        """What was recorded so far; the tape ends."""
        self.process.terminate()
        return self.result()

    def result(self) -> np.ndarray:
        """What was recorded, (channels, frames); waits for the end."""
        out, _ = self.process.communicate(timeout=60)
        assert out.startswith("faults"), f"the tape has written nothing, and ended with {self.process.returncode}"
        assert self.process.returncode in (0, -signals.SIGTERM)  # it may have been leaving by itself when it was told to stop
        self.marks = [int(position) for position in out.partition("marks")[2].split()]
        return audio_file.read(self.files[1])[0]


def lag(reference: np.ndarray, delayed: np.ndarray) -> int:
    """Frames by which `delayed` lags `reference`, by the peak of their correlation."""
    n = 1 << (len(reference) + len(delayed)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(delayed, n) * np.conj(np.fft.rfft(reference, n)), n)
    return int(np.argmax(cross[: n // 2]))
