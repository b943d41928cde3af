"""Chroma alone: what `Features` has of it, and what librosa hears of tones."""

from __future__ import annotations

import numpy as np
import pytest

from rtserver.dsp.chroma import Chroma
from rtserver.dsp.features import Features
from rtserver.dsp.layout import N_CHROMA, N_FEATURES
from rtserver.node import Spec


def through(node: Chroma | Features, x: np.ndarray) -> np.ndarray:
    spec = node.prepare(Spec.signal(node.sample_rate, x.shape[0], node.hop_size))
    out = np.zeros((x.shape[1] // node.hop_size, *spec.shape), np.float32)
    for i in range(len(out)):
        node.process(np.ascontiguousarray(x[:, i * node.hop_size : (i + 1) * node.hop_size], np.float32), out[i])
    return out


def tones(sample_rate: int, *pitches: int) -> np.ndarray:
    n = np.arange(sample_rate // 2)
    return sum(0.1 * np.sin(2 * np.pi * 440 * 2 ** ((p - 69) / 12) * n / sample_rate) for p in pitches)[None]


@pytest.mark.parametrize("sample_rate", [22050, 44100, 48000, 96000])
def test_it_is_the_chroma_of_the_features(sample_rate: int) -> None:
    x = 0.3 * np.random.default_rng(3).standard_normal((2, 30 * round(sample_rate / 100)))
    features = through(Features(sample_rate), x)
    assert features.shape[1] == N_FEATURES
    np.testing.assert_allclose(through(Chroma(sample_rate), x), features[:, :N_CHROMA], atol=1e-6)


@pytest.mark.parametrize("sample_rate", [22050, 48000])
@pytest.mark.parametrize("pitches", [(69,), (60,), (60, 64, 67), (74, 77, 81)])
def test_the_pitch_classes_of_a_chord_are_those_of_librosa(sample_rate: int, pitches: tuple[int, ...]) -> None:
    librosa = pytest.importorskip("librosa", reason="librosa is not installed (make setup)")
    x = tones(sample_rate, *pitches)
    theirs = np.median(librosa.feature.chroma_stft(y=x[0], sr=sample_rate, n_fft=4096, tuning=0.0), axis=1)
    ours = through(Chroma(sample_rate), x)[-1]
    n = len({p % 12 for p in pitches})
    assert set(np.argsort(-ours)[:n]) == set(np.argsort(-theirs)[:n]) == {p % 12 for p in pitches}
    assert np.linalg.norm(ours) == pytest.approx(1.0, abs=1e-5)


def test_silence_is_zero() -> None:
    assert not through(Chroma(48000), np.zeros((1, 9600))).any()
