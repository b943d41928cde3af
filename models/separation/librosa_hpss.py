"""librosa's HPSS of whole files, which ours is held against where librosa is installed."""

from __future__ import annotations

import numpy as np


def separate_librosa(sizes: tuple[int, int, int], mixture: np.ndarray) -> np.ndarray:
    """(2, n_channels, frames), harmonic and percussive: librosa offline, which sees the future. Sizes of window, hop and medians."""
    import librosa

    n_fft, hop, kernel = sizes
    spectrum = librosa.stft(mixture, n_fft=n_fft, hop_length=hop)
    parts = librosa.decompose.hpss(spectrum, kernel_size=kernel)
    return np.stack([librosa.istft(part, hop_length=hop, n_fft=n_fft, length=mixture.shape[1]) for part in parts])


def has_librosa() -> bool:
    """Whether librosa can be imported; says so when it cannot."""
    try:
        import librosa  # noqa: F401
    except ImportError:
        print("librosa is not installed: its rows are left out (pip install librosa)")
        return False
    return True
