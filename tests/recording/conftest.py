"""A recorder as a real process, in a real session whose other roles are played by the test."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtserver.config import Config, Input, Recording
from rtserver.events import Command, Event
from rtserver.replay import Log
from rtserver.shared.memory import Layout
from rtserver.shared.ring import SampleRing
from rtserver.shared.session import PID, RESTARTS, STARTING, STATE, UP, Session, Setup

PATIENCE_S = 30.0  # a busy machine is slow; no test waits this long when all is well
BLOCK = 4800  # frames: a tenth of a second


class Stage:
    """A session with a recorder; the test is its sound card."""

    def __init__(self, base: Path, **recording: Any) -> None:
        self.above = Path(recording.setdefault("folder", str(base / "shows")))
        config = Config(name="rtrec", inputs={"main": Input(channels=[1, 2])}, recording=Recording(**recording))
        layout = Layout()
        Session.declare(layout, n_in=2, n_out=2, n_features=5)
        run_folder = base / "run"
        run_folder.mkdir()
        self.session = Session.create(layout, Setup(config, str(run_folder)))
        self.rng = np.random.default_rng(0)
        self.sound: dict[str, list[np.ndarray]] = {"input": [], "played": []}
        self.process: subprocess.Popen[str] | None = None

    def start(self, preexec: Callable[[], None] | None = None) -> None:
        """Spawn the recorder as the supervisor does, and wait until it is up."""
        fd, row = self.session.block.fd, self.session.role("recorder")
        command = [sys.executable, "-m", "rtserver.roles.role", "recorder", str(fd)]
        row[STATE] = STARTING
        self.process = subprocess.Popen(command, pass_fds=[fd], stderr=subprocess.PIPE, text=True, preexec_fn=preexec)  # noqa: PLW1509
        row[PID] = self.process.pid
        self.until(lambda: row[STATE] == UP or self.process.poll() is not None, "the recorder to come up")
        assert self.process.poll() is None, self.process.communicate()[1]

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            value = condition()
            if value:
                return value
            time.sleep(0.005)
        raise AssertionError(f"waited {PATIENCE_S} s for {what}")

    def play(self, n_blocks: int = 1) -> None:
        """Let noise come in and go out, a tenth of a second a block."""
        for _ in range(n_blocks):
            for name, kept in self.sound.items():
                ring = SampleRing.of(self.session.block, name)
                x = self.rng.uniform(-1, 1, (len(ring.samples), BLOCK)).astype(np.float32)
                ring.write(x, ring.written_to)
                kept.append(x)

    def silence(self, n_frames: int) -> None:
        """The stream starts anew `n_frames` later."""
        for name, kept in self.sound.items():
            ring = SampleRing.of(self.session.block, name)
            ring.restart(ring.written_to + n_frames)
            kept.append(np.zeros((len(ring.samples), n_frames), np.float32))

    def heard(self, name: str) -> np.ndarray:
        return np.concatenate(self.sound[name], axis=1)

    def caught_up(self) -> None:
        """Wait until the recorder has written all that was played."""
        total = self.session.frame - self.log().header.frame
        self.until(lambda: self.done() >= total, "the recorder to have everything")

    def done(self) -> int:
        """Frames of the input that the recorder has dealt with since its start."""
        counters = self.session.counters("recorder")
        return counters["frames"] + counters["gap_frames"] + counters["lost_frames"]

    def say(self, event: Event, role: str = "engine") -> None:
        self.until(lambda: self.session.ring(role, "recorder").put(_encode(event)), "room in the ring")

    def record(self, action: str) -> None:
        self.say(Command(self.session.frame, self.session.frame, "record", action), "gateway")

    def told(self, state: str) -> list[Any]:
        """Waits until the recorder has told the gateway of `state`; everything it has told by then."""
        told: list[Any] = []

        def heard() -> bool:
            told.extend(self.session.receive("gateway"))
            return any(event.state == state for event in told)

        self.until(heard, f"'{state}' to be told")
        return told

    def folders(self) -> list[Path]:
        return sorted(self.above.iterdir())

    def log(self) -> Log:
        return Log.read(self.folders()[-1])

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """What the supervisor does after a death."""
        self.session.role("recorder")[RESTARTS] += 1
        self.start()

    def stop(self) -> str:
        """End it in order; what it wrote to stderr."""
        assert self.process is not None
        self.process.terminate()
        return self.process.communicate(timeout=PATIENCE_S)[1]

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def _encode(event: Event) -> bytes:
    from rtserver.events import encode

    return encode(event)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Makes stages: ``make(format="flac")``."""
    made: list[Stage] = []

    def one(**recording: Any) -> Stage:
        made.append(Stage(tmp_path, **recording))
        return made[-1]

    yield one
    for stage in made:
        stage.close()
