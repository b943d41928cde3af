"""Log-mel bands of what has just been heard, every 10 ms."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from rtserver.dsp.features import expect_hops, hop_size_at
from rtserver.dsp.fft import fft_plan, unfold
from rtserver.dsp.mixdown import mix_down
from rtserver.errors import SpecError
from rtserver.kernels import jit
from rtserver.node import Array, Spec

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

N_MELS = 80
MIN_MELS, MAX_MELS = 8, 160  # more of them, and the lowest are narrower than a bin of the window
MIN_HZ, MAX_HZ = 30.0, 11000.0  # what every rate from 22.05 kHz on holds, so that a band is the same at all of them
FLOOR = 1e-10  # the power of silence, -100 dB: a band of 40 Hz holds as much at a sine of -84 dB re full scale
_WINDOW_S = 0.046  # as a power of two: 2048 frames at 44.1 and 48 kHz


def window_size(sample_rate: int) -> int:
    """Frames under the window at `sample_rate`."""
    return 1 << round(np.log2(_WINDOW_S * sample_rate))


def mel_of_hz(hz: npt.ArrayLike) -> F64:
    """Slaney's scale: linear below 1 kHz (15 mels), logarithmic above."""
    f = np.asarray(hz, np.float64)
    return np.where(f < 1000.0, 3.0 * f / 200.0, 15.0 + 27.0 * np.log(np.maximum(f, 1000.0) / 1000.0) / np.log(6.4))


def hz_of_mel(mel: npt.ArrayLike) -> F64:
    """Inverse of `mel_of_hz`."""
    m = np.asarray(mel, np.float64)
    return np.where(m < 15.0, 200.0 * m / 3.0, 1000.0 * 6.4 ** ((m - 15.0) / 27.0))


def mel_filters(sample_rate: int, n_mels: int) -> F64:
    """Triangles of equal area, (n_mels, n_bins), over the bins of `window_size`; every one holds at least one bin."""
    edges = hz_of_mel(np.linspace(mel_of_hz(MIN_HZ), mel_of_hz(MAX_HZ), n_mels + 2))
    size = window_size(sample_rate)
    f = np.arange(size // 2 + 1) * sample_rate / size
    below, centre, above = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.clip(np.minimum((f - below) / (centre - below), (above - f) / (above - centre)), 0.0, None)
    return triangles * 2.0 / (above - below)


@cache
def _kernel(size: int) -> Any:
    """The kernel of `Mel` for one window."""
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
        for band in range(len(out)):
            first, count, at = table[band, 0], table[band, 1], table[band, 2]
            power = np.float32(0.0)
            for k in range(count):
                re, im = bins[2 * (first + k)], bins[2 * (first + k) + 1]
                power += weights[at + k] * (re * re + im * im)
            out[band] = np.float32(10.0) * np.log10(max(power, np.float32(FLOOR)))
        return n_nonfinite

    return extract


class Mel:
    """Log-mel bands of the mono mixdown, one vector every 10 ms.

    Input    signal ``(n_channels, hop_size)`` float32, ``hop_size = round(sample_rate / 100)``
    Output   ``(n_mels,)`` float32: power of each band in dB, at least -100, lowest band first
    Latency  0 frames: the vector of a hop uses the samples up to that hop's end, and none after. The middle of its window lies half of
             it before (1024 frames at 44.1 and 48 kHz)

    Parameters
    ----------
    sample_rate : int
        22050..192000 Hz.
    n_mels : int
        8..160 bands from 30 to 11000 Hz on Slaney's scale, each of equal area.

    Notes
    -----
    One frame of ``librosa.feature.melspectrogram(center=False, fmin=30, fmax=11000)`` over the newest window, in dB: a periodic Hann
    window, ``htk=False, norm="slaney"``. The window is divided by half its sum, so that a sine of amplitude A peaks at A in the spectrum
    and levels hardly depend on the sample rate. Before the first hop there was silence. A sample that is not finite is taken as 0 and
    counted in `n_nonfinite`; samples are cut at 1e6.

    References
    ----------
    M. Slaney, "Auditory Toolbox", Interval Research technical report 1998-010.
    """

    def __init__(self, sample_rate: int = 48000, n_mels: int = N_MELS) -> None:
        self.sample_rate = sample_rate
        self.n_mels = n_mels
        self.hop_size = hop_size_at(sample_rate)
        self.n_nonfinite = 0
        self.kernel: Any = None

    @property
    def latency(self) -> int:
        return 0

    def prepare(self, spec: Spec) -> Spec:
        """Raises `SpecError` for anything but a signal at this sample rate and hop, and for another number of bands."""
        expect_hops(spec, self.sample_rate, "Mel")
        if not MIN_MELS <= self.n_mels <= MAX_MELS:
            raise SpecError(f"Mel expects n_mels of {MIN_MELS}..{MAX_MELS}, got {self.n_mels}")
        size = window_size(self.sample_rate)
        self._past = np.zeros(size, np.float32)
        hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)
        self._window = (2.0 * hann / hann.sum()).astype(np.float32)
        self._plan, self._bins = fft_plan(size), np.zeros(size + 2, np.float32)
        self._table, self._weights = sparse(mel_filters(self.sample_rate, self.n_mels))
        self.kernel = _kernel(size)
        self.reset()
        return replace(spec, shape=(self.n_mels,), labels=())

    def process(self, x: Array, out: Array) -> None:
        self.n_nonfinite += self.kernel(x, out, self._past, self._window, self._plan, self._bins, self._table, self._weights)

    def reset(self) -> None:
        self._past.fill(0.0)
        self.n_nonfinite = 0


def sparse(filters: F64) -> tuple[I64, F32]:
    """What `filters` (n_bands, n_bins) hold: rows of (first bin, n_bins, first weight), and the weights one behind the other."""
    rows: list[tuple[int, int, int]] = []
    weights: list[F64] = []
    at = 0
    for row in filters:
        (inside,) = np.nonzero(row)
        first, count = int(inside[0]), int(inside[-1] - inside[0]) + 1
        rows.append((first, count, at))
        weights.append(row[first : first + count])
        at += count
    return np.array(rows, np.int64), np.concatenate(weights).astype(np.float32)
