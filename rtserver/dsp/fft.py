"""Real Fourier transform of power-of-two size as numba kernels, without allocation.

A real signal of n frames is packed into n/2 complex numbers, transformed by radix-4 Stockham passes (self-sorting, so that every
pass reads and writes along contiguous memory, which LLVM turns into vector instructions), and unfolded into n/2 + 1 bins.

Everything lives in one float32 array, the *plan*: two buffers, real and imaginary parts apart, and the twiddle factors. One array with
offsets that are constants after inlining is what lets LLVM prove that loads and stores do not overlap. Called with a literal size (or
from a kernel that closes over it) the passes become vector code; with a run-time size the result is the same, several times slower.

References
----------
C. Van Loan, "Computational Frameworks for the Fast Fourier Transform", SIAM 1992, sections 1.7 (Stockham) and 4.3 (real data).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.errors import SpecError
from rtserver.kernels import jit

F32 = npt.NDArray[np.float32]

# Real sizes. Below 16 the first pass has nothing to vectorise; above 16384 the plan leaves the second-level cache.
MIN_SIZE, MAX_SIZE = 16, 16384


def fft_plan(size: int) -> F32:
    """The plan of a real transform of `size` frames: two buffers (zeroed) and the twiddle factors.

    Layout, h = size / 2: buffer A (re h, im h), buffer B (re h, im h), then per radix-4 pass of length m: cos and sin of three factors
    (6 m/4), then cos and sin of the unfolding (2 h).
    """
    if size < MIN_SIZE or size > MAX_SIZE or size & (size - 1):
        raise SpecError(f"fft expects a power of two in {MIN_SIZE}..{MAX_SIZE}, got {size} — choose another window_size?")
    h = size // 2
    parts: list[npt.NDArray[np.float64]] = [np.zeros(4 * h)]
    n = h
    while n >= 4:
        angle = -2.0 * np.pi * np.arange(n // 4) / n
        for j in (1, 2, 3):
            parts += [np.cos(j * angle), np.sin(j * angle)]
        n //= 4
    angle = -2.0 * np.pi * np.arange(h) / size
    parts += [np.cos(angle), np.sin(angle)]
    return np.concatenate(parts).astype(np.float32)


_PASS = "void(float32[::1], int64, int64, int64, int64, int64)"


@jit("void(float32[::1], int64, int64, int64, int64)", forceinline=True)
def _first_pass(w: F32, h: int, src: int, dst: int, tw: int) -> None:
    """Radix-4 pass at stride 1: vectors run along p, and stores interleave by four."""
    m = h // 4
    for p in range(m):
        ar, ai = w[src + p], w[src + h + p]
        br, bi = w[src + m + p], w[src + h + m + p]
        cr, ci = w[src + 2 * m + p], w[src + h + 2 * m + p]
        dr, di = w[src + 3 * m + p], w[src + h + 3 * m + p]
        sr, si, tr, ti = ar + cr, ai + ci, ar - cr, ai - ci
        ur, ui, vr, vi = br + dr, bi + di, bi - di, dr - br  # v = -i (b - d)
        c1, s1, c2, s2, c3, s3 = w[tw + p], w[tw + m + p], w[tw + 2 * m + p], w[tw + 3 * m + p], w[tw + 4 * m + p], w[tw + 5 * m + p]
        w[dst + 4 * p] = sr + ur
        w[dst + h + 4 * p] = si + ui
        w[dst + 4 * p + 1] = (tr + vr) * c1 - (ti + vi) * s1
        w[dst + h + 4 * p + 1] = (tr + vr) * s1 + (ti + vi) * c1
        w[dst + 4 * p + 2] = (sr - ur) * c2 - (si - ui) * s2
        w[dst + h + 4 * p + 2] = (sr - ur) * s2 + (si - ui) * c2
        w[dst + 4 * p + 3] = (tr - vr) * c3 - (ti - vi) * s3
        w[dst + h + 4 * p + 3] = (tr - vr) * s3 + (ti - vi) * c3


@jit(_PASS, forceinline=True)
def _pass(w: F32, h: int, s: int, src: int, dst: int, tw: int) -> None:  # noqa: PLR0917
    """Radix-4 pass at stride s: vectors run along the s interleaved transforms."""
    m = h // (4 * s)
    for p in range(m):
        c1, s1, c2, s2, c3, s3 = w[tw + p], w[tw + m + p], w[tw + 2 * m + p], w[tw + 3 * m + p], w[tw + 4 * m + p], w[tw + 5 * m + p]
        a, o = src + s * p, dst + 4 * s * p
        for q in range(s):
            ar, ai = w[a + q], w[a + h + q]
            br, bi = w[a + s * m + q], w[a + h + s * m + q]
            cr, ci = w[a + 2 * s * m + q], w[a + h + 2 * s * m + q]
            dr, di = w[a + 3 * s * m + q], w[a + h + 3 * s * m + q]
            sr, si, tr, ti = ar + cr, ai + ci, ar - cr, ai - ci
            ur, ui, vr, vi = br + dr, bi + di, bi - di, dr - br
            w[o + q] = sr + ur
            w[o + h + q] = si + ui
            w[o + s + q] = (tr + vr) * c1 - (ti + vi) * s1
            w[o + h + s + q] = (tr + vr) * s1 + (ti + vi) * c1
            w[o + 2 * s + q] = (sr - ur) * c2 - (si - ui) * s2
            w[o + h + 2 * s + q] = (sr - ur) * s2 + (si - ui) * c2
            w[o + 3 * s + q] = (tr - vr) * c3 - (ti - vi) * s3
            w[o + h + 3 * s + q] = (tr - vr) * s3 + (ti - vi) * c3


@jit("void(float32[::1], int64, int64, int64)", forceinline=True)
def _last_pass(w: F32, h: int, src: int, dst: int) -> None:
    """Radix-2 pass that is left over when log2(h) is odd."""
    m = h // 2
    for q in range(m):
        ar, ai, br, bi = w[src + q], w[src + h + q], w[src + m + q], w[src + h + m + q]
        w[dst + q] = ar + br
        w[dst + h + q] = ai + bi
        w[dst + m + q] = ar - br
        w[dst + h + m + q] = ai - bi


@jit("int64(float32[::1], int64)", forceinline=True)
def complex_fft(w: F32, h: int) -> int:
    """Transform the h complex numbers in buffer A of the plan; returns the offset of the buffer that holds the result."""
    a, b, tw = 0, 2 * h, 4 * h
    _first_pass(w, h, a, b, tw)
    a, b, tw, s = b, a, tw + 6 * (h // 4), 4
    # Written out, for only constant strides are vectorised; h is at most 8192.
    if s * 4 <= h:
        _pass(w, h, 4, a, b, tw)
        a, b, tw, s = b, a, tw + 6 * (h // 16), 16
    if s == 16 and s * 4 <= h:
        _pass(w, h, 16, a, b, tw)
        a, b, tw, s = b, a, tw + 6 * (h // 64), 64
    if s == 64 and s * 4 <= h:
        _pass(w, h, 64, a, b, tw)
        a, b, tw, s = b, a, tw + 6 * (h // 256), 256
    if s == 256 and s * 4 <= h:
        _pass(w, h, 256, a, b, tw)
        a, b, tw, s = b, a, tw + 6 * (h // 1024), 1024
    if s == 1024 and s * 4 <= h:
        _pass(w, h, 1024, a, b, tw)
        a, b, s = b, a, 4096
    if s < h:
        _last_pass(w, h, a, b)
        a = b
    return a


@jit("void(float32[::1], int64, float32[::1])", forceinline=True)
def unfold(w: F32, h: int, bins: F32) -> None:
    """Transform buffer A (even frames as real, odd frames as imaginary part) into h + 1 bins, written as re, im, re, im, …"""
    z = complex_fft(w, h)
    tw = len(w) - 2 * h
    bins[0] = w[z] + w[z + h]
    bins[1] = 0.0
    bins[2 * h] = w[z] - w[z + h]
    bins[2 * h + 1] = 0.0
    half = np.float32(0.5)
    for k in range(1, h):
        er, ei = w[z + k] + w[z + h - k], w[z + h + k] - w[z + 2 * h - k]  # twice the transform of the even frames
        dr, di = w[z + h + k] + w[z + 2 * h - k], w[z + h - k] - w[z + k]  # and of the odd ones
        c, s = w[tw + k], w[tw + h + k]
        bins[2 * k] = half * (er + dr * c - di * s)
        bins[2 * k + 1] = half * (ei + dr * s + di * c)


@jit("int64(float32[::1], int64, float32[::1])", forceinline=True)
def fold(w: F32, h: int, bins: F32) -> int:
    """Inverse of `unfold`: returns the offset z of the result; frame 2 i is w[z + h + i], frame 2 i + 1 is w[z + i].

    A transform with real and imaginary parts swapped on both sides is the inverse one. The scale 1 / h is left to the caller's
    window. The imaginary parts of bins 0 and h cannot belong to a real signal and are ignored.
    """
    tw = len(w) - 2 * h
    half = np.float32(0.5)
    w[h] = half * (bins[0] + bins[2 * h])
    w[0] = half * (bins[0] - bins[2 * h])
    for k in range(1, h):
        xr, xi, yr, yi = bins[2 * k], bins[2 * k + 1], bins[2 * (h - k)], bins[2 * (h - k) + 1]
        er, ei = xr + yr, xi - yi
        fr, fi = xr - yr, xi + yi
        c, s = w[tw + k], w[tw + h + k]
        dr, di = fr * c + fi * s, fi * c - fr * s  # the odd frames: times the conjugate twiddle
        w[h + k] = half * (er - di)
        w[k] = half * (ei + dr)
    return complex_fft(w, h)
