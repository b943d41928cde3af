"""SDR as the published figures of MUSDB18 have it: BSSEval v4, frames of one second, their median.

BSSEval v4 (A. Liutkus, F.-R. Stöter and N. Ito, "The 2018 Signal Separation Evaluation Campaign", LVA/ICA 2018) takes the error of an
estimate apart by filters: what comes of another place, of other sources, of neither. SDR is the energy of the reference over that of all
of it, and all of it is the error itself: the filters, which take museval 6 s for 10 s of sound, cancel out. So SDR is computed here
without them. It is what museval says, to the last digits, which a test holds; with `by_museval` museval says it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

FRAME_S = 1.0  # window and hop of the published figures, museval's defaults for MUSDB18


def frames_sdr(wanted: np.ndarray, got: np.ndarray, sample_rate: int, by_museval: bool = False) -> np.ndarray:
    """dB ``(n_sources, n_seconds)`` of sources ``(n_sources, n_channels, frames)``; what remains of a second at the end is left out.

    NaN where any source or estimate is silent, in all sources: a frame counts for all or for none. Exits with a line where museval is asked
    for and not installed. A source that is silent all the time is refused by museval: leave it out.
    """
    n = min(round(FRAME_S * sample_rate), wanted.shape[2])
    wanted, got = wanted.astype(np.float64), got.astype(np.float64)
    if by_museval:
        x, y = (np.ascontiguousarray(s.transpose(0, 2, 1)) for s in (wanted, got))
        return _metrics().bss_eval(x, y, window=n, hop=n)[0]
    out = np.full((len(wanted), wanted.shape[2] // n), np.nan)
    for i in range(out.shape[1]):
        x, y = (s[:, :, i * n : (i + 1) * n] for s in (wanted, got))
        if not any(np.any(np.all(s.sum(axis=1) == 0.0, axis=1)) for s in (x, y)):
            with np.errstate(divide="ignore"):
                out[:, i] = 10.0 * np.log10(np.sum(x**2, axis=(1, 2)) / np.sum((y - x) ** 2, axis=(1, 2)))
    return out


def median_sdr(wanted: dict[str, np.ndarray], got: dict[str, np.ndarray], sample_rate: int, by_museval: bool = False) -> dict[str, float]:
    """source -> median over frames, of the sources ``(n_channels, frames)`` that `wanted` has."""
    stacked = (np.stack([of[k] for k in wanted]) for of in (wanted, got))
    return {
        k: float(np.nanmedian(x)) if np.isfinite(x).any() else float("nan")
        for k, x in zip(wanted, frames_sdr(*stacked, sample_rate, by_museval), strict=True)
    }


def _metrics() -> Any:
    """museval's metrics alone. The package as a whole refuses to be imported without ffmpeg, with which it reads compressed tracks."""
    found = importlib.util.find_spec("museval")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("museval is not installed: make setup-train, or pip install -c constraints.txt museval")
    spec = importlib.util.spec_from_file_location("museval_metrics", Path(found.submodule_search_locations[0]) / "metrics.py")
    assert spec is not None and spec.loader is not None
    metrics = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(metrics)
    return metrics
