"""Offline is live without a device: the same callback kernels, the same fast lane, the same workers, driven in step by one loop.

A block goes in, the mixer takes what the engine has made of the blocks before, the engine and the workers do their part, and so on:
nothing can come late, and what a live session calls clean is the same, bit for bit.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from rtserver.audio import file as audio_file
from rtserver.audio import table as t
from rtserver.audio.mixer import mix_output, take_input
from rtserver.audio.stream import begin_stream
from rtserver.config import Config, Input, Output
from rtserver.errors import ConfigError
from rtserver.events import AnyEvent, decode
from rtserver.fastlane import FastLane
from rtserver.node import Array
from rtserver.pipeline import fast_lanes
from rtserver.plan import Plan, open_session
from rtserver.preflight import check
from rtserver.reenact import LaneScript, MixerScript
from rtserver.replay import Feed, Log, LogError
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


class Stepper:
    """One private session driven block by block. `lanes`, `workers`, `session` and `plan` are open to whoever wants to look.

    Parameters
    ----------
    config : Config
    folder : Path
        For the parsed score.
    log : Log, optional
        Of a recorded session, whose misses, changes and restarts happen again.
    """

    def __init__(self, config: Config, folder: Path, log: Log | None = None) -> None:
        verdict = check(config, folder)
        for warning in verdict.warnings:
            print(f"rtserver: {config.score.file}: {warning}", file=sys.stderr)
        self.plan: Plan = verdict.plan
        score = folder / SCORE_FILE
        setup = Setup(config, str(folder), str(score) if score.exists() else "", self.plan.tracks)
        self.session: Session = open_session(setup, self.plan)
        self.lanes: list[FastLane] = fast_lanes(self.session)
        block = self.session.block
        self._table = block["audio.table"]
        self._i64 = block.bytes[: len(block.bytes) // 8 * 8].view(np.int64)
        self._f32 = self._i64.view(np.float32)
        self.workers = self._make_workers()
        self._mixer = MixerScript(block, self.plan, log) if log else None
        self._silent = 0  # frames until the stream goes on
        self._scripts = [LaneScript(lane, log) for lane in self.lanes] if log else None
        self._feed = Feed(self.session, log, self.workers) if log else None

    def _make_workers(self) -> dict[str, FollowerRole | PerformerRole]:
        """The roles that run live as processes of their own, in the order of the signal flow."""
        workers: dict[str, FollowerRole | PerformerRole] = {}
        if self.session.setup.score_file:
            workers["follower"] = FollowerRole(self.session)
        if self.session.config.generation.enabled:
            workers["performer"] = PerformerRole(self.session)
        for worker in workers.values():
            worker.prepare()
        return workers

    def exchange(self, indata: Array, outdata: Array) -> None:
        """What the audio callback does: (block_size, device channels) float32 in and out."""
        done = 0
        while done < len(indata):  # cut where something happened: how blocks are cut changes nothing
            frame, left = int(self._table[t.FRAME]), len(indata) - done
            if self._mixer and frame in self._mixer.gaps:
                begin_stream(self.session, self._mixer.gaps[frame])
                self._silent = self._mixer.gaps[frame] - frame
            if self._silent:  # no stream ran
                n = min(left, self._silent)
                outdata[done : done + n] = 0.0
                self._silent -= n
                done += n
                continue
            n = min(left, (self._mixer.stage(frame) if self._mixer else t.FOREVER) - frame)
            take_input(self._table, self._i64, self._f32, indata[done : done + n])
            mix_output(self._table, self._i64, self._f32, outdata[done : done + n])
            done += n

    def work(self) -> None:
        """What engine and workers do after a block."""
        if self._scripts is not None:
            for script in self._scripts:
                script.run()
        for lane in self.lanes if self._scripts is None else ():
            while lane.run_hop():
                pass
        if self._feed is not None:
            self._feed(self.session.frame)
        for worker in self.workers.values():
            worker.step()

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


def replay(path: Path, folder: Path, log: Log, progress: Callable[[int], None] = lambda _: None) -> Rendered:
    """Let a recorded session happen again.

    Parameters
    ----------
    path : Path
        What came in: the recording's ``input.wav``.
    folder : Path
        Receives what `render` writes, and ``played.wav``: what went to the device, frame for frame as the recording's own.
    log : Log
    progress : callable
        Told the number of frames done after each block.

    Raises
    ------
    LogError
        If the log does not say enough, or the file is not the session's.
    """
    if log.header.frame:
        raise LogError(f"{log.path}: begins at session frame {log.header.frame}; a replay needs the session from its start")
    return _render(path, folder, log.config, progress, log)


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
    return _render(path, folder, config, progress, None)


def _render(path: Path, folder: Path, config: Config, progress: Callable[[int], None], log: Log | None) -> Rendered:
    signal, sample_rate = audio_file.read(path)
    if log is not None and sample_rate != log.header.sample_rate:
        raise LogError(f"{path} is at {sample_rate} Hz, the session of {log.path} ran at {log.header.sample_rate}: another recording?")
    config = fit(config, signal.shape[0], sample_rate)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rtserver-") as scratch:
        stepper = Stepper(config, Path(scratch), log)
        plan, n_frames = stepper.plan, signal.shape[1]
        longest = max(o.latency for o in plan.outputs)
        played = np.zeros((n_frames + longest + plan.block_size, plan.device_out), np.float32)
        sink = FileSink(folder / "events.jsonl")
        n_events = 0
        for start in range(0, n_frames + longest, plan.block_size):
            block = np.zeros((plan.block_size, plan.device_in), np.float32)
            piece = signal[: plan.device_in, start : start + plan.block_size].T
            block[: len(piece)] = piece
            stepper.exchange(block, played[start : start + plan.block_size])
            stepper.work()
            for event in stepper.events():
                sink.send(event)
                n_events += 1
            progress(min(start + plan.block_size, n_frames))
        sink.close()
    files: list[Path] = []
    if log is not None:
        files.append(folder / "played.wav")
        audio_file.write(files[0], np.ascontiguousarray(played[:n_frames].T), sample_rate)
    for output in plan.outputs:
        target = folder / f"{output.name}.wav"
        channels = played[output.latency : output.latency + n_frames, list(output.channels)]
        audio_file.write(target, np.ascontiguousarray(channels.T), sample_rate)
        files.append(target)
    return Rendered([*files, folder / "events.jsonl"], n_events, {o.name: o.latency for o in plan.outputs})
