"""Offline is live without a device: the same callback kernels, the same fast lane, the same workers, driven in step by one loop.

A block goes in, the mixer takes what the engine has made of the blocks before, the engine and the workers do their part, and so on:
nothing can come late, and what a live session calls clean is the same, bit for bit.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from rtserver.audio import file as audio_file
from rtserver.audio.mixer import mix_output, take_input
from rtserver.config import Config, Input, Output
from rtserver.errors import ConfigError, RtserverError
from rtserver.events import AnyEvent, decode
from rtserver.fastlane import FastLane, pass_positions
from rtserver.node import Array
from rtserver.pipeline import fast_lanes
from rtserver.plan import Plan, open_session
from rtserver.preflight import check
from rtserver.roles.follower import FollowerRole
from rtserver.roles.performer import PerformerRole
from rtserver.shared.session import Session, Setup
from rtserver.verdict import SCORE_FILE
from rtserver.wire.sink import FileSink

PRODUCERS = ("engine", "follower", "performer")


@dataclass
class Rendered:
    """What a render left: files, events, and the latency that was trimmed from each output, in frames."""

    files: list[Path]
    n_events: int
    latency: dict[str, int]


def exchange(session: Session, indata: Array, outdata: Array) -> None:
    """What the audio callback does: (n_frames, device channels) float32 in and out."""
    block = session.block
    i64 = block.bytes[: len(block.bytes) // 8 * 8].view(np.int64)
    f32 = i64.view(np.float32)
    take_input(block["audio.table"], i64, f32, indata)
    mix_output(block["audio.table"], i64, f32, outdata)


def workers_of(session: Session) -> dict[str, Callable[[], FollowerRole | PerformerRole]]:
    """How to make the workers that a song has, in the order of the signal flow. Live they are processes."""
    workers: dict[str, Callable[[], FollowerRole | PerformerRole]] = {}
    if session.setup.score_file:
        workers["follower"] = lambda: FollowerRole(session)
    if session.config.keeps_time:
        workers["performer"] = lambda: PerformerRole(session)
    return workers


def prepared(config: Config, folder: Path) -> Plan:
    """Check a song as the preflight does, its parsed score in `folder`; what is to be said of that goes to stderr."""
    verdict = check(config, folder)
    for warning in verdict.warnings:
        print(f"rtserver: {config.score.file}: {warning}", file=sys.stderr)
    return verdict.plan


class Stepper:
    """One private session driven block by block. `lanes`, `workers`, `session` and `plan` are open to whoever wants to look.

    Parameters
    ----------
    config : Config
    folder : Path
        For the parsed score.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        self.plan = prepared(config, folder)
        score = folder / SCORE_FILE
        setup = Setup(config, str(folder), str(score) if score.exists() else "", self.plan.tracks)
        self.session: Session = open_session(setup, self.plan)
        self.lanes: list[FastLane] = fast_lanes(self.session)
        self.workers = {name: make() for name, make in workers_of(self.session).items()}
        for worker in self.workers.values():
            worker.prepare()

    def exchange(self, indata: Array, outdata: Array) -> None:
        """What the audio callback does: (block_size, device channels) float32 in and out."""
        exchange(self.session, indata, outdata)

    def work(self) -> None:
        """What engine and workers do after a block."""
        for lane in self.lanes:
            while lane.run_hop():  # live the workers are as quick: the follower knows what the performer has decided two hops before
                self._step()
        self._step()

    def _step(self) -> None:
        for worker in self.workers.values():
            worker.step()
        pass_positions(self.session, self.lanes)

    def events(self) -> Iterator[AnyEvent]:
        """Everything emitted since the last call."""
        for producer in PRODUCERS:
            for message in self.session.ring(producer, "gateway").drain():
                yield decode(message)
        self.session.ring("performer", "midi").drain()


def fit(config: Config, n_channels: int, sample_rate: int) -> Config:
    """`config` at the file's rate; without channels of its own (the default configuration), with the file's channels."""
    audio = msgspec.structs.replace(config.audio, sample_rate=sample_rate)
    config = msgspec.structs.replace(config, audio=audio)
    if config.inputs == Config().inputs and config.outputs == Config().outputs and n_channels == 2:
        outputs = {
            "harmonic": Output(source="harmonic", channels=[1, 2], on_late="dry"),
            "percussive": Output(source="percussive", channels=[3, 4], on_late="dry"),
        }
        config = msgspec.structs.replace(config, inputs={"main": Input(channels=[1, 2])}, outputs=outputs)
    for name, source in config.inputs.items():
        if max(source.channels) > n_channels:
            raise ConfigError(f"inputs.{name}.channels", f"uses channel {max(source.channels)}, the file has {n_channels}")
    return config


def finish(sink: FileSink) -> None:
    """Close the file of events. Raises `RtserverError` where it is not whole."""
    sink.close()
    if sink.error is not None:
        raise RtserverError(f"{sink.path}: cannot be written ({sink.error.strerror}); is the disk full?")


def render(path: Path, folder: Path, config: Config, progress: Callable[[int], None] = lambda _: None) -> Rendered:
    """Play an audio file through the server and write what comes out.

    Parameters
    ----------
    path : Path
        WAV, FLAC or Ogg.
    folder : Path
        Receives ``<output>.wav`` for every output, aligned to the input (latency trimmed) and as long, and ``events.jsonl``.
    config : Config
        Its sample rate is replaced by the file's.
    progress : callable
        Told the number of frames done after each block.
    """
    signal, sample_rate = audio_file.read(path)
    config = fit(config, signal.shape[0], sample_rate)
    audio_file.check_apart(path, [folder / f"{name}.wav" for name in config.outputs])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rtserver-") as scratch:
        stepper = Stepper(config, Path(scratch))
        plan, n_frames = stepper.plan, signal.shape[1]
        longest = max(o.latency for o in plan.outputs)
        played = np.zeros((n_frames + longest + plan.block_size, plan.device_out), np.float32)
        events: list[AnyEvent] = []
        for start in range(0, n_frames + longest, plan.block_size):
            block = np.zeros((plan.block_size, plan.device_in), np.float32)
            piece = signal[: plan.device_in, start : start + plan.block_size].T
            block[: len(piece)] = piece
            stepper.exchange(block, played[start : start + plan.block_size])
            stepper.work()
            events += stepper.events()
            progress(min(start + plan.block_size, n_frames))
    sink = FileSink(folder / "events.jsonl")  # not sooner: where a render fails, what was there stays
    for event in events:
        sink.send(event)
    finish(sink)
    files: list[Path] = []
    with ExitStack() as stack:  # all get to their places, or none
        for output in plan.outputs:
            files.append(folder / f"{output.name}.wav")
            channels = played[output.latency : output.latency + n_frames, list(output.channels)]
            stack.enter_context(audio_file.Writer(files[-1], sample_rate, len(output.channels))).write(channels.T)
    return Rendered([*files, folder / "events.jsonl"], len(events), {o.name: o.latency for o in plan.outputs})
