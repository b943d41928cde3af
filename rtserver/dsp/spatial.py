"""Two channels and how sources lie between them: covariances learnt hop by hop, and the filters that they make.

Everything is planes of float32, one value a bin, in flat arrays: a spectrum of two channels is four planes (real and imaginary part of
the left one, then of the right one), a Hermitian matrix four as well (left, right, real and imaginary part of left times conjugate right).
Covariances are kept with a trace of 2, so that they say where a source lies and not how loud it is. Wherever one is used it is *loaded*,
mixed with the identity by a share `loading` of it: a source that lies in one point, as a panned one does, has none to divide by across it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.kernels import jit

F32 = npt.NDArray[np.float32]

N_PLANES = 4
LOUDEST = np.float32(1e36)  # powers are cut here, as in `Hpss`
_FAINTEST = np.float32(1e-30)  # powers below say nothing of a place


@jit("void(float32[::1], int64, int64)", forceinline=True)
def forget(covariances: F32, at: int, n_bins: int) -> None:
    """Make the covariance at `at` the identity: from anywhere."""
    for k in range(n_bins):
        covariances[at + k] = np.float32(1.0)
        covariances[at + n_bins + k] = np.float32(1.0)
        covariances[at + 2 * n_bins + k] = np.float32(0.0)
        covariances[at + 3 * n_bins + k] = np.float32(0.0)


@jit("void(float32[::1], int64, int64, float32[::1], int64, int64, float32, float32)", forceinline=True)
def learn(scratch: F32, s: int, z: int, covariances: F32, at: int, n_bins: int, rate: float, loading: float) -> None:  # noqa: PLR0917
    """Let the covariance R at `at` learn from the source at `s`, and write how strong the source is, wherever it lies, to `z`.

    ``R ← (1 − rate) R + rate · 2 C / tr C`` and ``z = tr(R⁻¹ C) / 2`` with ``C = s sᴴ``. Silence, and what is too loud to be squared,
    teach nothing.
    """
    one, half, zero = np.float32(1.0), np.float32(0.5), np.float32(0.0)
    keep = one - loading
    for k in range(n_bins):
        lr, li = scratch[s + k], scratch[s + n_bins + k]
        rr, ri = scratch[s + 2 * n_bins + k], scratch[s + 3 * n_bins + k]
        left, right = lr * lr + li * li, rr * rr + ri * ri
        re, im = lr * rr + li * ri, li * rr - lr * ri
        trace = left + right
        heard = (trace > _FAINTEST) & (trace < LOUDEST)
        share = (rate + rate) / trace
        a, d = covariances[at + k], covariances[at + n_bins + k]
        br, bi = covariances[at + 2 * n_bins + k], covariances[at + 3 * n_bins + k]
        a = (one - rate) * a + share * left if heard else a
        d = (one - rate) * d + share * right if heard else d
        br = (one - rate) * br + share * re if heard else br
        bi = (one - rate) * bi + share * im if heard else bi
        covariances[at + k] = a if a > _FAINTEST else zero  # denormals are slow, and decay would end in them
        covariances[at + n_bins + k] = d if d > _FAINTEST else zero
        covariances[at + 2 * n_bins + k] = br if abs(br) > _FAINTEST else zero
        covariances[at + 3 * n_bins + k] = bi if abs(bi) > _FAINTEST else zero
        a, d, br, bi = keep * a + loading, keep * d + loading, keep * br, keep * bi
        strength = half * (d * left + a * right - (br + br) * re - (bi + bi) * im) / (a * d - br * br - bi * bi)
        strength = strength if strength < LOUDEST else LOUDEST
        scratch[z + k] = strength if strength > zero else zero


@jit("void(float32[::1], int64, int64, int64, int64, float32[::1], int64, int64, int64, float32)", forceinline=True)
def extract(  # noqa: PLR0917
    scratch: F32, x: int, s: int, mine: int, others: int, covariances: F32, r: int, q: int, n_bins: int, loading: float
) -> None:
    """The multichannel Wiener filter: of the spectrum at `x`, the source at covariance `r`, written to `s`.

    ``s = f R (f R + g Q)⁻¹ x``, f and g from `mine` and `others`, which are shares of a bin: their sum is about 1.
    """
    keep = np.float32(1.0) - loading
    for k in range(n_bins):
        f, g = scratch[mine + k], scratch[others + k]
        a, d = f * (keep * covariances[r + k] + loading), f * (keep * covariances[r + n_bins + k] + loading)
        br, bi = f * keep * covariances[r + 2 * n_bins + k], f * keep * covariances[r + 3 * n_bins + k]
        va = a + g * (keep * covariances[q + k] + loading)
        vd = d + g * (keep * covariances[q + n_bins + k] + loading)
        vr, vi = br + g * keep * covariances[q + 2 * n_bins + k], bi + g * keep * covariances[q + 3 * n_bins + k]
        scale = np.float32(1.0) / (va * vd - vr * vr - vi * vi)
        lr, li = scratch[x + k], scratch[x + n_bins + k]
        rr, ri = scratch[x + 2 * n_bins + k], scratch[x + 3 * n_bins + k]
        y_lr, y_li = scale * (vd * lr - vr * rr + vi * ri), scale * (vd * li - vr * ri - vi * rr)
        y_rr, y_ri = scale * (va * rr - vr * lr - vi * li), scale * (va * ri - vr * li + vi * lr)
        scratch[s + k], scratch[s + n_bins + k] = a * y_lr + br * y_rr - bi * y_ri, a * y_li + br * y_ri + bi * y_rr
        scratch[s + 2 * n_bins + k] = br * y_lr + bi * y_li + d * y_rr
        scratch[s + 3 * n_bins + k] = br * y_li - bi * y_lr + d * y_ri
