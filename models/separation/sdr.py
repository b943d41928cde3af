"""How close an estimate of a sound comes to it, in dB, over all its channels and frames at once.

SI-SDR: Le Roux et al., "SDR – half-baked or well done?", ICASSP 2019. SDR: energy of the reference over energy of the error, nothing
rescaled.
"""

from __future__ import annotations

import numpy as np


def si_sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, means removed; both of one shape."""
    r, e = (a.ravel().astype(np.float64) - a.mean(dtype=np.float64) for a in (reference, estimate))
    target = (e @ r) / (r @ r + 1e-9) * r
    return float(10.0 * np.log10((target @ target + 1e-9) / (np.sum((e - target) ** 2) + 1e-9)))


def sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Signal-to-distortion ratio in dB; both of one shape."""
    r, e = reference.astype(np.float64), estimate.astype(np.float64)
    return float(10.0 * np.log10((np.sum(r**2) + 1e-9) / (np.sum((r - e) ** 2) + 1e-9)))
