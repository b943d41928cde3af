"""Plays a signal on the device and records what comes in meanwhile, in a process that is thrown away, as all owners of streams are.

``python -m rtserver.operations.through FOLDER`` reads ``FOLDER/orders.json`` and ``FOLDER/play.npy``, leaves
``FOLDER/record.npy``, and prints lines: ``position N`` as it goes, ``done FAULTS`` at the end. `through` is that process as its caller
sees it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from rtserver.config import Audio
from rtserver.errors import DeviceError, RtserverError
from rtserver.node import Array

TURN_S = 0.05
GRACE_S = 20.0  # on top of twice the signal's length: importing, compiling, opening the device


class Orders(msgspec.Struct, frozen=True):
    """What the process is told."""

    audio: Audio
    client_name: str
    n_inputs: int
    lead_s: float  # silence before the signal: connections that somebody makes by hand need a moment


class Take(msgspec.Struct, frozen=True):
    """What came of it."""

    record: Array  # (n_inputs, n_frames) float32, frame by frame beside what was played
    faults: int  # blocks for which the audio system reported an overflow or underflow


def through(
    signal: Array, n_inputs: int, audio: Audio, client_name: str, *, lead_s: float = 0.2, on_position: Callable[[int], object] | None = None
) -> Take:
    """Play `signal`, (n_outputs, n_frames) float32, on the device's first channels and record its first `n_inputs`.

    `on_position` is told the frame, twenty times a second. Raises `DeviceError` where the device refuses or stands still.
    """
    with tempfile.TemporaryDirectory(prefix="rtserver-through-") as name:
        folder = Path(name)
        np.save(folder / "play.npy", np.ascontiguousarray(signal, np.float32))
        (folder / "orders.json").write_bytes(msgspec.json.encode(Orders(audio, client_name, n_inputs, lead_s)))
        command = [sys.executable, "-m", "rtserver.operations.through", name]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        faults = -1
        try:
            for line in process.stdout:
                match line.split():
                    case ["position", frame] if on_position is not None:
                        on_position(int(frame))
                    case ["done", count]:
                        faults = int(count)
                    case _:
                        pass
            status = process.wait()
        finally:
            process.kill()
        if status != 0 or faults < 0:
            assert process.stderr is not None
            said = process.stderr.read().strip().splitlines()
            raise DeviceError(said[-1] if said else f"the stream ended with status {status}")
        return Take(np.load(folder / "record.npy"), faults)


def main() -> int:
    """Entry point of the process."""
    from rtserver.audio.device import name_jack_client
    from rtserver.audio.tape import Tape

    folder = Path(sys.argv[1])
    orders = msgspec.json.decode((folder / "orders.json").read_bytes(), type=Orders)
    signal: Array = np.load(folder / "play.npy")
    audio = orders.audio
    n_frames, sample_rate = signal.shape[1], audio.sample_rate
    end_s = time.monotonic() + 2 * n_frames / sample_rate + orders.lead_s + GRACE_S
    try:
        name_jack_client(orders.client_name)
        tape = Tape(signal, orders.n_inputs, device=audio.device, sample_rate=sample_rate, block_size=audio.block_size)
        time.sleep(orders.lead_s)
        tape.start()
        while not tape.done:
            if time.monotonic() > end_s:
                raise DeviceError(f"the stream stands still at frame {tape.position} of {n_frames}: is the audio server gone?")
            print(f"position {tape.position}", flush=True)
            time.sleep(TURN_S)
    except RtserverError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    np.save(folder / "record.npy", tape.record)
    print(f"done {tape.faults}", flush=True)
    tape.stream.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
