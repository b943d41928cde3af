"""From what a network says to the stems: shares that are whole, mixed with those of the medians, applied so that the stems add up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.kernels import jit
from rtserver.separation.features import LIMIT
from rtserver.separation.model import BASS, N_BINS, SeparationModel

F32 = npt.NDArray[np.float32]
C64 = npt.NDArray[np.complex64]
CROSSOVER_HZ = 180.0  # between what is taken for bass and the rest of the harmonic part, where medians stand in for a network
_LARGEST = np.float32(np.finfo(np.float32).max)
_LEAST = np.float32(1e-6)  # shares below it are not divided by, nor taken the logit of


def stand_in(model: SeparationModel, sample_rate: int) -> F32:
    """How the medians' two parts are shared out among the stems when a network has nothing to say.

    The percussive part goes to the stem called percussive or drums. Of the harmonic one the stem called bass gets what lies below
    `CROSSOVER_HZ` (a slope of 17 dB an octave in the ratio of the shares), the stem that is left the rest. What no name tells apart goes to
    the last stem.

    Returns
    -------
    (2, n_stems, n_bins) float32
        Shares of the harmonic and of the percussive part; each bin's add up to 1.
    """
    n_bins = N_BINS
    table = np.zeros((2, len(model.stems), n_bins), np.float32)
    percussive = model.percussive
    table[1, percussive if percussive >= 0 else -1] = 1.0
    others = [k for k in range(len(model.stems)) if k != percussive]
    if percussive < 0:
        table[0, -1] = 1.0
        return table
    bass = model.stems.index(BASS) if BASS in model.stems else -1
    rest = [k for k in others if k != bass]
    low = np.zeros(n_bins)
    if bass >= 0:
        hz = np.arange(n_bins) * sample_rate / (2 * (n_bins - 1))
        low = 1.0 / (1.0 + (hz / CROSSOVER_HZ) ** (2.0 / np.log(2.0))) if rest else np.ones(n_bins)
        table[0, bass] = low
    if rest:
        table[0, rest[-1]] = 1.0 - table[0, bass] if bass >= 0 else 1.0
    return table


@jit("int64(complex64[:,::1], complex64[:,::1])")
def clean(x: C64, out: C64) -> int:
    """Copy a spectrum; bins that are not finite become 0 and are counted."""
    n_nonfinite = 0
    xs, outs = x.view(np.float32), out.view(np.float32)
    for c in range(x.shape[0]):
        for k in range(x.shape[1]):
            re, im = xs[c, 2 * k], xs[c, 2 * k + 1]
            finite = (abs(re) <= _LARGEST) & (abs(im) <= _LARGEST)
            n_nonfinite += not finite
            outs[c, 2 * k] = re if finite else np.float32(0.0)
            outs[c, 2 * k + 1] = im if finite else np.float32(0.0)
    return n_nonfinite


@jit("void(float32[:,::1])")
def whole(masks: F32) -> None:
    """Make shares of what a network gave, (n_stems − 1, n_bins), in place: each in 0..1, and together no more than 1."""
    one, nothing = np.float32(1.0), np.float32(0.0)
    for k in range(masks.shape[1]):
        total = nothing
        for s in range(masks.shape[0]):
            masks[s, k] = min(max(masks[s, k], nothing), one)
            total += masks[s, k]
        if total > one:
            for s in range(masks.shape[0]):
                masks[s, k] /= total


@jit("void(float32[:,::1], float32[::1], float32[:,:,::1], int64, float32, float32, float32[:,::1])")
def settle(masks: F32, gain: F32, table: F32, percussive: int, blend: float, standing_in: float, out: F32) -> None:  # noqa: PLR0917
    """The shares of all stems but the last that hold for one hop.

    Parameters
    ----------
    masks : (n_stems − 1, n_bins)
        Of the network, made `whole`.
    gain : (n_bins,)
        Harmonic share of the medians in this hop.
    table : (2, n_stems, n_bins)
        See `stand_in`.
    percussive : int
        Index of the percussive stem; −1: none, and `blend` has no effect.
    blend : float
        0..1. How far the boundary between percussive and the rest goes from the network's to the medians', as logits.
    standing_in : float
        0..1. Share of the medians' own masks in the result.
    out : (n_stems − 1, n_bins)
    """
    one = np.float32(1.0)
    n_stems = table.shape[1]
    limit, blend32, held = np.float32(LIMIT), np.float32(blend), np.float32(standing_in)
    for k in range(gain.shape[0]):
        last = one
        for s in range(n_stems - 1):
            out[s, k] = masks[s, k]
            last -= masks[s, k]
        last = max(last, np.float32(0.0))
        g = gain[k]
        if percussive >= 0 and blend32 > np.float32(0.0):
            rest = np.float32(0.0) if percussive == n_stems - 1 else last  # of all that is not percussive
            for s in range(n_stems - 1):
                rest += out[s, k] if s != percussive else np.float32(0.0)
            h = min(max(rest, _LEAST), one - _LEAST)
            q = min(max(g, _LEAST), one - _LEAST)
            prior = min(max(np.log(q / (one - q)), -limit), limit)
            z = (one - blend32) * np.log(h / (one - h)) + blend32 * prior
            harmonic = one / (one + np.exp(-z))
            for s in range(n_stems - 1):
                if s == percussive:
                    out[s, k] = one - harmonic
                elif rest > _LEAST:
                    out[s, k] *= harmonic / rest
                else:
                    out[s, k] = harmonic * table[0, s, k]
        if held > np.float32(0.0):
            for s in range(n_stems - 1):
                simple = g * table[0, s, k] + (one - g) * table[1, s, k]
                out[s, k] = simple if held >= one else out[s, k] + held * (simple - out[s, k])


@jit("void(float32[:,::1], complex64[:,::1], complex64[:,:,::1])")
def apply(masks: F32, x: C64, out: C64) -> None:
    """Stems (n_stems, n_channels, n_bins) of a spectrum: its bins times the shares, and in the last stem what is left of them."""
    xs, outs = x.view(np.float32), out.view(np.float32)
    n_masks = masks.shape[0]
    for c in range(x.shape[0]):
        for k in range(x.shape[1]):
            re, im = xs[c, 2 * k], xs[c, 2 * k + 1]
            for s in range(n_masks):
                a, b = masks[s, k] * xs[c, 2 * k], masks[s, k] * xs[c, 2 * k + 1]
                outs[s, c, 2 * k], outs[s, c, 2 * k + 1] = a, b
                re, im = re - a, im - b
            outs[n_masks, c, 2 * k], outs[n_masks, c, 2 * k + 1] = re, im
