"""What the separation network is told of one spectrum: five numbers for each of 88 bands, and what causal HPSS thinks of each bin.

Training and run time call the same kernel, so a network hears live, bit for bit, what it heard in training.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rtserver.kernels import jit

F32 = npt.NDArray[np.float32]
C64 = npt.NDArray[np.complex64]
I64 = npt.NDArray[np.int64]

WINDOW_SIZE = 2048  # frames; bins are meant by their index, at 44.1 and 48 kHz alike
N_BINS = WINDOW_SIZE // 2 + 1
NETWORK_HOP = 256  # frames from one run of the network, within one phase, to the next
N_SINGLE = 40  # bins that are bands of their own: to 860 Hz at 44.1 kHz, where one bin is more than a semitone
N_BANDS = 88
GROUPS = ("energy", "delta", "harmonic", "level difference", "coherence")
N_FEATURES = len(GROUPS) * N_BANDS
N_STATE = N_BANDS + 1
LIMIT = 8.0  # of the prior: 35 dB between the parts; beyond it HPSS is sure enough

_LARGEST = np.float32(np.finfo(np.float32).max)
_LOUDEST = np.float32(1e15)  # bins are cut here, so that sums of products stay finite
_FLOOR = np.float32(1e-4)  # energy of a bin in noise of about -70 dB of full scale: what lies below is silence
_SURE = np.float32(1.0 / (1.0 + math.exp(-LIMIT)))
_LIMIT = np.float32(LIMIT)


def band_edges() -> I64:
    """First bin of each band, and one behind the last: ``(N_BANDS + 1,)``. Single bins, then bands of equal width on a log axis."""
    log_spaced = np.round(np.geomspace(N_SINGLE, N_BINS, N_BANDS - N_SINGLE + 1)).astype(np.int64)
    return np.concatenate([np.arange(N_SINGLE, dtype=np.int64), log_spaced])


_EDGES = band_edges()


@jit("int64(complex64[:,::1], float32[::1], float32[::1], float32[::1], float32[::1])")
def extract(spectrum: C64, gain: F32, state: F32, features: F32, prior: F32) -> int:
    """One hop; returns how many bins were not finite (and taken as 0).

    Parameters
    ----------
    spectrum : ``(n_channels, N_BINS)``
        Of the mixture, by `Stft` with a window of 2048 frames; one channel or two.
    gain : ``(N_BINS,)``
        Harmonic share of each bin by HPSS, 0..1 (``Hpss.shares[0]``).
    state : ``(N_STATE,)``
        Log energies of the bands `NETWORK_HOP` frames before, and whether there are any. Zeros before the first hop. Where hops are
        shorter than that, each phase has a state of its own.
    features : ``(N_FEATURES,)``, written
        Groups of `N_BANDS`, in the order of `GROUPS`: log of the mean energy of the band's bins (all channels, a floor added); its
        delta, the difference to the hop before in this phase; mean of `gain`; the inter-channel level difference, (left - right) / (left +
        right) of the energies; the inter-channel coherence, the real part of the cross-spectrum over the geometric mean of the energies.
        One channel has 0 and 1 for the last two.
    prior : ``(N_BINS,)``, written
        Logit of `gain`, within ±`LIMIT`.
    """
    bins = spectrum.view(np.float32)
    stereo = spectrum.shape[0] > 1
    zero, one = np.float32(0.0), np.float32(1.0)
    n_nonfinite = 0
    for band in range(N_BANDS):
        first, behind = _EDGES[band], _EDGES[band + 1]
        left, right, cross, harmonic = zero, zero, zero, zero
        for k in range(first, behind):
            re, im = bins[0, 2 * k], bins[0, 2 * k + 1]
            finite = (abs(re) <= _LARGEST) & (abs(im) <= _LARGEST)
            n_nonfinite += not finite
            re = min(max(re, -_LOUDEST), _LOUDEST) if finite else zero
            im = min(max(im, -_LOUDEST), _LOUDEST) if finite else zero
            left += re * re + im * im
            harmonic += gain[k]
            if stereo:
                re2, im2 = bins[1, 2 * k], bins[1, 2 * k + 1]
                finite = (abs(re2) <= _LARGEST) & (abs(im2) <= _LARGEST)
                n_nonfinite += not finite
                re2 = min(max(re2, -_LOUDEST), _LOUDEST) if finite else zero
                im2 = min(max(im2, -_LOUDEST), _LOUDEST) if finite else zero
                right += re2 * re2 + im2 * im2
                cross += re * re2 + im * im2
        width = np.float32(behind - first)
        left, right, cross = left / width, right / width, cross / width
        energy = math.log(left + right + _FLOOR)
        features[band] = energy
        features[N_BANDS + band] = energy - state[band] if state[N_BANDS] > zero else zero
        state[band] = energy
        features[2 * N_BANDS + band] = harmonic / width
        if stereo:
            features[3 * N_BANDS + band] = (left - right) / (left + right + _FLOOR)
            product = math.sqrt(left) * math.sqrt(right)
            features[4 * N_BANDS + band] = min(max((cross + _FLOOR) / (product + _FLOOR), -one), one)
        else:
            features[3 * N_BANDS + band] = zero
            features[4 * N_BANDS + band] = one
    state[N_BANDS] = one
    for k in range(N_BINS):
        g = gain[k]
        g = min(max(g, one - _SURE), _SURE)
        prior[k] = min(max(math.log(g / (one - g)), -_LIMIT), _LIMIT)
    return n_nonfinite


@jit("int64(complex64[:,:,::1], float32[:,::1], float32[::1], float32[:,::1], float32[:,::1])")
def extract_all(spectra: C64, gains: F32, state: F32, features: F32, priors: F32) -> int:
    """`extract` for hops in a row, which are the first axis of all but `state`."""
    n_nonfinite = 0
    for i in range(spectra.shape[0]):
        n_nonfinite += extract(spectra[i], gains[i], state, features[i], priors[i])
    return n_nonfinite


class SpectrumFeatures:
    """`extract` with its memory, for hops whose phases take turns.

    Parameters
    ----------
    n_phases : int
        ``NETWORK_HOP / hop_size``: each phase sees hops of `NETWORK_HOP`, and remembers its own.
    """

    def __init__(self, n_phases: int = 1) -> None:
        self.n_phases = n_phases
        self.n_nonfinite = 0
        self._state = np.zeros((n_phases, N_STATE), np.float32)

    def process(self, spectrum: C64, gain: F32, phase: int, features: F32, prior: F32) -> None:
        """Write `features` and `prior` of one spectrum; arrays as in `extract`. Allocates nothing but a view."""
        self.n_nonfinite += extract(spectrum, gain, self._state[phase], features, prior)

    def reset(self) -> None:
        self._state.fill(0.0)
        self.n_nonfinite = 0
