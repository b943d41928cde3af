"""Window pairs: how a spectrum is cut out of the signal and laid back so that nothing is lost.

A long analysis window sees fine pitch, a short synthesis window keeps the delay short. Both may differ as long as their product,
overlap-added at the hop, is one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rtserver.errors import SpecError

# float32 windows reconstruct to 1e-6; anything a listener could hear (1e-4 is -80 dB) is a wrong pair.
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class WindowPair:
    """An analysis window and the synthesis window that undoes it.

    Attributes
    ----------
    analysis : float32 (window_size,)
    synthesis : float32 (synthesis_size,)
        Belongs to the last `synthesis_size` frames of the analysis window.
    hop_size : int
        Frames between two windows.
    """

    analysis: npt.NDArray[np.float32]
    synthesis: npt.NDArray[np.float32]
    hop_size: int

    @property
    def latency(self) -> int:
        """Frames by which overlap-add lags: a frame is complete when the last synthesis window over it has come."""
        return len(self.synthesis) - self.hop_size


def _hann(size: int) -> npt.NDArray[np.float64]:
    """The periodic Hann window, which adds to a constant at any hop that divides half its size."""
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)


def window_pair(window_size: int, hop_size: int, synthesis_size: int | None = None) -> WindowPair:
    """The low-delay pair of Mauler and Martin, which is the square-root Hann pair when both sizes are equal.

    The analysis window rises slowly over ``window_size - synthesis_size / 2`` frames and falls over ``synthesis_size / 2``; the
    product of both windows is a Hann window over the last `synthesis_size` frames.

    Parameters
    ----------
    window_size : int
        Analysis frames; even.
    hop_size : int
        Frames between windows; `synthesis_size` must be an even multiple of it.
    synthesis_size : int, optional
        Synthesis frames, at most `window_size`; the same when left out.

    Raises
    ------
    SpecError
        When the sizes cannot reconstruct the signal.

    References
    ----------
    D. Mauler and R. Martin, "A low delay, variable resolution, perfect reconstruction spectral analysis-synthesis system for speech
    enhancement", EUSIPCO 2007.
    """
    m = window_size if synthesis_size is None else synthesis_size
    if hop_size < 1 or m < 2 * hop_size or m > window_size or window_size % 2 or m % (2 * hop_size):
        raise SpecError(
            f"windows expect hop_size * 2k == synthesis_size <= window_size (even), got window_size={window_size}, "
            f"synthesis_size={m}, hop_size={hop_size} — try hop_size={max(1, m // 2)}?"
        )
    rise = np.sqrt(_hann(2 * window_size - m)[: window_size - m // 2])
    fall = np.sqrt(_hann(m)[m // 2 :])
    analysis = np.concatenate([rise, fall])
    tail = analysis[window_size - m :]
    # 2 * hop / m: a Hann window of m frames adds up to m / (2 * hop). Where the analysis window is zero, so is the product.
    synthesis = _hann(m) * (2.0 * hop_size / m) / np.where(tail > 0.0, tail, 1.0)
    pair = WindowPair(analysis.astype(np.float32), synthesis.astype(np.float32), hop_size)
    check_reconstruction(pair)
    return pair


def check_reconstruction(pair: WindowPair) -> None:
    """Refuse a pair whose product, overlap-added at its hop, is not one. Raises `SpecError`."""
    m, hop = len(pair.synthesis), pair.hop_size
    if m > len(pair.analysis) or m % hop:
        raise SpecError(f"windows: a synthesis window of {m} frames does not fit {len(pair.analysis)} frames at hop {hop}")
    product = pair.analysis[len(pair.analysis) - m :].astype(np.float64) * pair.synthesis
    error = float(np.max(np.abs(product.reshape(-1, hop).sum(axis=0) - 1.0)))
    if not error <= _TOLERANCE:
        raise SpecError(
            f"windows: analysis {len(pair.analysis)}, synthesis {m}, hop {hop} do not reconstruct: the overlap-added product is off "
            f"one by {error:.2g} — use window_pair, or a smaller hop?"
        )
