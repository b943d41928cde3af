"""Whole clips through what plays live: the graph of `rtserver.separation`, hop by hop; and through the best that its masks could be."""

from __future__ import annotations

import numpy as np

from rtserver.config import Separation
from rtserver.dsp.hpss import PRESETS
from rtserver.node import Spec
from rtserver.separation.graph import preset, separation
from rtserver.separation.nowhere import Nowhere
from rtserver.separation.separator import Source


def latency_ms(name: str, sample_rate: int) -> float:
    """Milliseconds that a preset is late: its synthesis window."""
    return 1e3 * PRESETS[name].at(sample_rate).synthesis_size / sample_rate


def play(options: Separation, mixture: np.ndarray, sample_rate: int, source: Source | None = None) -> np.ndarray:
    """Stems ``(n_stems, n_channels, frames)`` of ``(n_channels, frames)``, aligned with it, in the order of `tracks`."""
    graph = separation(options, sample_rate, n_channels=len(mixture), source=source)
    graph.prepare(Spec.signal(sample_rate, len(mixture), preset(options.preset, sample_rate).hop_size))
    return np.stack(list(graph.freewheel(mixture).values()))


def medians_alone(options: Separation, mixture: np.ndarray, sample_rate: int) -> np.ndarray:
    """The stems of ``options.model`` as they are without it: percussive part, harmonic part below 180 Hz, the rest."""
    return play(options, mixture, sample_rate, Nowhere())


def oracle(name: str, truth: np.ndarray, sample_rate: int) -> np.ndarray:
    """The ideal ratio mask of powers at a preset's transform, from the stems ``(n_stems, n_channels, frames)`` themselves, channel by
    channel: no mask of real numbers does much better there."""
    n_stems, n_channels, n_frames = truth.shape
    stft, _, istft = PRESETS[name].at(sample_rate).nodes()
    hop = stft.hop_size
    heard = stft.prepare(Spec.signal(sample_rate, n_stems * n_channels, hop))
    n_bins = heard.shape[1]
    spectra = heard.empty()
    of_stems = Spec(sample_rate, hop, (n_stems, n_channels, n_bins), heard.dtype)
    istft.prepare(of_stems)
    padded = np.pad(truth.reshape(n_stems * n_channels, n_frames), ((0, 0), (0, istft.latency + -(n_frames + istft.latency) % hop)))
    out = np.zeros((n_stems, n_channels, padded.shape[1]), np.float32)
    made = np.zeros((n_stems, n_channels, hop), np.float32)
    for at in range(0, padded.shape[1], hop):
        stft.process(np.ascontiguousarray(padded[:, at : at + hop], np.float32), spectra)
        stems = spectra.reshape(of_stems.shape)
        powers = np.abs(stems) ** 2 + 1e-12
        istft.process(np.ascontiguousarray(powers / powers.sum(axis=0) * stems.sum(axis=0), np.complex64), made)
        out[:, :, at : at + hop] = made
    return out[:, :, istft.latency : istft.latency + n_frames]
