"""Causal harmonic/percussive separation by median filtering."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from rtserver.dsp.masks import N_SETTINGS, SOFT, Masks, apportion, shares
from rtserver.dsp.median import MAX_NETWORK, median_of, median_of_past
from rtserver.dsp.stft import Istft, Stft
from rtserver.errors import SpecError
from rtserver.kernels import jit
from rtserver.node import Array, Spec, expect_spectrum

F32 = npt.NDArray[np.float32]
C64 = npt.NDArray[np.complex64]

_LARGEST = np.float32(np.finfo(np.float32).max)
_LOUDEST = np.float32(1e36)  # powers are cut here, so that the sum of two stays finite
PARTS = ("harmonic", "percussive", "residual")
MASK_PARAMETERS = tuple(field.name for field in fields(Masks))
MAX_AROUND = 63  # a network of this length compiles in seconds; longer ones do not pay


@cache
def _kernel(n_bins: int, n_past: int, past_step: int, n_around: int, n_fill: int) -> Any:
    """The kernel of `Hpss` for one set of sizes, which are constants of the code: the medians are written out, not looped over."""
    pad = n_around // 2
    sorted_rows = n_past > MAX_NETWORK
    # scratch: power with its mirrored margins; harmonic median and percussive median, which become the shares
    h_at, p_at = n_bins + 2 * pad, 2 * n_bins + 2 * pad

    @jit("int64(complex64[:,::1], complex64[:,:,::1], float32[::1], float32[::1], float32[::1], int64)")
    def separate(x: C64, out: C64, settings: F32, state: F32, scratch: F32, n_hops: int) -> int:  # noqa: PLR0917
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

        for k in range(n_bins):
            scratch[p_at + k] = median_of(scratch, k, 1, n_around)

        median_of_past(state, scratch, pad, p_at, h_at, n_hops, n_bins, n_past, past_step, n_fill, sorted_rows, True)
        shares(scratch, h_at, p_at, n_bins, settings)
        apportion(outs, scratch, h_at, p_at, n_bins, settings)
        return n_nonfinite

    return separate


class Hpss:
    """Causal harmonic/percussive separation by median filtering.

    A harmonic sound is a horizontal ridge of the spectrogram, a percussive one a vertical ridge: a median along time keeps the first, a
    median along frequency the second [1]_. Both medians are taken of powers and share out each bin (`Masks`); what belongs to neither is
    the residual [2]_. Only past spectra are used: the median along time covers the newest spectrum and those before it. Powers are
    summed over the channels, which share one mask, so that a stem stays where it was in the stereo image; signals that have nothing
    to do with each other belong in nodes of their own.

    Input    spectrum ``(n_channels, n_bins)`` complex64
    Output   ``(n_parts, n_channels, n_bins)`` complex64, labels ``("harmonic", "percussive")`` and, if asked for, ``"residual"``
    Latency  0 frames. (What starts to sound counts as percussive for ``n_past // 2 * past_step`` hops; that is the method, not a delay.)

    Parameters
    ----------
    n_past : int
        Spectra in the median along time; odd.
    n_around : int
        Bins in the median along frequency; odd, at most 63.
    past_step : int
        Every how many hops a past spectrum enters the median. Windows that overlap by more than three quarters say nearly the same
        twice: with a step the same span of time needs fewer spectra. The history is kept per phase, so that each hop's median is exact.
    masks : Masks
        How a bin is shared out; `set` changes it between two hops.
    residual : bool, optional
        Whether there is a third part. When left out: where a margin is above 1.

    Notes
    -----
    All parts sum to the input. Without a third part and with a margin above 1, what belongs to neither is left out.

    A change by `set` holds from the next hop on. It does not click: each hop's parts are faded into the next one's by the synthesis window
    of `Istft`, over ``synthesis_size - hop_size`` frames, and no part ever has more of a bin than the input.

    Start-up: until the first window is full of signal (``window_size / hop_size`` hops), nothing is known of the past. What stands out
    of a spectrum, its power less its median along frequency, is taken to have sounded before; so a tone that starts with the stream
    is harmonic and a click is percussive from the beginning. After that the past is what it was.

    `shares`, ``(2, n_bins)`` float32, is a view of what the harmonic and the percussive part got of each bin of the newest spectrum.

    A bin that is NaN or infinite is taken as 0 and counted in `n_nonfinite`. Memory: ``past_step * n_past * n_bins`` float32, twice that
    where `n_past` is above 21.

    References
    ----------
    .. [1] D. FitzGerald, "Harmonic/percussive separation using median filtering", DAFx-10, Graz, 2010.
    .. [2] J. Driedger, M. Müller and S. Disch, "Extending harmonic-percussive separation of audio signals", ISMIR 2014.
    """

    def __init__(self, n_past: int = 17, n_around: int = 17, past_step: int = 1, masks: Masks = SOFT, residual: bool | None = None) -> None:
        self.n_past = n_past
        self.n_around = n_around
        self.past_step = past_step
        self.masks = masks
        self.residual = not masks.complete if residual is None else residual
        self.n_nonfinite = 0
        self.kernel: Any = None
        self._settings = np.zeros(N_SETTINGS, np.float32)
        masks.write(self._settings)

    @property
    def latency(self) -> int:
        return 0

    def set(self, name: str, value: float | str) -> None:
        """Change one attribute of `masks`, from the next hop on. Raises `SpecError`, and changes nothing, if it makes no sense."""
        if name not in MASK_PARAMETERS:
            raise SpecError(f"{type(self).__name__} has no parameter {name!r}; known: {', '.join(MASK_PARAMETERS)}")
        self.masks = replace(self.masks, **{name: value})  # pyright: ignore[reportArgumentType]
        self.masks.write(self._settings)

    def prepare(self, spec: Spec) -> Spec:
        """Raises `SpecError` for anything but a spectrum, and for even or too long medians."""
        n_bins = self._check(spec)
        rows = self.n_past * self.past_step * (2 if self.n_past > MAX_NETWORK else 1) + 1
        self._state = np.zeros(rows * n_bins, np.float32)
        self._scratch = np.zeros(3 * n_bins + self.n_around - 1, np.float32)
        n_fill = -(-2 * (n_bins - 1) // spec.hop_size)
        self.kernel = _kernel(n_bins, self.n_past, self.past_step, self.n_around, n_fill)
        self.shares = self._scratch[-2 * n_bins :].reshape(2, n_bins)
        self.reset()
        return self._parts(spec)

    def _check(self, spec: Spec) -> int:
        """How many bins `spec` has."""
        who = type(self).__name__
        expect_spectrum(spec, who)
        n_bins = spec.shape[1]
        if self.n_past < 1 or self.n_past % 2 == 0:
            raise SpecError(f"{who} expects an odd n_past, got {self.n_past} — try {max(1, self.n_past - 1)}?")
        if not 1 <= self.n_around <= min(MAX_AROUND, n_bins) or self.n_around % 2 == 0:
            raise SpecError(f"{who} expects an odd n_around in 1..{min(MAX_AROUND, n_bins)}, got {self.n_around}")
        if self.past_step < 1:
            raise SpecError(f"{who} expects past_step >= 1, got {self.past_step}")
        return n_bins

    def _parts(self, spec: Spec) -> Spec:
        """What `spec` becomes."""
        labels = PARTS if self.residual else PARTS[:2]
        return replace(spec, shape=(len(labels), *spec.shape), labels=labels)

    def process(self, x: Array, out: Array) -> None:
        self.n_nonfinite += self.kernel(x, out, self._settings, self._state, self._scratch, self._n_hops)
        self._n_hops += 1

    def reset(self) -> None:
        self._n_hops = 0  # the first hops after it overwrite the history
        self.n_nonfinite = 0


@dataclass(frozen=True, slots=True)
class HpssPreset:
    """A transform and its medians, chosen together. `at` fits those of `PRESETS` to a sample rate."""

    window_size: int
    synthesis_size: int
    hop_size: int
    n_past: int
    past_step: int
    n_around: int

    def at(self, sample_rate: int) -> HpssPreset:
        """The preset at a sample rate: windows and hop times the power of two that keeps them nearest in seconds, medians as long in
        seconds and as wide in Hz as they were chosen.

        From 22.05 to 192 kHz windows, hop and latency stay within a factor of 1.41 of what they are at `REFERENCE_RATE`, the span of the
        median along time within 10 %, that along frequency within 15 %. At 44.1 and 48 kHz nothing changes.
        """
        octaves = round(math.log2(sample_rate / REFERENCE_RATE))
        window_size, synthesis_size, hop_size = (
            round(size * 2.0**octaves) for size in (self.window_size, self.synthesis_size, self.hop_size)
        )
        stretch = sample_rate / REFERENCE_RATE / 2.0**octaves  # hops are shorter, and bins wider, by this factor
        past_step = max(1, round(self.past_step * stretch))
        n_past = _nearest_odd(self.n_past * self.past_step * stretch / past_step)
        return HpssPreset(window_size, synthesis_size, hop_size, n_past, past_step, _nearest_odd(self.n_around / stretch))

    def nodes(self, masks: Masks = SOFT, residual: bool | None = None) -> tuple[Stft, Hpss, Istft]:
        """Fresh nodes, to be chained in this order."""
        stft = Stft(self.window_size, self.hop_size, self.synthesis_size)
        return stft, Hpss(self.n_past, self.n_around, self.past_step, masks, residual), Istft(stft)


def _nearest_odd(value: float) -> int:
    return 2 * round((value - 1.0) / 2.0) + 1


REFERENCE_RATE = 46000  # Hz; between 44.1 and 48 kHz, where the presets were chosen

# The median along time spans 0.14 s at 48 kHz (0.15 s at 44.1). Played music separates best with 0.1 s, electronic loops with 0.2 s or
# more; this gives up 0.2 to 0.5 dB on either (docs/hpss.md). Every second or third spectrum is enough, for their windows overlap.
PRESETS = {
    "stage": HpssPreset(2048, 256, 128, n_past=17, past_step=3, n_around=13),
    "default": HpssPreset(2048, 512, 256, n_past=13, past_step=2, n_around=13),
    "quality": HpssPreset(4096, 512, 256, n_past=13, past_step=2, n_around=17),
}
