"""A signal played into a live server and recorded from it, by a tape machine in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtserver.audio import file as audio_file
from rtserver.demo.stage import RATE
from rtserver.errors import DeviceError, RtserverError
from rtserver.node import Array
from rtserver.roles.supervisor import Supervisor
from rtserver.shared.session import Session

START_S = 120.0  # with a cold kernel cache


@dataclass(frozen=True)
class Take:
    """One pass of the tape: what it played (1, n) and recorded (channels, n), the session frame of its frame 0, its own stream's faults."""

    signal: Array
    record: Array
    origin: int
    faults: int


def start(supervisor: Supervisor) -> None:
    """Start a server and look after it until it is up. Raises `RtserverError` where that takes too long."""
    supervisor.start()
    until = time.monotonic() + START_S
    while not supervisor.ready:
        if not supervisor.turn() or time.monotonic() > until:
            raise RtserverError(f"the server did not start within {START_S:.0f} s")


def play(supervisor: Supervisor, signal: Array, channels: int, scratch: Path, meanwhile: Callable[[], object]) -> Take:
    """Play `signal` (1, n) and half a second more into the server, record `channels` of it, looking after it `meanwhile`.

    Raises `DeviceError` where the tape machine fails.
    """
    tail = np.zeros((1, RATE // 2), np.float32)  # what is still on its way through the server when the signal ends
    signal = np.concatenate([signal, tail], axis=1)
    played, recorded = scratch / "play.wav", scratch / "record.wav"
    audio_file.write(played, signal, RATE)
    server = supervisor.session.config
    command = [sys.executable, "-m", "rtserver.audio.tape", str(played), str(recorded), "--channels", str(channels)]
    command += ["--block-size", str(server.audio.block_size), "--name", "rtserver-demo-tape"]
    command += ["--play-to", server.name, "--record-from", server.name]
    tape = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    origin = 0
    first = int(np.argmax(signal[0] != 0))
    try:
        while tape.poll() is None:
            supervisor.turn()
            meanwhile()
            origin = origin or _origin(supervisor.session, first)
    finally:
        tape.kill()
        said = tape.communicate()[0]
    if tape.returncode != 0 or not origin:
        raise DeviceError("the tape machine failed: see its message above")
    meanwhile()
    return Take(signal, audio_file.read(recorded)[0], origin, int(said.split("faults ")[1]))


def lag(reference: Array, delayed: Array) -> int:
    """Frames by which `delayed` lags `reference`: the peak of their correlation."""
    n = 1 << (len(reference) + len(delayed)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(delayed, n) * np.conj(np.fft.rfft(reference, n)), n)
    return int(np.argmax(cross[: n // 2]))


def _origin(session: Session, first: int) -> int:
    """The session frame of the recording's frame 0, once its first sound (frame `first`) has come in; 0 before."""
    ring = session.input_ring
    end = ring.written_to
    frames = np.arange(max(0, end - RATE), end)
    sound = ring.samples[0][frames & (ring.capacity - 1)] != 0
    return int(frames[int(np.argmax(sound))]) - first if sound.any() else 0
