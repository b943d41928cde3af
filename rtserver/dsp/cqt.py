"""Constant-Q transform of what has just been heard: 24 bins an octave from C2 to B8, every 10 ms.

The scheme of Schörkhuber and Klapuri: the signal is halved in rate octave by octave, so that every octave is analysed by the same 24 short
kernels. Two things differ, to be causal. All windows end with the newest sample, instead of being centred on one. And of every octave one
frame a hop is wanted, of some 200 samples: the kernels are applied to the samples themselves, without a Fourier transform.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rtserver.dsp.decimation import N_TAPS, group_delay, half_band, halve
from rtserver.dsp.features import COMPRESSION, expect_hops, hop_size_at
from rtserver.dsp.mixdown import mix_down
from rtserver.errors import SpecError
from rtserver.kernels import jit
from rtserver.node import Array, Spec

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

BINS_PER_OCTAVE = 24
N_OCTAVES = 7  # C2 to B8: what 22.05 kHz holds
N_CQT = BINS_PER_OCTAVE * N_OCTAVES
FIRST_PITCH = 36  # C2, 65.4 Hz
_LOWEST_TUNING, _HIGHEST_TUNING = 380.0, 470.0  # Hz; beyond it the uppermost bins of 44.1 kHz come near the edge of the first filter
_BASE_RATE = 22050  # the uppermost octave is analysed at this rate to twice as much


def frequencies(tuning_hz: float = 440.0) -> F64:
    """Centres of all bins in Hz, lowest first, (168,)."""
    return tuning_hz * 2.0 ** ((FIRST_PITCH - 69) / 12 + np.arange(N_CQT) / BINS_PER_OCTAVE)


@jit(
    "int64(float32[:,::1], float32[::1], float32[:,::1], int64[::1], int64[::1], float32[::1], float32[:,::1], float32[:,::1], int64[::1],"
    " int64)"
)
def transform(  # noqa: PLR0917
    x: F32, out: F32, lines: F32, sizes: I64, counts: I64, reversed_taps: F32, cosines: F32, sines: F32, starts: I64, n_skipped: int
) -> int:
    """One hop; returns how many samples were not finite. Row j of `lines` is the signal, halved j times; it ends with the newest sample."""
    n_levels, width = lines.shape
    n_bins, longest = cosines.shape
    n_nonfinite = mix_down(x, lines[0], width)
    n_new = x.shape[1]
    for level in range(n_levels):
        line = lines[level]
        if level >= n_skipped:
            octave = n_levels - 1 - level
            for b in range(n_bins):
                # Slices from 0 on: of an index that may be negative numba makes a branch, and no vectors.
                cosine, sine, tail = cosines[b, starts[b] :], sines[b, starts[b] :], line[width - longest + starts[b] :]
                re, im = np.float32(0.0), np.float32(0.0)
                for i in range(len(cosine)):
                    re += cosine[i] * tail[i]
                    im += sine[i] * tail[i]
                out[octave * n_bins + b] = np.log(np.float32(1.0) + np.float32(COMPRESSION) * np.sqrt(re * re + im * im))
        if level + 1 < n_levels:
            n_put = halve(line, n_new, counts[level], lines[level + 1], sizes[level + 1], reversed_taps)
            counts[level] += n_new
            n_new = n_put
    return n_nonfinite


class Cqt:
    """Log magnitudes of a constant-Q transform of the mono mixdown, one vector every 10 ms.

    Input    signal ``(n_channels, hop_size)`` float32, ``hop_size = round(sample_rate / 100)``
    Output   ``(168,)`` float32: ``log(1 + 75 A)`` for 24 bins an octave from C2 (65.4 Hz), lowest first; A is the amplitude of a sine at
             the bin's centre
    Latency  0 frames: the vector of a hop is there at the hop's end and waits for no later sample. What a bin sees lies further back the
             lower it is, see `delays`

    Parameters
    ----------
    sample_rate : int
        22050..192000 Hz.
    tuning_hz : float
        Frequency of A4, 380..470.
    filter_scale : float
        Length of all windows, 0.1 to 1: at 1 they tell neighbouring bins apart (Q = 34, 0.52 s at C2); shorter ones follow faster and are
        as much broader.

    Attributes
    ----------
    delays : float64 (168,)
        Frames from the centre of what a bin sees to the end of the hop: half its window, and the delay of the halvings. When a tone
        begins, its bin has come to half its amplitude so much later. Set by `prepare`.

    Notes
    -----
    The windows are Hann windows of ``Q / f`` seconds, ``Q = filter_scale / (2 ** (1 / 24) - 1)``. Cost: about ``7 x 24 x 140`` complex
    products a hop. Before the first hop there was silence. A sample that is not finite is taken as 0 and counted in `n_nonfinite`;
    samples are cut at 1e6.

    References
    ----------
    C. Schörkhuber and A. Klapuri, "Constant-Q transform toolbox for music processing", SMC 2010.
    J. C. Brown, "Calculation of a constant Q spectral transform", JASA 89(1), 1991 (Q, equation 2).
    """

    def __init__(self, sample_rate: int = 48000, tuning_hz: float = 440.0, filter_scale: float = 1.0) -> None:
        self.sample_rate = sample_rate
        self.tuning_hz = tuning_hz
        self.filter_scale = filter_scale
        self.hop_size = hop_size_at(sample_rate)
        self.n_nonfinite = 0
        self.kernel: Any = None

    @property
    def latency(self) -> int:
        return 0

    def prepare(self, spec: Spec) -> Spec:
        """Raises `SpecError` for anything but a signal at this sample rate and hop, and for parameters out of range."""
        expect_hops(spec, self.sample_rate, "Cqt")
        if not _LOWEST_TUNING <= self.tuning_hz <= _HIGHEST_TUNING:
            raise SpecError(f"Cqt expects a tuning_hz of {_LOWEST_TUNING}..{_HIGHEST_TUNING} Hz, got {self.tuning_hz}")
        if not 0.1 <= self.filter_scale <= 1.0:
            raise SpecError(f"Cqt expects a filter_scale of 0.1..1, got {self.filter_scale}")
        self._n_skipped = int(np.log2(self.sample_rate / _BASE_RATE))  # halvings before the uppermost octave
        n_levels = self._n_skipped + N_OCTAVES
        self._cosines, self._sines, self._starts = self._kernels()
        history = max(self._cosines.shape[1], N_TAPS)
        self._sizes = np.array([history + (self.hop_size >> level) + 1 for level in range(n_levels)], np.int64)
        self._lines = np.zeros((n_levels, int(self._sizes[0])), np.float32)
        self._counts = np.zeros(n_levels, np.int64)
        self._taps = np.ascontiguousarray(half_band()[::-1], np.float32)
        self.delays = self._delays()
        self.kernel = transform
        self.reset()
        return replace(spec, shape=(N_CQT,), labels=())

    def process(self, x: Array, out: Array) -> None:
        self.n_nonfinite += self.kernel(
            x,
            out,
            self._lines,
            self._sizes,
            self._counts,
            self._taps,
            self._cosines,
            self._sines,
            self._starts,
            self._n_skipped,
        )

    def reset(self) -> None:
        self._lines.fill(0.0)
        self._counts.fill(0)
        self.n_nonfinite = 0

    def _lengths(self) -> F64:
        """Length of the windows of the uppermost octave, in samples of its rate."""
        q = self.filter_scale / (2.0 ** (1.0 / BINS_PER_OCTAVE) - 1.0)
        return q * self.sample_rate / 2**self._n_skipped / frequencies(self.tuning_hz)[-BINS_PER_OCTAVE:]

    def _kernels(self) -> tuple[F32, F32, I64]:
        """Cosines and sines under their windows, (24, longest), all ending together, and where each begins."""
        lengths = self._lengths()
        rate = self.sample_rate / 2**self._n_skipped
        longest = int(lengths[0])
        kernels = np.zeros((BINS_PER_OCTAVE, longest), np.complex128)
        for kernel, length, f in zip(kernels, lengths, frequencies(self.tuning_hz)[-BINS_PER_OCTAVE:], strict=True):
            n = int(length)
            centred = np.arange(n) - (n - 1) / 2
            window = 0.5 + 0.5 * np.cos(2.0 * np.pi * centred / length)
            kernel[longest - n :] = 2.0 * window / window.sum() * np.exp(-2j * np.pi * f / rate * centred)
        starts = longest - lengths.astype(np.int64)
        return kernels.real.astype(np.float32, order="C"), kernels.imag.astype(np.float32, order="C"), starts

    def _delays(self) -> F64:
        f = frequencies(self.tuning_hz).reshape(N_OCTAVES, BINS_PER_OCTAVE)
        halves = (self._lengths().astype(np.int64) - 1) / 2
        delays = np.zeros_like(f)
        for octave in range(N_OCTAVES):
            level = self._n_skipped + N_OCTAVES - 1 - octave
            # The newest sample of a level ends with the hop where its step divides the hop, else somewhere within a step before it.
            newest = (2**level - np.gcd(2**level, self.hop_size)) / 2
            filters = sum(2**j * group_delay(f[octave] * 2**j / self.sample_rate) for j in range(level))
            delays[octave] = newest + filters + halves * 2**level
        return delays.ravel()
