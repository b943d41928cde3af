"""Random spectra, and what a node that separates makes of them."""

from __future__ import annotations

import numpy as np

from rtserver.dsp.hpss import Hpss
from rtserver.node import Spec

N_BINS = 33


def spectrum_spec(n_channels: int = 1, n_bins: int = N_BINS) -> Spec:
    return Spec(48000, 64, (n_channels, n_bins), np.dtype(np.complex64))


def spectra(n_hops: int, n_channels: int = 1, seed: int = 0) -> np.ndarray:
    """(n_hops, n_channels, N_BINS)"""
    parts = np.random.default_rng(seed).standard_normal((2, n_hops, n_channels, N_BINS))
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


def through(node: Hpss, x: np.ndarray) -> np.ndarray:
    """(n_hops, n_parts, n_channels, n_bins)"""
    out = np.full((len(x), 3 if node.residual else 2, *x.shape[1:]), np.nan, np.complex64)
    for i, hop in enumerate(x):
        node.process(np.ascontiguousarray(hop), out[i])
    return out
