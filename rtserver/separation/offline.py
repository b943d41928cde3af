"""Separation of a file by the nodes that run live, in as little memory as live: hop by hop from file to files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from rtserver.audio.file import Writer, blocks, info
from rtserver.config import Separation, check_separation
from rtserver.node import Spec
from rtserver.separation.graph import preset, separation


def separate(path: Path, folder: Path, options: Separation | None = None, progress: Callable[[int], object] | None = None) -> list[Path]:
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
    hop = preset(options.preset, source.sample_rate, "preset").hop_size
    graph = separation(options, source.sample_rate, n_channels=source.n_channels, field="")
    graph.prepare(Spec.signal(source.sample_rate, source.n_channels, hop))
    latency = graph.latency(graph.outputs[0])
    x = np.zeros((source.n_channels, hop), np.float32)
    out = np.zeros((len(graph.outputs), source.n_channels, hop), np.float32)
    files = [folder / f"{stem}.wav" for stem in graph.outputs]
    with ExitStack() as stack:
        writers = [stack.enter_context(Writer(file, source.sample_rate, source.n_channels)) for file in files]
        hops = blocks(path, hop)
        for frame in range(0, source.n_frames + latency, hop):
            block = next(hops, None)
            n = 0 if block is None else block.shape[1]
            x[:, n:] = 0.0  # behind the end of the file there is silence, until the last of it has come out
            if block is not None:
                x[:, :n] = block
            graph.process(x, frame, out)
            start, stop = max(latency - frame, 0), min(source.n_frames + latency - frame, hop)
            if start < stop:
                for writer, stem in zip(writers, out, strict=True):
                    writer.write(stem[:, start:stop])
            if progress is not None:
                progress(n)
    return files
