"""Chroma alone, for those who need none of the rest of `rtserver.dsp.features`: one transform a hop instead of three."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from rtserver.dsp.features import (
    CHROMA_PITCHES,
    COMPRESSION,
    expect_hops,
    hop_size_at,
    normalise_chroma,
    semitone_table,
    spectrum_window,
    window_sizes,
)
from rtserver.dsp.fft import fft_plan, unfold
from rtserver.dsp.layout import N_CHROMA
from rtserver.dsp.mixdown import mix_down
from rtserver.kernels import jit
from rtserver.node import Array, Spec

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


@cache
def _kernel(size: int) -> Any:
    """The kernel of `Chroma` for one window."""
    half = size // 2

    @jit("int64(float32[:,::1], float32[::1], float32[::1], float32[::1], float32[::1], float32[::1], int64[:,::1], float32[::1])")
    def extract(  # noqa: PLR0917
        x: F32, out: F32, past: F32, window: F32, plan: F32, bins: F32, table: I64, weights: F32
    ) -> int:
        """One hop; returns how many samples were not finite (and taken as 0)."""
        n_nonfinite = mix_down(x, past, size)
        for i in range(half):
            plan[i] = past[2 * i] * window[2 * i]
            plan[half + i] = past[2 * i + 1] * window[2 * i + 1]
        unfold(plan, half, bins)
        for i in range(N_CHROMA):
            out[i] = np.float32(0.0)
        for row in range(table.shape[0]):
            first, count, at, goal = table[row, 0], table[row, 1], table[row, 2], table[row, 3]
            power = np.float32(0.0)
            for k in range(count):
                re, im = bins[first + 2 * k], bins[first + 2 * k + 1]
                power += weights[at + k] * (re * re + im * im)
            out[goal] += np.log(np.float32(1.0) + np.float32(COMPRESSION) * np.sqrt(power))
        normalise_chroma(out)
        return n_nonfinite

    return extract


class Chroma:
    """Chroma of the mono mixdown, one vector every 10 ms: the first twelve values of `Features`, and nothing else.

    Input    signal ``(n_channels, hop_size)`` float32, ``hop_size = round(sample_rate / 100)``
    Output   ``(12,)`` float32: C first, log-compressed, of unit length (all 0 in silence); MIDI pitches 48..107, every class five times
    Latency  0 frames: the vector of a hop uses the samples up to that hop's end, and none after. The middle of its window lies half of
             it before (2048 frames at 44.1 and 48 kHz)

    Parameters
    ----------
    sample_rate : int
        22050..192000 Hz.
    tuning_hz : float
        Frequency of A4.

    Notes
    -----
    Before the first hop there was silence. A sample that is not finite is taken as 0 and counted in `n_nonfinite`; samples are cut at 1e6.

    References
    ----------
    M. Müller and S. Ewert, "Chroma Toolbox", ISMIR 2011.
    """

    def __init__(self, sample_rate: int = 48000, tuning_hz: float = 440.0) -> None:
        self.sample_rate = sample_rate
        self.tuning_hz = tuning_hz
        self.hop_size = hop_size_at(sample_rate)
        self.n_nonfinite = 0
        self.kernel: Any = None

    @property
    def latency(self) -> int:
        return 0

    def prepare(self, spec: Spec) -> Spec:
        """Raises `SpecError` for anything but a signal at this sample rate and hop."""
        expect_hops(spec, self.sample_rate, "Chroma")
        size = window_sizes(self.sample_rate)[0]
        table, self._weights = semitone_table(self.sample_rate, self.tuning_hz)
        self._table = np.ascontiguousarray(table[: len(CHROMA_PITCHES)])
        self._window = spectrum_window(size).astype(np.float32)
        self._plan, self._bins = fft_plan(size), np.zeros(size + 2, np.float32)
        self._past = np.zeros(size, np.float32)
        self.kernel = _kernel(size)
        self.reset()
        return replace(spec, shape=(N_CHROMA,), labels=())

    def process(self, x: Array, out: Array) -> None:
        self.n_nonfinite += self.kernel(x, out, self._past, self._window, self._plan, self._bins, self._table, self._weights)

    def reset(self) -> None:
        self._past.fill(0.0)
        self.n_nonfinite = 0
