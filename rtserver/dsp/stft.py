"""Short-time Fourier transform and its inverse, streaming, with symmetric or asymmetric windows."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from rtserver.dsp.fft import fft_plan, fold, unfold
from rtserver.dsp.windows import window_pair
from rtserver.errors import SpecError
from rtserver.kernels import jit
from rtserver.node import Array, Spec, expect_signal

F32 = npt.NDArray[np.float32]
C64 = npt.NDArray[np.complex64]
_LARGEST = np.float32(np.finfo(np.float32).max)


@cache
def _analysis(size: int, hop: int) -> Any:
    """The kernel of `Stft`. Sizes are constants of the kernel: only then do its inner loops become vector instructions."""
    h = size // 2

    @jit("int64(float32[:,::1], complex64[:,::1], float32[:,::1], float32[::1], float32[::1])")
    def analyse(x: F32, out: C64, past: F32, window: F32, plan: F32) -> int:
        """Append a hop to `past`, transform the windowed frames; returns how many samples were not finite (and taken as 0)."""
        bins = out.view(np.float32)
        n_nonfinite = 0
        for c in range(x.shape[0]):
            for i in range(size - hop):
                past[c, i] = past[c, i + hop]
            for i in range(hop):
                finite = abs(x[c, i]) <= _LARGEST
                n_nonfinite += not finite
                past[c, size - hop + i] = x[c, i] if finite else np.float32(0.0)
            for i in range(h):
                plan[i] = past[c, 2 * i] * window[2 * i]
                plan[h + i] = past[c, 2 * i + 1] * window[2 * i + 1]
            unfold(plan, h, bins[c])
        return n_nonfinite

    return analyse


@cache
def _synthesis(size: int, hop: int, m: int) -> Any:
    """The kernel of `Istft`."""
    h = size // 2
    first = h - m // 2  # the first pair of frames under the synthesis window

    @jit("void(complex64[:,::1], float32[:,::1], float32[:,::1], float32[::1], float32[::1])")
    def synthesise(x: C64, out: F32, tail: F32, window: F32, plan: F32) -> None:
        """Overlap-add the last m frames of each spectrum's transform to `tail` and give out the hop that is complete."""
        bins = x.view(np.float32)
        for c in range(x.shape[0]):
            z = fold(plan, h, bins[c])
            for i in range(m // 2):
                tail[c, 2 * i] += plan[z + h + first + i] * window[2 * i]
                tail[c, 2 * i + 1] += plan[z + first + i] * window[2 * i + 1]
            for i in range(hop):
                out[c, i] = tail[c, i]
            for i in range(m - hop):
                tail[c, i] = tail[c, i + hop]
            for i in range(m - hop, m):
                tail[c, i] = np.float32(0.0)

    return synthesise


class Stft:
    """Short-time Fourier transform: a spectrum of the last `window_size` frames every `hop_size` frames.

    Input    signal ``(n_channels, hop_size)`` float32
    Output   spectrum ``(n_channels, window_size // 2 + 1)`` complex64, not scaled
    Latency  0 frames. A spectrum includes the newest frame; what delays the signal is the wait for the synthesis windows to
             overlap, so `Istft` declares ``synthesis_size - hop_size`` for the pair. Re-blocking adds less than a hop: together at
             most `synthesis_size`, which is a preset's latency.

    Parameters
    ----------
    window_size : int
        Analysis window, frames; a power of two.
    hop_size : int
        Frames between two spectra; divides half the synthesis window.
    synthesis_size : int, optional
        Synthesis window, frames; the same as `window_size` when left out. Shorter is faster to answer (Mauler and Martin 2007).

    Notes
    -----
    Before the first hop the past is silence. A sample that is NaN or infinite is taken as 0 and counted in `n_nonfinite`.
    """

    def __init__(self, window_size: int = 2048, hop_size: int = 256, synthesis_size: int | None = None) -> None:
        self.window_size = window_size
        self.hop_size = hop_size
        self.synthesis_size = window_size if synthesis_size is None else synthesis_size
        self.n_nonfinite = 0
        self.kernel: Any = None

    @property
    def n_bins(self) -> int:
        """Bins of a spectrum, from 0 Hz to half the sample rate."""
        return self.window_size // 2 + 1

    @property
    def latency(self) -> int:
        return 0

    def prepare(self, spec: Spec) -> Spec:
        """Raises `SpecError` for anything but a signal at this hop, and for sizes that cannot reconstruct it."""
        expect_signal(spec, "Stft")
        _expect_hop(spec, self.hop_size, "Stft")
        pair = window_pair(self.window_size, self.hop_size, self.synthesis_size)
        n_channels = spec.shape[0]
        self._plan = fft_plan(self.window_size)
        self._window = pair.analysis
        self._past = np.zeros((n_channels, self.window_size), np.float32)
        self.kernel = _analysis(self.window_size, self.hop_size)
        self.reset()
        return replace(spec, shape=(n_channels, self.n_bins), dtype=np.dtype(np.complex64))

    def process(self, x: Array, out: Array) -> None:
        self.n_nonfinite += self.kernel(x, out, self._past, self._window, self._plan)

    def reset(self) -> None:
        self._past.fill(0.0)
        self.n_nonfinite = 0


class Istft:
    """Inverse of `Stft` by weighted overlap-add: perfect reconstruction to float32 precision when nothing lies between the two.

    Input    spectrum ``(n_channels, n_bins)`` or stems ``(n_stems, n_channels, n_bins)`` complex64
    Output   signal ``(n_channels, hop_size)`` or stems ``(n_stems, n_channels, hop_size)`` float32
    Latency  ``synthesis_size - hop_size`` frames: a frame is complete when the last synthesis window over it has been added

    Parameters
    ----------
    stft : Stft or int
        The transform to undo, or its window size, followed by its other parameters.
    hop_size, synthesis_size : int
        As in `Stft`; only with a window size.
    """

    def __init__(self, stft: Stft | int = 2048, hop_size: int = 256, synthesis_size: int | None = None) -> None:
        if not isinstance(stft, Stft):
            stft = Stft(stft, hop_size, synthesis_size)
        self.window_size = stft.window_size
        self.hop_size = stft.hop_size
        self.synthesis_size = stft.synthesis_size
        self.kernel: Any = None

    @property
    def latency(self) -> int:
        return self.synthesis_size - self.hop_size

    def prepare(self, spec: Spec) -> Spec:
        """Raises `SpecError` for anything but spectra of this size at this hop."""
        n_bins = self.window_size // 2 + 1
        if len(spec.shape) not in (2, 3) or spec.shape[-1] != n_bins or spec.dtype != np.complex64:
            raise SpecError(
                f"Istft expects a spectrum ([n_stems,] n_channels, {n_bins}) complex64, got {spec.shape} {spec.dtype}"
                " — is its window_size that of the Stft before it?"
            )
        _expect_hop(spec, self.hop_size, "Istft")
        pair = window_pair(self.window_size, self.hop_size, self.synthesis_size)
        n_signals = int(np.prod(spec.shape[:-1]))
        self._plan = fft_plan(self.window_size)
        self._window = (pair.synthesis / (self.window_size // 2)).astype(np.float32)  # the scale of the inverse transform
        self._tail = np.zeros((n_signals, self.synthesis_size), np.float32)
        self._rows_in = (n_signals, n_bins)
        self._rows_out = (n_signals, self.hop_size)
        self.kernel = _synthesis(self.window_size, self.hop_size, self.synthesis_size)
        return replace(spec, shape=(*spec.shape[:-1], self.hop_size), dtype=np.dtype(np.float32))

    def process(self, x: Array, out: Array) -> None:
        self.kernel(x.reshape(self._rows_in), out.reshape(self._rows_out), self._tail, self._window, self._plan)

    def reset(self) -> None:
        self._tail.fill(0.0)


def _expect_hop(spec: Spec, hop_size: int, who: str) -> None:
    if spec.hop_size != hop_size:
        raise SpecError(f"{who} expects hops of {hop_size} frames, got {spec.hop_size} — connect it through the Graph, which re-blocks")
