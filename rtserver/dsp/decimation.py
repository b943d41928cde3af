"""Half the sample rate with hardly any delay: a minimum-phase half-band filter, of which every second output is kept.

A linear-phase filter of this sharpness would delay by 24 samples of each rate that it is used at; minimum phase delays by 2 to 6. It
bends phases, so it is for those who read magnitudes.

References
----------
A. V. Oppenheim and R. W. Schafer, "Discrete-Time Signal Processing", 3rd ed., 2010, section 13.5 (minimum phase by the real cepstrum).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.kernels import jit

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

# 72 dB below from 0.31 of the sample rate on, flat to 0.01 dB up to 0.2: what is folded back from above 0.31 lands above 0.19.
N_TAPS = 48
PASS, STOP = 0.2, 0.31
_KAISER_BETA = 16.0  # of the prototype, whose magnitudes are squares of these: twice the attenuation in dB
_FFT_SIZE = 16384  # long enough that the cepstrum does not fold over


def half_band() -> F64:
    """The filter, (48,), oldest tap last; its sum is 1."""
    n = np.arange(2 * N_TAPS - 1) - (N_TAPS - 1)
    prototype = np.sinc(n / 2) * np.kaiser(2 * N_TAPS - 1, _KAISER_BETA)
    magnitude = np.abs(np.fft.rfft(prototype, _FFT_SIZE))
    floor = magnitude[np.arange(len(magnitude)) > STOP * _FFT_SIZE].max()  # the ripple of the stop band has zeros, which have no logarithm
    cepstrum = np.fft.irfft(0.5 * np.log(np.maximum(magnitude, 0.3 * floor)), _FFT_SIZE)
    cepstrum[1 : _FFT_SIZE // 2] *= 2.0
    cepstrum[_FFT_SIZE // 2 + 1 :] = 0.0
    taps = np.fft.irfft(np.exp(np.fft.rfft(cepstrum)), _FFT_SIZE)[:N_TAPS]
    return taps / taps.sum()


def group_delay(frequency: npt.ArrayLike) -> F64:
    """Delay of the filter in samples of its input, at frequencies relative to its input's sample rate."""
    taps, n = half_band(), np.arange(N_TAPS)
    turns = np.exp(-2j * np.pi * np.multiply.outer(np.asarray(frequency, np.float64), n))
    return np.real((turns @ (n * taps)) / (turns @ taps))


@jit("int64(float32[::1], int64, int64, float32[::1], int64, float32[::1])", forceinline=True)
def halve(line: F32, n_new: int, n_before: int, low: F32, low_size: int, reversed_taps: F32) -> int:  # noqa: PLR0917
    """Filter the newest `n_new` samples at the end of `line` and put every second output at the end of `low`.

    `n_before` samples came on `line` before them; what has an odd number is kept. The last `low_size` samples of `low` are moved on.
    `reversed_taps` holds the oldest tap first. Returns how many samples were put.
    """
    n_taps = len(reversed_taps)
    first = 1 - n_before % 2
    n_put = (n_new - first + 1) // 2
    for i in range(len(low) - low_size, len(low) - n_put):
        low[i] = low[i + n_put]
    at = len(line) - n_new + first - n_taps + 1
    for i in range(n_put):
        seen = line[at + 2 * i : at + 2 * i + n_taps]
        total = np.float32(0.0)
        for k in range(n_taps):
            total += reversed_taps[k] * seen[k]
        low[len(low) - n_put + i] = total
    return n_put
