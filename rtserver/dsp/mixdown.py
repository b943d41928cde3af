"""The newest hop of all channels as one, behind what came before it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.kernels import jit

F32 = npt.NDArray[np.float32]

_SATURATION = np.float32(1e6)  # a sample 120 dB over full scale is a fault; cut there, its power still fits float32


@jit("int64(float32[:,::1], float32[::1], int64)", forceinline=True)
def mix_down(x: F32, past: F32, size: int) -> int:
    """Move `past` (size,) on by one hop and put the mean of the channels of `x` (n_channels, hop_size) at its end.

    Returns how many samples were not finite: they are taken as 0. All others are cut at 1e6.
    """
    n_channels, hop = x.shape
    gain = np.float32(1.0 / n_channels)
    n_nonfinite = 0
    for i in range(size - hop):
        past[i] = past[i + hop]
    for i in range(hop):
        total = np.float32(0.0)
        for c in range(n_channels):
            value = x[c, i]
            finite = abs(value) <= np.float32(3.4028235e38)
            n_nonfinite += not finite
            value = value if finite else np.float32(0.0)
            value = value if value < _SATURATION else _SATURATION
            total += value if value > -_SATURATION else -_SATURATION
        past[size - hop + i] = gain * total
    return n_nonfinite
