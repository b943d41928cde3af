"""Causal harmonic/percussive separation by median filtering."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from rtserver.dsp.median import MAX_NETWORK, exchange_sorted, median_of
from rtserver.dsp.stft import Istft, Stft
from rtserver.errors import SpecError
from rtserver.kernels import jit
from rtserver.node import Array, Spec, expect_spectrum

F32 = npt.NDArray[np.float32]
C64 = npt.NDArray[np.complex64]

_LARGEST = np.float32(np.finfo(np.float32).max)
_LOUDEST = np.float32(1e36)  # powers are cut here, so that the sum of two stays finite
_EPS = np.float32(1e-30)  # far below any signal's power (1e-15 of full scale), far above denormals: silence is shared evenly
MAX_AROUND = 63  # a network of this length compiles in seconds; longer ones do not pay


@cache
def _kernel(n_bins: int, n_past: int, past_step: int, n_around: int, power: float) -> Any:
    """The kernel of `Hpss` for one set of sizes, which are constants of the code: the medians are written out, not looped over."""
    pad = n_around // 2
    sorted_rows = n_past > MAX_NETWORK
    # state: history [phase][slot][bin]; where rows are kept sorted, the same again; the power of the first spectrum
    history = past_step * n_past * n_bins
    first = history * (2 if sorted_rows else 1)
    # scratch: power with its mirrored margins; harmonic median, which becomes the mask; percussive median
    h_at, p_at = n_bins + 2 * pad, 2 * n_bins + 2 * pad
    one, exponent = np.float32(1.0), np.float32(power / 2.0)

    @jit("int64(complex64[:,::1], complex64[:,:,::1], float32[::1], float32[::1], int64)")
    def separate(x: C64, out: C64, state: F32, scratch: F32, n_hops: int) -> int:
        """One hop, the `n_hops`-th since reset; returns how many bins were not finite (and taken as 0)."""
        xs, outs = x.view(np.float32), out.view(np.float32)
        n_nonfinite = 0
        for k in range(n_bins):
            scratch[pad + k] = np.float32(0.0)
        for c in range(x.shape[0]):
            spectrum, percussive = xs[c], outs[1, c]
            for k in range(n_bins):
                re, im = spectrum[2 * k], spectrum[2 * k + 1]
                finite = (abs(re) <= _LARGEST) & (abs(im) <= _LARGEST)
                n_nonfinite += not finite
                re = re if finite else np.float32(0.0)
                im = im if finite else np.float32(0.0)
                percussive[2 * k], percussive[2 * k + 1] = re, im
                value = re * re + im * im
                value = scratch[pad + k] + (value if value < _LOUDEST else _LOUDEST)
                scratch[pad + k] = value if value < _LOUDEST else _LOUDEST
        for i in range(pad):  # mirror at 0 Hz and at half the sample rate
            scratch[pad - 1 - i] = scratch[pad + i]
            scratch[pad + n_bins + i] = scratch[pad + n_bins - 1 - i]

        if n_hops == 0:
            for k in range(n_bins):
                state[first + k] = scratch[pad + k]
        rows = n_hops % past_step * n_past * n_bins
        if n_hops < past_step:  # before the first spectrum there was, as it were, the same sound
            for i in range(n_past):
                for k in range(n_bins):
                    state[rows + i * n_bins + k] = state[first + k]
                    if sorted_rows:
                        state[history + rows + i * n_bins + k] = state[first + k]
        newest = rows + n_hops // past_step % n_past * n_bins
        if sorted_rows:
            for k in range(n_bins):
                scratch[h_at + k] = scratch[pad + k]
            exchange_sorted(state, history + rows, n_past, n_bins, state, newest, scratch, h_at)
        for k in range(n_bins):
            state[newest + k] = scratch[pad + k]

        if sorted_rows:
            for k in range(n_bins):
                scratch[h_at + k] = state[history + rows + n_past // 2 * n_bins + k]
        else:
            for k in range(n_bins):
                scratch[h_at + k] = median_of(state, rows + k, n_bins, n_past)
        for k in range(n_bins):
            scratch[p_at + k] = median_of(scratch, k, 1, n_around)

        for k in range(n_bins):
            h, p = scratch[h_at + k] + _EPS, scratch[p_at + k] + _EPS
            mask = h / (h + p) if power == 2.0 else one / (one + (p / h) ** exponent)
            scratch[h_at + k] = mask if mask < one else one  # division may round up
        for c in range(x.shape[0]):
            harmonic, percussive = outs[0, c], outs[1, c]
            for k in range(n_bins):
                re, im = percussive[2 * k], percussive[2 * k + 1]
                hr, hi = scratch[h_at + k] * re, scratch[h_at + k] * im
                harmonic[2 * k], harmonic[2 * k + 1] = hr, hi
                percussive[2 * k], percussive[2 * k + 1] = re - hr, im - hi
        return n_nonfinite

    return separate


class Hpss:
    """Causal harmonic/percussive separation by median filtering.

    A harmonic sound is a horizontal ridge of the spectrogram, a percussive one a vertical ridge: a median along time keeps the first, a
    median along frequency the second [1]_. Both medians are taken of powers and shared out by a Wiener mask. Only past spectra are
    used: the median along time covers the newest spectrum and those before it. Powers are summed over the channels, which share one
    mask, so that a stem stays where it was in the stereo image; signals that have nothing to do with each other belong in nodes of
    their own.

    Input    spectrum ``(n_channels, n_bins)`` complex64
    Output   ``(2, n_channels, n_bins)`` complex64, labels ``("harmonic", "percussive")``; the two sum to the input
    Latency  0 frames. (What starts to sound counts as percussive for ``n_past // 2 * past_step`` hops; that is the method, not a delay.)

    Parameters
    ----------
    n_past : int
        Spectra in the median along time; odd.
    n_around : int
        Bins in the median along frequency; odd, at most 63.
    power : float
        Exponent of the Wiener mask on magnitudes; 2 is fastest, and what [1]_ uses.
    past_step : int
        Every how many hops a past spectrum enters the median. Windows that overlap by more than three quarters say nearly the same
        twice: with a step the same span of time needs fewer spectra. The history is kept per phase, so that each hop's median is exact.

    Notes
    -----
    Before the first spectrum there was, as it were, the same spectrum for ever: a sound that starts with the stream is harmonic. A bin
    that is NaN or infinite is taken as 0 and counted in `n_nonfinite`. Memory: ``past_step * n_past * n_bins`` float32, twice that where
    `n_past` is above 21.

    References
    ----------
    .. [1] D. FitzGerald, "Harmonic/percussive separation using median filtering", DAFx-10, Graz, 2010.
    """

    def __init__(self, n_past: int = 17, n_around: int = 17, power: float = 2.0, past_step: int = 1) -> None:
        self.n_past = n_past
        self.n_around = n_around
        self.power = power
        self.past_step = past_step
        self.n_nonfinite = 0
        self.kernel: Any = None

    @property
    def latency(self) -> int:
        return 0

    def prepare(self, spec: Spec) -> Spec:
        """Raises `SpecError` for anything but a spectrum, and for even or too long medians."""
        expect_spectrum(spec, "Hpss")
        n_channels, n_bins = spec.shape
        if self.n_past < 1 or self.n_past % 2 == 0:
            raise SpecError(f"Hpss expects an odd n_past, got {self.n_past} — try {max(1, self.n_past - 1)}?")
        if not 1 <= self.n_around <= min(MAX_AROUND, n_bins) or self.n_around % 2 == 0:
            raise SpecError(f"Hpss expects an odd n_around in 1..{min(MAX_AROUND, n_bins)}, got {self.n_around}")
        if self.past_step < 1 or not self.power > 0.0:
            raise SpecError(f"Hpss expects past_step >= 1 and power > 0, got {self.past_step} and {self.power}")
        rows = self.n_past * self.past_step * (2 if self.n_past > MAX_NETWORK else 1) + 1
        self._state = np.zeros(rows * n_bins, np.float32)
        self._scratch = np.zeros(3 * n_bins + self.n_around - 1, np.float32)
        self.kernel = _kernel(n_bins, self.n_past, self.past_step, self.n_around, float(self.power))
        self.reset()
        return replace(spec, shape=(2, n_channels, n_bins), labels=("harmonic", "percussive"))

    def process(self, x: Array, out: Array) -> None:
        self.n_nonfinite += self.kernel(x, out, self._state, self._scratch, self._n_hops)
        self._n_hops += 1

    def reset(self) -> None:
        self._n_hops = 0  # the first hops after it overwrite the history
        self.n_nonfinite = 0


@dataclass(frozen=True, slots=True)
class HpssPreset:
    """A transform and its medians, chosen together. Frames at 44.1 or 48 kHz; spans of time shrink at higher rates."""

    window_size: int
    synthesis_size: int
    hop_size: int
    n_past: int
    past_step: int
    n_around: int

    def nodes(self) -> tuple[Stft, Hpss, Istft]:
        """Fresh nodes, to be chained in this order."""
        stft = Stft(self.window_size, self.hop_size, self.synthesis_size)
        return stft, Hpss(self.n_past, self.n_around, past_step=self.past_step), Istft(stft)


# The median along time spans 0.14 s at 48 kHz (0.15 s at 44.1). Played music separates best with 0.1 s, electronic loops with 0.2 s or
# more; this gives up 0.2 to 0.5 dB on either (docs/hpss.md). Every second or third spectrum is enough, for their windows overlap.
PRESETS = {
    "stage": HpssPreset(2048, 256, 128, n_past=17, past_step=3, n_around=13),
    "default": HpssPreset(2048, 512, 256, n_past=13, past_step=2, n_around=13),
    "quality": HpssPreset(4096, 512, 256, n_past=13, past_step=2, n_around=17),
}
