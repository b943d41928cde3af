"""A tape machine on the audio system: plays a file into another program and records what comes back, sample for sample.

``python -m rtserver.audio.tape PLAY.wav RECORD.wav --play-to CLIENT --record-from CLIENT`` opens a stream with a native callback
(a Python one would drop blocks, and the fault would look like the server's), connects JACK ports by client name, runs once and
ends. It drives the demonstration, the live tests and the benchmarks.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from rtserver.kernels import cfunc, numba

from rtserver.audio import file as audio_file  # isort: skip
from rtserver.audio.device import Stream, name_jack_client
from rtserver.errors import DeviceError, RtserverError
from rtserver.node import Array

_types: Any = numba.types
_carray: Any = numba.carray
POSITION, N_FRAMES, N_IN, N_OUT, FLAGS = range(5)
HEADER = 8  # int64; the samples to play (n_frames, n_out) and the record (n_frames, n_in) follow as float32
CONNECT_S, JOIN_S = 10.0, 2.0


@cfunc(_types.int32(_types.voidptr, _types.voidptr, _types.uint64, _types.voidptr, _types.uint64, _types.voidptr))
def tape_callback(indata: Any, outdata: Any, frames: Any, _time: Any, flags: Any, user: Any) -> Any:
    """Play and record from the position on; before it is set to 0 and after the end, silence."""
    header = _carray(user, (HEADER,), numba.int64)
    n, n_in, n_out = numba.int64(frames), header[N_IN], header[N_OUT]
    position, n_frames = header[POSITION], header[N_FRAMES]
    samples = _carray(user, (HEADER * 2 + n_frames * (n_in + n_out),), numba.float32)
    x = _carray(indata, (n, n_in), numba.float32)
    y = _carray(outdata, (n, n_out), numba.float32)
    if position >= 0 and flags:
        header[FLAGS] += 1
    for i in range(n):
        k = position + i
        there = position >= 0 and k < n_frames
        for c in range(n_out):
            y[i, c] = samples[HEADER * 2 + k * n_out + c] if there else numba.float32(0.0)
        if there:
            for c in range(n_in):
                samples[HEADER * 2 + n_frames * n_out + k * n_in + c] = x[i, c]
    if position >= 0:
        header[POSITION] = position + n
    return 0


class Tape:
    """A running tape machine.

    Parameters
    ----------
    signal : (n_out, n_frames) float32
        What it plays.
    n_in : int
        Channels that it records.
    """

    def __init__(self, signal: Array, n_in: int, *, device: str | int, sample_rate: int, block_size: int) -> None:
        n_out, n_frames = signal.shape
        self._memory = np.zeros(HEADER + n_frames * (n_in + n_out) // 2 + 1, np.int64)
        self._header = self._memory[:HEADER]
        self._header[[POSITION, N_FRAMES, N_IN, N_OUT]] = (-1, n_frames, n_in, n_out)
        samples = self._memory.view(np.float32)[HEADER * 2 :]
        samples[: n_frames * n_out] = np.ascontiguousarray(signal.T).ravel()
        self._record = samples[n_frames * n_out :][: n_frames * n_in].reshape(n_frames, n_in)
        self.stream = Stream(
            device,
            sample_rate=sample_rate,
            block_size=block_size,
            channels=(n_in, n_out),
            callback=tape_callback.address,
            user=int(self._memory.ctypes.data),
        )
        self.stream.start()

    def start(self) -> None:
        """Begin with the next block."""
        self._header[POSITION] = 0

    @property
    def position(self) -> int:
        """Frames played so far."""
        return int(self._header[POSITION])

    @property
    def done(self) -> bool:
        """Whether the signal has been played to its end."""
        return bool(self._header[POSITION] >= self._header[N_FRAMES])

    @property
    def faults(self) -> int:
        """Blocks for which the audio system reported an overflow or underflow of this stream."""
        return int(self._header[FLAGS])

    @property
    def record(self) -> Array:
        """What was recorded, (n_in, n_frames) float32."""
        return np.ascontiguousarray(self._record.T)


def connect(name: str, play_to: str, record_from: str, n_out: int, n_in: int) -> None:
    """Join the tape's JACK ports to another client's, first to first. Waits for the client; raises `DeviceError` if it does not come."""
    import jack

    client = jack.Client(f"{name}-patch", no_start_server=True)
    try:
        until = time.monotonic() + CONNECT_S
        while True:
            targets = client.get_ports(f"^{play_to}:", is_audio=True, is_input=True)
            sources = client.get_ports(f"^{record_from}:", is_audio=True, is_output=True)
            mine_out = client.get_ports(f"^{name}:", is_audio=True, is_output=True)
            mine_in = client.get_ports(f"^{name}:", is_audio=True, is_input=True)
            if len(targets) >= 1 and len(sources) >= 1 and len(mine_out) >= n_out and len(mine_in) >= n_in:
                break
            if time.monotonic() > until:
                raise DeviceError(f"no JACK client {play_to!r} with inputs and {record_from!r} with outputs: is the server running?")
            time.sleep(0.05)
        for ours, port in zip(mine_out, targets, strict=False):
            for other in client.get_all_connections(port):  # a microphone, say: the tape alone is to be heard
                client.disconnect(other, port)
            _join(client, ours, port)
        for port, ours in zip(sources, mine_in, strict=False):
            _join(client, port, ours)
    finally:
        client.close()


def _join(client: Any, source: Any, destination: Any) -> None:
    """Connect two ports, unless the server has done so: it remembers a tape of the same name. A busy JACK may take a moment."""
    import jack

    until = time.monotonic() + JOIN_S
    while destination not in client.get_all_connections(source):
        if time.monotonic() > until:
            raise DeviceError(f"JACK does not connect {source.name} to {destination.name}")
        with contextlib.suppress(jack.JackError):
            client.connect(source, destination)
        time.sleep(0.02)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("play", type=Path)
    parser.add_argument("record", type=Path)
    parser.add_argument("--play-to", default="rtserver")
    parser.add_argument("--record-from", default="rtserver")
    parser.add_argument("--channels", type=int, default=2, help="channels to record")
    parser.add_argument("--block-size", type=int, default=1024)
    parser.add_argument("--name", default="tape")
    parser.add_argument("--device", default="system")
    args = parser.parse_args()
    try:
        sound, sample_rate = audio_file.read(args.play)
        name_jack_client(args.name)
        tape = Tape(sound, args.channels, device=args.device, sample_rate=sample_rate, block_size=args.block_size)
        connect(args.name, args.play_to, args.record_from, sound.shape[0], args.channels)
        time.sleep(2.5 * args.block_size / sample_rate)  # two periods until the connections carry sound
        marks: list[int] = []
        signal.signal(signal.SIGUSR1, lambda _number, _frame: marks.append(tape.position))
        print("playing", flush=True)
        tape.start()
        limit = time.monotonic() + 2 * sound.shape[1] / sample_rate + 5.0
        ended: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _frame: ended.append(number))  # ends the tape early, with what it has
        while not tape.done and not ended:
            if time.monotonic() > limit:
                raise DeviceError(f"the tape stands still at {tape.position} frames: is the audio server gone?")
            time.sleep(0.02)
        audio_file.write(args.record, tape.record[:, : tape.position], sample_rate)
        print(f"faults {tape.faults}", flush=True)
        if marks:
            print("marks", *marks, flush=True)  # how far it was at each SIGUSR1
        tape.stream.close()
    except RtserverError as error:
        print(f"tape: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
