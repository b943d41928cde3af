"""Separation of a file by the nodes that run live, in as little memory as live: hop by hop from file to files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np

from rtserver.audio.file import Writer, blocks, check_apart, info
from rtserver.config import Separation, check_separation
from rtserver.dsp.features import Features
from rtserver.errors import ConfigError
from rtserver.events import Event, Position
from rtserver.following.follower import Follower
from rtserver.following.score import Score
from rtserver.graph import Graph
from rtserver.node import Array, Spec
from rtserver.roles.agenda import EFFECT_S
from rtserver.separation.expected import Expected
from rtserver.separation.graph import SEPARATOR, preset, separation
from rtserver.separation.prompter import Prompter


class Prompted:
    """A graph whose network is told what a score expects, by a follower that hears the same input, as in a live session.

    Parameters
    ----------
    graph : Graph
        Of `separation`, with a network; not yet prepared.
    score : Score
    """

    def __init__(self, graph: Graph, score: Score) -> None:
        self._graph, self._score = graph, score

    def prepare(self, spec: Spec) -> None:
        """Prepare graph and follower for blocks of `spec`. Raises `SpecError`."""
        graph, score, rate = self._graph, self._score, spec.sample_rate
        self._effect = round(EFFECT_S * rate)
        graph.add("features", Features(rate, score.tuning_hz))
        graph.tap("features", self._follow)
        graph.prepare(spec)
        self._follower = Follower(score)
        self._follower.prepare(graph.spec("features"))
        self._prompter = Prompter(Expected.in_score(score, rate), rate, spec.hop_size, spec.hop_size)
        self._told: Array = graph.node(SEPARATOR).score

    def process(self, x: Array, frame: int, out: Array) -> None:
        """One block, as `Graph.process`."""
        self._prompter.tell(frame, self._told)
        self._graph.process(x, frame, out)

    def _follow(self, x: Array, frame: int) -> None:
        self._follower.process(x, frame, self._hear)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Position):
            self._prompter.hear(msgspec.structs.replace(event, available_frame=event.frame + self._effect))


def separate(
    path: Path,
    folder: Path,
    options: Separation | None = None,
    progress: Callable[[int], object] | None = None,
    score: Score | None = None,
) -> list[Path]:
    """Split `path` into ``folder/harmonic.wav``, ``folder/percussive.wav`` and, where a margin is above 1, ``folder/residual.wav``; with a
    model into its stems.

    They are aligned to it, as long, and sum to it.

    Parameters
    ----------
    path : Path
        WAV, FLAC or Ogg of any number of channels, at its own rate.
    options : Separation, optional
        Preset and masks, or a model.
    progress : callable
        Called with the frames just done.
    score : Score, optional
        Of what is played: it is followed, and the model is told what it expects.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ConfigError, AudioFileError, SpecError, ModelError
    """
    options = options or Separation()
    check_separation(options, "")
    source = info(path)
    if score is not None and not options.model:
        raise ConfigError("score", "a score is told to a network: name it with model")
    hop = preset(options.preset, source.sample_rate, "preset").hop_size
    graph = separation(options, source.sample_rate, n_channels=source.n_channels, field="")
    runner = graph if score is None else Prompted(graph, score)
    runner.prepare(Spec.signal(source.sample_rate, source.n_channels, hop))
    latency = graph.latency(graph.outputs[0])
    x = np.zeros((source.n_channels, hop), np.float32)
    out = np.zeros((len(graph.outputs), source.n_channels, hop), np.float32)
    files = [folder / f"{stem}.wav" for stem in graph.outputs]
    check_apart(path, files)
    with ExitStack() as stack:
        writers = [stack.enter_context(Writer(file, source.sample_rate, source.n_channels)) for file in files]
        hops = blocks(path, hop)
        for frame in range(0, source.n_frames + latency, hop):
            block = next(hops, None)
            n = 0 if block is None else block.shape[1]
            x[:, n:] = 0.0  # behind the end of the file there is silence, until the last of it has come out
            if block is not None:
                x[:, :n] = block
            runner.process(x, frame, out)
            start, stop = max(latency - frame, 0), min(source.n_frames + latency - frame, hop)
            if start < stop:
                for writer, stem in zip(writers, out, strict=True):
                    writer.write(stem[:, start:stop])
            if progress is not None:
                progress(n)
    return files
