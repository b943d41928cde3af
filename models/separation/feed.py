"""Mixtures for a GPU: drawn by processes of their own, handed over in shared memory, analysed where the network is (`spectra`).

Gigabytes of sound a second are more than a pipe between processes carries, so it lies in memory that all share: in 16 bits, for what a
mixture loses by that is 96 dB below full scale.
"""

from __future__ import annotations

import atexit
import mmap
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.separation import spectra
from models.separation.frames import HOPS, JITTER_S, SAMPLE_RATE, View
from models.separation.scores import N_SCORE, score_features
from rtserver.separation.features import NETWORK_HOP

AHEAD = 2  # slots of each process: one is filled while the other one is taken
PATIENCE_S = 1.0  # after so long a wait it is asked whether who is waited for still lives
FULL_SCALE = 32767.0
Draw = Callable[[np.random.Generator], Iterator[Any]]


class _Slot:
    """Room for what one process draws at a time, in memory that parent and child share."""

    def __init__(self, rows: int, n_stems: int, n_frames: int) -> None:
        n_hops = n_frames // NETWORK_HOP
        sizes = (rows * n_stems * 2 * n_frames * 2, rows * n_hops * N_SCORE * 2, rows * 8)
        memory = mmap.mmap(-1, sum(sizes))
        at = np.cumsum((0, *sizes))
        self.stems = np.frombuffer(memory, np.int16, rows * n_stems * 2 * n_frames, at[0]).reshape(rows, n_stems, 2, n_frames)
        self.score = np.frombuffer(memory, np.float16, rows * n_hops * N_SCORE, at[1]).reshape(rows, n_hops, N_SCORE)
        self.window = np.frombuffer(memory, np.int64, rows, at[2])

    def fill(self, row: int, example: Any, rng: np.random.Generator, shown: float) -> None:
        self.stems[row] = np.clip(np.round(example.stems * FULL_SCALE), -FULL_SCALE, FULL_SCALE)
        show = example.has_score and rng.random() < shown
        shift = float(rng.normal(0.0, JITTER_S)) * SAMPLE_RATE
        self.score[row] = score_features(example.notes if show else None, self.score.shape[1], shift)
        self.window[row] = rng.integers(len(HOPS))


def _work(draw: Draw, slots: list[_Slot], rows: list[int], seed: int, shown: float, free: Any, full: Any) -> None:  # noqa: PLR0917
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the trainer's to answer
    trainer = os.getppid()
    generators = [np.random.default_rng((seed, row)) for row in rows]
    drawn = [draw(rng) for rng in generators]
    while True:
        for slot in slots:
            while not free.acquire(timeout=PATIENCE_S):
                if os.getppid() != trainer:
                    return  # it was killed and could tell nobody
            for row, (examples, rng) in enumerate(zip(drawn, generators, strict=True)):
                slot.fill(row, next(examples), rng, shown)
            full.release()


class Feed:
    """Batches of mixtures on `device`, the same for the same seed, number of rows and workers.

    Parameters
    ----------
    draw : generator -> examples without end
    view : View
    rows : list of int
        One a stream; shared out evenly among the workers.
    n_chunks, hops : int
        What an example is looked at in: ``n_chunks`` chunks of ``hops``, one after the other.
    seed : int
        Row r draws with ``(seed, r)``, so that rows of several trainers differ.
    workers : int
        Processes that draw.
    device : torch.device or its name
        Where batches lie.
    compiled : bool
        Whether torch compiles what it can of the analysis.
    n_stems : int
        Of the examples: 4 where there are voices (`mixing.n_stems`).
    """

    def __init__(  # noqa: PLR0917
        self,
        draw: Draw,
        view: View,
        rows: list[int],
        n_chunks: int,
        hops: int,
        seed: int,
        workers: int,
        device: Any,
        compiled: bool = False,
        n_stems: int = 3,
    ) -> None:
        self.view, self.n_chunks, self.hops, self.compiled = view, n_chunks, hops, compiled
        self.device = torch.device(device)
        self._angles = np.random.default_rng((seed, len(rows)))
        context = multiprocessing.get_context("fork")  # children inherit the memory; they never touch the GPU
        self._slots: list[list[_Slot]] = []
        self._free: list[Any] = []
        self._full: list[Any] = []
        self._children: list[Any] = []
        self._turn = 0
        for worker in range(workers):
            mine = rows[worker::workers]
            slots = [_Slot(len(mine), n_stems, n_chunks * hops * NETWORK_HOP) for _ in range(AHEAD)]
            free, full = context.Semaphore(AHEAD), context.Semaphore(0)
            child = context.Process(target=_work, args=(draw, slots, mine, seed, view.score, free, full), daemon=True)
            child.start()
            self._slots.append(slots)
            self._free.append(free)
            self._full.append(full)
            self._children.append(child)
        atexit.register(self.close)  # sooner than multiprocessing, which would ask them to end and wait
        if self.device.type == "cuda":
            for slots in self._slots:
                for slot in slots:
                    _pin(slot.stems)

    def _gather(self) -> dict[str, Tensor]:
        """A slot of each process, in turn, so that the order does not depend on who is quicker.

        Each copy has ended before its slot is given back: the device waits for it, some hundredths of the time, and nothing can overtake.
        """
        parts: list[dict[str, Tensor]] = []
        for worker, child in enumerate(self._children):
            while not self._full[worker].acquire(timeout=PATIENCE_S):
                if not child.is_alive():
                    raise SystemExit(f"a process that draws mixtures ended with status {child.exitcode}: its message stands above")
            slot = self._slots[worker][self._turn % AHEAD]
            told = {"stems": slot.stems, "score": slot.score, "window": slot.window}
            parts.append({k: torch.from_numpy(x).to(self.device, copy=True) for k, x in told.items()})
            self._free[worker].release()
        self._turn += 1
        return {k: torch.cat([p[k] for p in parts]) for k in parts[0]}

    def close(self) -> None:
        """End the processes."""
        atexit.unregister(self.close)
        for child in self._children:
            child.kill()
            child.join()

    def mixtures(self) -> dict[str, Tensor]:
        """The next mixtures, each from its beginning to its end: as `spectra.observe`, with ``score``. Exits if a process ended."""
        arrived = self._gather()
        angle = torch.from_numpy(self._angles.uniform(0.0, np.pi, len(arrived["window"])).astype(np.float32)).to(self.device)
        stems = arrived["stems"].float() / FULL_SCALE
        return spectra.observe(stems, arrived["window"], self.view, angle, self.compiled) | {"score": arrived["score"].float()}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Chunk after chunk, as `frames.streams`, but that all rows start anew in the same chunk."""
        while True:
            whole = self.mixtures()
            fresh = torch.ones(len(whole["prior"]), dtype=torch.bool, device=self.device)
            for i in range(self.n_chunks):
                yield {k: x[:, i * self.hops : (i + 1) * self.hops] for k, x in whole.items()} | {"fresh": fresh if i == 0 else ~fresh}


def _pin(array: np.ndarray) -> None:
    """Tell CUDA of shared memory, so that copies from it go straight and at once."""
    status = int(torch.cuda.cudart().cudaHostRegister(array.ctypes.data, array.nbytes, 0))
    if status:
        warnings.warn(f"shared memory cannot be pinned (CUDA status {status}): copies to the GPU take longer; see ulimit -l", stacklevel=2)
