"""Who gets a bin: soft and hard masks from two medians, with margins between which neither gets it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rtserver.errors import SpecError
from rtserver.kernels import jit

F32 = npt.NDArray[np.float32]

HARD, HALF_EXPONENT, HARMONIC_FACTOR, PERCUSSIVE_FACTOR, N_SETTINGS = range(5)  # what the kernel is told
_EPS = np.float32(1e-30)  # far below any signal's power (1e-15 of full scale), far above denormals: silence is shared evenly
_MOST = 1e30  # of a margin raised to its exponent, and of a ratio: their products overflow to infinity at worst, never to NaN


@dataclass(frozen=True, slots=True)
class Masks:
    """How a bin is shared out, given the harmonic strength h and the percussive strength p of it (medians, as magnitudes).

    Attributes
    ----------
    mask : {"soft", "hard"}
        Soft: the harmonic part gets h^e / (h^e + (margin_harmonic · p)^e) of the bin, the percussive one p^e / (p^e +
        (margin_percussive · h)^e), a Wiener mask when e is 2. Hard: the harmonic part gets the whole bin where
        h > margin_harmonic · p, the percussive one where p >= margin_percussive · h [1]_.
    exponent : float
        e of the soft mask, > 0; 2 is fastest. The hard mask is its limit.
    margin_harmonic, margin_percussive : float
        >= 1. How much stronger than the other a part must be to get a bin. Above 1 some of the signal belongs to neither.

    Raises
    ------
    SpecError
        For values outside these ranges.

    References
    ----------
    .. [1] J. Driedger, M. Müller and S. Disch, "Extending harmonic-percussive separation of audio signals", ISMIR 2014, eqs. 1 and 2.
    """

    mask: Literal["soft", "hard"] = "soft"
    exponent: float = 2.0
    margin_harmonic: float = 1.0
    margin_percussive: float = 1.0

    def __post_init__(self) -> None:
        if self.mask not in ("soft", "hard"):
            raise SpecError(f"masks expect mask 'soft' or 'hard', got {self.mask!r}")
        if not (math.isfinite(self.exponent) and self.exponent > 0.0):
            raise SpecError(f"masks expect exponent > 0, got {self.exponent}")
        for name in ("margin_harmonic", "margin_percussive"):
            margin = getattr(self, name)
            if not (math.isfinite(margin) and margin >= 1.0):
                raise SpecError(f"masks expect {name} >= 1, got {margin} — 1 takes every bin that is the stronger one's")

    @property
    def complete(self) -> bool:
        """Whether harmonic and percussive are all there is."""
        return self.margin_harmonic == self.margin_percussive == 1.0

    def write(self, settings: F32) -> None:
        """Put what `shares` needs into `settings`, ``(N_SETTINGS,)``. Medians are powers, so factors and exponent are for powers."""
        e = 2.0 if self.mask == "hard" else self.exponent
        settings[HARD] = self.mask == "hard"
        settings[HALF_EXPONENT] = e / 2.0
        settings[HARMONIC_FACTOR] = math.exp(min(e * math.log(self.margin_harmonic), math.log(_MOST)))
        settings[PERCUSSIVE_FACTOR] = math.exp(min(e * math.log(self.margin_percussive), math.log(_MOST)))


SOFT = Masks()  # a Wiener mask that shares out all of the signal


@jit("void(float32[::1], int64, int64, int64, float32[::1])", forceinline=True)
def shares(medians: F32, h_at: int, p_at: int, n_bins: int, settings: F32) -> None:
    """Turn both medians, powers from `h_at` and `p_at`, into the shares of both parts, in place. Two shares are never more than one."""
    one, most = np.float32(1.0), np.float32(_MOST)
    e, a, b = settings[HALF_EXPONENT], settings[HARMONIC_FACTOR], settings[PERCUSSIVE_FACTOR]
    if settings[HARD] != 0.0:
        for k in range(n_bins):
            h, p = medians[h_at + k], medians[p_at + k]
            medians[h_at + k] = one if h > a * p else np.float32(0.0)
            medians[p_at + k] = one if p >= b * h else np.float32(0.0)
        return
    if e == 1.0:
        for k in range(n_bins):
            h, p = medians[h_at + k] + _EPS, medians[p_at + k] + _EPS
            share = h / (h + a * p)
            share = share if share < one else one  # division may round up
            rest, other = one - share, p / (p + b * h)
            medians[h_at + k] = share
            medians[p_at + k] = other if other < rest else rest
        return
    for k in range(n_bins):
        ratio = ((medians[p_at + k] + _EPS) / (medians[h_at + k] + _EPS)) ** e
        ratio = ratio if ratio < most else most
        share = one / (one + a * ratio)
        rest, other = one - share, ratio / (ratio + b)
        medians[h_at + k] = share
        medians[p_at + k] = other if other < rest else rest


@jit("void(float32[:,:,::1], float32[::1], int64, int64, int64, float32[::1])", forceinline=True)
def apportion(outs: F32, scratch: F32, h_at: int, p_at: int, n_bins: int, settings: F32) -> None:  # noqa: PLR0917
    """Hand ``outs[1]``, a spectrum with real and imaginary parts in turn, out to the parts, by the shares that begin at `h_at` and `p_at`.

    Where nothing is left for a residual, the percussive part is what the harmonic one leaves: then the sum is the input.
    """
    complete = settings[HARMONIC_FACTOR] == 1.0 and settings[PERCUSSIVE_FACTOR] == 1.0
    for c in range(outs.shape[1]):
        harmonic, percussive = outs[0, c], outs[1, c]
        if complete:
            for k in range(n_bins):
                re, im = percussive[2 * k], percussive[2 * k + 1]
                hr, hi = scratch[h_at + k] * re, scratch[h_at + k] * im
                harmonic[2 * k], harmonic[2 * k + 1] = hr, hi
                percussive[2 * k], percussive[2 * k + 1] = re - hr, im - hi
            if outs.shape[0] == 3:
                residual = outs[2, c]
                for k in range(2 * n_bins):
                    residual[k] = np.float32(0.0)
        else:
            if outs.shape[0] == 3:
                residual = outs[2, c]
                for k in range(n_bins):
                    rest = np.float32(1.0) - scratch[h_at + k] - scratch[p_at + k]
                    residual[2 * k], residual[2 * k + 1] = rest * percussive[2 * k], rest * percussive[2 * k + 1]
            for k in range(n_bins):
                re, im = percussive[2 * k], percussive[2 * k + 1]
                harmonic[2 * k], harmonic[2 * k + 1] = scratch[h_at + k] * re, scratch[h_at + k] * im
                percussive[2 * k], percussive[2 * k + 1] = scratch[p_at + k] * re, scratch[p_at + k] * im
