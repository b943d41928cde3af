"""Two channels and how sources lie between them: covariances learnt hop by hop, and the filters that they make.

Everything is planes of float32, one value a bin, in flat arrays: a spectrum of two channels is four planes (real and imaginary part of the
left one, then of the right one), a Hermitian matrix four as well (left, right, real and imaginary part of left times conjugate right).
A *place* is a covariance with a trace of 2, which says where a source lies and not how loud it is, *loaded*: mixed with the identity, for a
source that lies in one point, as a panned one does, has nothing across it to divide by.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from rtserver.kernels import jit

F32 = npt.NDArray[np.float32]
Spatial = Literal["off", "paper", "power"]

N_PLANES = 4
LOUDEST = np.float32(1e36)  # powers are cut here, as in `Hpss`
_FAINTEST = np.float32(1e-30)  # powers below say nothing of a place, and are kept from becoming denormals, which are slow


@jit("void(float32[::1], int64, int64, int64, float32[::1], int64, int64, boolean, float32, float32)", forceinline=True)
def learn(  # noqa: PLR0917
    scratch: F32, s: int, z: int, place: int, covariances: F32, at: int, n_bins: int, equally: bool, rate: float, loading: float
) -> None:
    """Let the covariance N at `at` learn from the source at `s`. Its place goes to `place`, how strong it is, wherever it lies, to `z`.

    ``C = s sᴴ``, divided by its trace where spectra count `equally`; ``N ← (1 − rate) N + rate · C``; ``R = 2 N / tr N``, loaded;
    ``z = tr(R⁻¹ C) / 2``. What is too loud to be squared teaches nothing, and who has heard nothing lies everywhere: R = 1.
    """
    zero, one, half = np.float32(0.0), np.float32(1.0), np.float32(0.5)
    for k in range(n_bins):
        lr, li = scratch[s + k], scratch[s + n_bins + k]
        rr, ri = scratch[s + 2 * n_bins + k], scratch[s + 3 * n_bins + k]
        left, right = lr * lr + li * li, rr * rr + ri * ri
        re, im = lr * rr + li * ri, li * rr - lr * ri
        trace = left + right
        weight = rate / trace if equally else rate
        heard = (trace > _FAINTEST) & (trace < LOUDEST)
        keep = one - rate if heard else one
        a = keep * covariances[at + k] + (weight * left if heard else zero)
        d = keep * covariances[at + n_bins + k] + (weight * right if heard else zero)
        br = keep * covariances[at + 2 * n_bins + k] + (weight * re if heard else zero)
        bi = keep * covariances[at + 3 * n_bins + k] + (weight * im if heard else zero)
        a, d = a if a > _FAINTEST else zero, d if d > _FAINTEST else zero
        br, bi = br if abs(br) > _FAINTEST else zero, bi if abs(bi) > _FAINTEST else zero
        covariances[at + k], covariances[at + n_bins + k] = a, d
        covariances[at + 2 * n_bins + k], covariances[at + 3 * n_bins + k] = br, bi
        somewhere = a + d > zero
        share = (one - loading) * (np.float32(2.0) / (a + d) if somewhere else zero)
        base = loading if somewhere else one
        a, d, br, bi = share * a + base, share * d + base, share * br, share * bi
        scratch[place + k], scratch[place + n_bins + k] = a, d
        scratch[place + 2 * n_bins + k], scratch[place + 3 * n_bins + k] = br, bi
        strength = half * (d * left + a * right - (br + br) * re - (bi + bi) * im) / (a * d - br * br - bi * bi)
        strength = strength if strength < LOUDEST else LOUDEST
        scratch[z + k] = strength if strength > zero else zero


@jit("void(float32[::1], int64, int64, int64, int64, int64, int64, int64)", forceinline=True)
def extract(scratch: F32, x: int, s: int, f_at: int, g_at: int, r: int, q: int, n_bins: int) -> None:  # noqa: PLR0917
    """The multichannel Wiener filter: of the spectrum at `x` the source at place `r`, written to `s`, beside another one at place `q`.

    ``s = f R (f R + g Q)⁻¹ x`` with both strengths as shares of a bin: their sum is about 1.
    """
    for k in range(n_bins):
        f, g = scratch[f_at + k], scratch[g_at + k]
        a, d, br, bi = (f * scratch[r + k], f * scratch[r + n_bins + k], f * scratch[r + 2 * n_bins + k], f * scratch[r + 3 * n_bins + k])
        va, vd = a + g * scratch[q + k], d + g * scratch[q + n_bins + k]
        vr, vi = br + g * scratch[q + 2 * n_bins + k], bi + g * scratch[q + 3 * n_bins + k]
        scale = np.float32(1.0) / (va * vd - vr * vr - vi * vi)
        lr, li = scratch[x + k], scratch[x + n_bins + k]
        rr, ri = scratch[x + 2 * n_bins + k], scratch[x + 3 * n_bins + k]
        y_lr, y_li = scale * (vd * lr - vr * rr + vi * ri), scale * (vd * li - vr * ri - vi * rr)
        y_rr, y_ri = scale * (va * rr - vr * lr - vi * li), scale * (va * ri - vr * li + vi * lr)
        scratch[s + k], scratch[s + n_bins + k] = a * y_lr + br * y_rr - bi * y_ri, a * y_li + br * y_ri + bi * y_rr
        scratch[s + 2 * n_bins + k] = br * y_lr + bi * y_li + d * y_rr
        scratch[s + 3 * n_bins + k] = br * y_li - bi * y_lr + d * y_ri
