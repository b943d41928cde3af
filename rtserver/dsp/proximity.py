"""Proximity kernels: which bins of a spectrogram are like a bin, and the median over them. Offline: the future counts as much as the past.

A kernel is a boolean array ``(n_around, n_spectra)``, both odd, its middle the bin itself: True where a neighbour tells of it. A source
that lasts has neighbours along time, one that is broad along frequency; any other array is a model of some other source.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.errors import SpecError
from rtserver.kernels import jit

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
Kernel = npt.NDArray[np.bool_]

_BLOCK = 256  # spectra at once: what is kept of them fits the first cache
_MAX_SORTED = 128  # neighbours; sorting more of them by exchange, quadratic, is slower than searching bin by bin


def box(n_around: int, n_spectra: int) -> Kernel:
    """All bins at most ``n_around // 2`` above or below and ``n_spectra // 2`` before or after."""
    return np.ones((n_around, n_spectra), np.bool_)


def steady(n_spectra: int) -> Kernel:
    """The kernel of what lasts: the same bin in the spectra around. Its median is that of harmonic sound in `Hpss`."""
    return box(1, n_spectra)


def broad(n_around: int) -> Kernel:
    """The kernel of what strikes: the bins around in the same spectrum."""
    return box(n_around, 1)


def cross(n_around: int, n_spectra: int) -> Kernel:
    """The kernel of what changes slowly along both, as voices do: `steady` and `broad` together."""
    kernel = np.zeros((n_around, n_spectra), np.bool_)
    kernel[n_around // 2] = kernel[:, n_spectra // 2] = True
    return kernel


def check_kernel(kernel: Kernel) -> None:
    """Raises `SpecError` for what is no kernel."""
    if kernel.ndim != 2 or kernel.dtype != np.bool_ or kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
        raise SpecError(f"a proximity kernel is bool (n_around, n_spectra), both odd; got {kernel.shape} {kernel.dtype}")
    if not kernel.any():
        raise SpecError(f"a proximity kernel of {kernel.shape} without a neighbour has no median — the middle alone is the bin itself")


@jit("float32(float32[::1], int64, int64)")
def _smallest(values: F32, n: int, rank: int) -> float:
    """The value of `rank`, from 0, among the first n. Those before it are left in front of it (Hoare's quickselect)."""
    low, high = 0, n - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return values[rank]


@jit("void(float32[:,::1], int64[:,::1], float32[:,::1], float32[:,::1], float32[::1])")
def _by_searching(padded: F32, offsets: I64, out: F32, _rows: F32, buffer: F32) -> None:
    """The median over many neighbours, bin by bin."""
    n = offsets.shape[0]
    for f in range(out.shape[0]):
        for t in range(out.shape[1]):
            for i in range(n):
                buffer[i] = padded[f + offsets[i, 0], t + offsets[i, 1]]
            value = _smallest(buffer, n, n // 2)
            if n % 2 == 0:
                below = buffer[0]
                for i in range(1, n // 2):
                    below = buffer[i] if buffer[i] > below else below
                value = np.float32(0.5) * (value + below)
            out[f, t] = value


@jit("void(float32[:,::1], int64[:,::1], float32[:,::1], float32[:,::1], float32[::1])")
def _by_sorting(padded: F32, offsets: I64, out: F32, rows: F32, carry: F32) -> None:
    """The median over few neighbours: the lower half of them is kept sorted, for a block of spectra at once.

    Row r holds the r-th smallest value so far. A new one rises through the rows: the smaller one stays, the larger one goes on. A row that
    is further below the median than there are values to come can no longer become it, and is not kept.
    """
    n = offsets.shape[0]
    lowest = n // 2 if n % 2 else n // 2 - 1  # of the rows that are asked for
    for f in range(out.shape[0]):
        for start in range(0, out.shape[1], _BLOCK):
            size = min(_BLOCK, out.shape[1] - start)
            for r in range(n // 2 + 1):
                row = rows[r]
                for k in range(_BLOCK):
                    row[k] = np.inf
            for i in range(n):
                t = start + offsets[i, 1]
                values = padded[f + offsets[i, 0], t : t + size]
                for k in range(size):
                    carry[k] = values[k]
                first = max(0, lowest - (n - 1 - i))
                if first > 0:
                    row = rows[first - 1]
                    for k in range(_BLOCK):
                        carry[k] = carry[k] if carry[k] > row[k] else row[k]
                for r in range(first, min(i, n // 2) + 1):
                    row = rows[r]
                    for k in range(_BLOCK):
                        value, new = row[k], carry[k]
                        row[k] = value if value < new else new
                        carry[k] = new if value < new else value
            upper, lower = rows[n // 2], rows[lowest]
            for k in range(size):
                out[f, start + k] = upper[k] if n % 2 else np.float32(0.5) * (upper[k] + lower[k])


def median_around(z: F32, kernel: Kernel) -> F32:
    """The median of each bin's neighbours.

    Parameters
    ----------
    z : (n_bins, n_spectra) float32
        Not negative, finite. Beyond its edges it goes on mirrored, the edge twice.
    kernel : bool
        Of an even number of neighbours the median is the mean of the middle two.

    Returns
    -------
    (n_bins, n_spectra) float32

    Raises
    ------
    SpecError
        For what is no kernel.
    """
    check_kernel(kernel)
    around, before = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(z, ((around, around), (before, before)), mode="symmetric")
    offsets = np.argwhere(kernel).astype(np.int64)
    n = len(offsets)
    rows = np.zeros((n // 2 + 1, _BLOCK), np.float32)
    out = np.empty(z.shape, np.float32)
    median = _by_sorting if n <= _MAX_SORTED else _by_searching
    median(np.ascontiguousarray(padded), np.ascontiguousarray(offsets), out, rows, np.zeros(max(n, _BLOCK), np.float32))
    return out
