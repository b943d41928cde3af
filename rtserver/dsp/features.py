"""What a score follower listens to: chroma, spectral difference, level and semitone spectrum, every 10 ms.

Nothing here adapts: besides log compression the only normalisation is of the chroma, by its own length. So the same values can be
written down for a score, from its note list alone. Levels do reach the difference (it is of log magnitudes with a fixed knee):
whoever needs it independent of level scales it by its own length.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from rtserver.dsp.fft import fft_plan, unfold
from rtserver.dsp.layout import LEVEL, N_CHROMA, N_DIFFERENCE, N_FEATURES, N_SEMITONES, SEMITONES
from rtserver.dsp.mixdown import mix_down
from rtserver.errors import SpecError
from rtserver.kernels import jit
from rtserver.node import Array, Spec, expect_signal

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

FIRST_PITCH = 21
CHROMA_PITCHES = range(48, 108)  # five whole octaves, each pitch class five times; below, windows of 0.09 s do not tell semitones apart

# Log magnitude is log(1 + COMPRESSION * amplitude): the knee is a sine at 1/75 of full scale (-37.5 dB); room noise stays below it.
COMPRESSION = 75.0
DIFFERENCE_LAG = 3  # hops: over 30 ms a rise has passed most of the shorter windows; over 10 ms it is lost in their slope
SILENCE_DB = -120.0

# Longest window 0.09 s, as a power of two (4096 frames at 44.1 and 48 kHz), for pitches below 55; half of it below 76; then a quarter.
_WINDOW_S = 0.09
_SPLITS = (55 - FIRST_PITCH, 76 - FIRST_PITCH)


def hop_size_at(sample_rate: int) -> int:
    """Frames in 10 ms."""
    return round(sample_rate / 100)


def expect_hops(spec: Spec, sample_rate: int, who: str) -> None:
    """Refuse what is not a signal of `sample_rate`, 22050..192000 Hz, in hops of 10 ms. Raises `SpecError`."""
    expect_signal(spec, who)
    if not 22050 <= sample_rate <= 192000:
        raise SpecError(f"{who} expects a sample_rate of 22050..192000 Hz, got {sample_rate}")
    if spec.sample_rate != sample_rate or spec.hop_size != hop_size_at(sample_rate):
        raise SpecError(
            f"{who} expects {sample_rate} Hz in hops of {hop_size_at(sample_rate)} frames, got {spec.sample_rate} Hz in hops of "
            f"{spec.hop_size} — make it with {who}(sample_rate={spec.sample_rate}), and connect it through the Graph?"
        )


def window_sizes(sample_rate: int) -> tuple[int, int, int]:
    """The three analysis windows at `sample_rate`, longest first, in frames."""
    longest = 1 << round(np.log2(_WINDOW_S * sample_rate))
    return longest, longest // 2, longest // 4


def _semitone_weights(sample_rate: int, size: int, pitch: int, tuning_hz: float) -> tuple[int, npt.NDArray[np.float64]]:
    """First bin and weights of one semitone: a triangle in pitch from the semitone below to the one above.

    Where a semitone is narrower than a bin the triangle is widened to one bin on either side, so that it always holds some.
    """
    width = sample_rate / size
    centre = tuning_hz * 2.0 ** ((pitch - 69) / 12)
    below, above = min(centre * 2.0 ** (-1 / 12), centre - width), max(centre * 2.0 ** (1 / 12), centre + width)
    f = np.arange(size // 2 + 1) * width
    w = np.clip(np.minimum((f - below) / (centre - below), (above - f) / (above - centre)), 0.0, None)
    (inside,) = np.nonzero(w)
    if not len(inside):  # above half the sample rate
        return 0, np.zeros(1)
    return int(inside[0]), w[inside[0] : inside[-1] + 1]


def spectrum_window(size: int) -> npt.NDArray[np.float64]:
    """A Hann window, scaled so that a sine of amplitude A peaks at A."""
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * (np.arange(size) + 0.5) / size)
    return 2.0 * hann / hann.sum()


@jit("void(float32[::1])", forceinline=True)
def normalise_chroma(out: F32) -> None:
    """Scale the first twelve values to unit length; all 0 in silence."""
    norm = np.float32(0.0)
    for i in range(N_CHROMA):
        norm += out[i] * out[i]
    scale = np.float32(1.0) / np.sqrt(norm) if norm > np.float32(1e-12) else np.float32(0.0)
    for i in range(N_CHROMA):
        out[i] *= scale


@cache
def _kernel(size: int) -> Any:
    """The kernel of `Features` for one longest window."""
    half, quarter = size // 2, size // 4
    short = size - quarter

    @jit(
        "int64(float32[:,::1], float32[::1], float32[::1], float32[::1], float32[::1], float32[::1], float32[::1], float32[::1],"
        " int64[:,::1], float32[::1], float32[:,::1], int64)"
    )
    def extract(  # noqa: PLR0917
        x: F32, out: F32, past: F32, windows: F32, plan0: F32, plan1: F32, plan2: F32, bins: F32, table: I64, weights: F32, log: F32, n: int
    ) -> int:
        """One hop, the n-th since reset; returns how many samples were not finite (and taken as 0)."""
        n_nonfinite = mix_down(x, past, size)
        level = np.float32(0.0)
        for i in range(short, size):
            level += past[i] * past[i]
        out[LEVEL] = np.float32(10.0) * np.log10(level / np.float32(quarter) + np.float32(10.0 ** (SILENCE_DB / 10)))

        # Three spectra, all ending with the newest frame; `bins` holds them one behind the other.
        for i in range(half):
            plan0[i] = past[2 * i] * windows[2 * i]
            plan0[half + i] = past[2 * i + 1] * windows[2 * i + 1]
        unfold(plan0, half, bins)
        for i in range(quarter):
            plan1[i] = past[half + 2 * i] * windows[size + 2 * i]
            plan1[quarter + i] = past[half + 2 * i + 1] * windows[size + 2 * i + 1]
        unfold(plan1, quarter, bins[size + 2 :])
        for i in range(quarter // 2):
            plan2[i] = past[short + 2 * i] * windows[size + half + 2 * i]
            plan2[quarter // 2 + i] = past[short + 2 * i + 1] * windows[size + half + 2 * i + 1]
        unfold(plan2, quarter // 2, bins[size + half + 4 :])

        for i in range(N_CHROMA):
            out[i] = np.float32(0.0)
        now, before = n % (DIFFERENCE_LAG + 1), (n + 1) % (DIFFERENCE_LAG + 1)
        for row in range(table.shape[0]):
            first, count, at, goal = table[row, 0], table[row, 1], table[row, 2], table[row, 3]
            power = np.float32(0.0)
            for k in range(count):
                re, im = bins[first + 2 * k], bins[first + 2 * k + 1]
                power += weights[at + k] * (re * re + im * im)
            magnitude = np.log(np.float32(1.0) + np.float32(COMPRESSION) * np.sqrt(power))
            if goal < N_CHROMA:
                out[goal] += magnitude
            else:
                pitch = goal - N_CHROMA
                rise = magnitude - log[before, pitch]
                log[now, pitch] = magnitude
                out[SEMITONES + pitch] = magnitude
                if pitch < N_DIFFERENCE:
                    out[goal] = rise if rise > np.float32(0.0) else np.float32(0.0)
        normalise_chroma(out)
        return n_nonfinite

    return extract


class Features:
    """Chroma, spectral difference, level and semitone spectrum of the mono mixdown, one vector every 10 ms.

    Input    signal ``(n_channels, hop_size)`` float32, ``hop_size = round(sample_rate / 100)``
    Output   ``(208,)`` float32: 12 chroma, C first, log-compressed and of unit length (all 0 in silence); 88 positive differences of log
             semitone magnitudes against three hops before, MIDI pitches 21..108; the level in dB re full scale (RMS of the
             shortest window; -120 is silence); 107 log semitone magnitudes, MIDI pitches 21..127
    Latency  0 frames: the vector of a hop uses the samples up to that hop's end, and none after

    Parameters
    ----------
    sample_rate : int
        22050..192000 Hz. It sets the hop, hence it is known before `prepare`.
    tuning_hz : float
        Frequency of A4, to which all semitones are tuned.

    Notes
    -----
    The amplitude of a semitone is the root of its share of the spectrum's power, scaled so that a sine of amplitude A at the centre of a
    semitone counts 0.7 A (where the window barely tells semitones apart) to A; its log magnitude is ``log(1 + 75 A)``. Low pitches are
    seen through a longer window (4096 frames at 44.1 and 48 kHz below pitch 55, 2048 below 76, 1024 above), chroma through the longest
    alone. Below pitch 48 no window here tells neighbouring semitones apart: a low note rises over several of them at once.
    Before the first hop there was silence. A sample that is not finite is taken as 0 and counted in `n_nonfinite`; samples are cut
    at 1e6.

    References
    ----------
    S. Dixon, "Live tracking of musical performances using on-line time warping", DAFx-05, Madrid, 2005 (the positive difference).
    M. Müller and S. Ewert, "Chroma Toolbox", ISMIR 2011 (log compression of chroma).
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
        expect_hops(spec, self.sample_rate, "Features")
        sizes = window_sizes(self.sample_rate)
        self._windows = np.concatenate([spectrum_window(n) for n in sizes]).astype(np.float32)
        self._plans = [fft_plan(n) for n in sizes]
        self._bins = np.zeros(sum(n + 2 for n in sizes), np.float32)
        self._table, self._weights = semitone_table(self.sample_rate, self.tuning_hz)
        self._past = np.zeros(sizes[0], np.float32)
        self._log = np.zeros((DIFFERENCE_LAG + 1, N_SEMITONES), np.float32)
        self.kernel = _kernel(sizes[0])
        self.reset()
        return replace(spec, shape=(N_FEATURES,), labels=())

    def process(self, x: Array, out: Array) -> None:
        self.n_nonfinite += self.kernel(
            x, out, self._past, self._windows, *self._plans, self._bins, self._table, self._weights, self._log, self._n_hops
        )
        self._n_hops += 1

    def reset(self) -> None:
        self._past.fill(0.0)
        self._log.fill(0.0)
        self._n_hops = 0
        self.n_nonfinite = 0


def semitone_table(sample_rate: int, tuning_hz: float) -> tuple[I64, F32]:
    """Where each semitone finds its power: rows of (first float in bins, n_bins, first weight, index in the output), and the weights.

    The rows of the chroma come first, one for each of `CHROMA_PITCHES`, all from the longest window.
    """
    sizes = window_sizes(sample_rate)
    starts = (0, sizes[0] + 2, sizes[0] + sizes[1] + 4)
    goals = [(pitch % N_CHROMA, 0, pitch) for pitch in CHROMA_PITCHES]
    for i in range(N_SEMITONES):
        goals.append((N_CHROMA + i, sum(i >= split for split in _SPLITS), FIRST_PITCH + i))
    rows: list[tuple[int, int, int, int]] = []
    weights: list[npt.NDArray[np.float64]] = []
    at = 0
    for goal, window, pitch in goals:
        first, w = _semitone_weights(sample_rate, sizes[window], pitch, tuning_hz)
        rows.append((starts[window] + 2 * first, len(w), at, goal))
        weights.append(w / 1.5)  # a sine under a Hann window spreads 1.5 times the power of its highest bin
        at += len(w)
    return np.array(rows, np.int64), np.concatenate(weights).astype(np.float32)
