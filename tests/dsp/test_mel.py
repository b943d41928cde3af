"""Log-mel bands against librosa, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest

from rtserver.dsp.mel import MAX_HZ, MAX_MELS, MIN_HZ, MIN_MELS, N_MELS, Mel, hz_of_mel, mel_filters, mel_of_hz, window_size
from rtserver.errors import SpecError
from rtserver.node import Spec


def through(x: np.ndarray, sample_rate: int = 48000, n_mels: int = N_MELS) -> np.ndarray:
    node = Mel(sample_rate, n_mels)
    node.prepare(Spec.signal(sample_rate, x.shape[0], node.hop_size))
    out = np.full((x.shape[1] // node.hop_size, n_mels), np.nan, np.float32)
    for i in range(len(out)):
        node.process(np.ascontiguousarray(x[:, i * node.hop_size : (i + 1) * node.hop_size], np.float32), out[i])
    return out


def noise(n_frames: int, n_channels: int = 1) -> np.ndarray:
    return np.random.default_rng(7).uniform(-0.5, 0.5, (n_channels, n_frames)).astype(np.float32)


@pytest.mark.parametrize("n_mels", [40, 80, 128])
@pytest.mark.parametrize("sample_rate", [22050, 44100, 48000, 96000])
def test_a_frame_is_that_of_librosa(sample_rate: int, n_mels: int) -> None:
    librosa = pytest.importorskip("librosa", reason="librosa is not installed (make setup)")
    x = noise(12 * (sample_rate // 100))
    size = window_size(sample_rate)
    newest = x[0, -size:]
    power = librosa.feature.melspectrogram(
        y=newest, sr=sample_rate, n_fft=size, hop_length=size, center=False, n_mels=n_mels, fmin=MIN_HZ, fmax=MAX_HZ
    )
    theirs = librosa.power_to_db(power[:, 0] / (size / 4) ** 2, amin=1e-10, top_db=None)  # half the sum of a Hann window: size / 4
    np.testing.assert_allclose(through(x, sample_rate, n_mels)[-1], theirs, atol=0.01)


@pytest.mark.parametrize("sample_rate", [22050, 31999, 44100, 48000, 64000, 192000])
@pytest.mark.parametrize("n_mels", [MIN_MELS, N_MELS, 128, MAX_MELS])
def test_every_band_holds_a_bin(sample_rate: int, n_mels: int) -> None:
    assert (mel_filters(sample_rate, n_mels) > 0.0).any(axis=1).all()


def test_the_scale_is_that_of_librosa_and_has_an_inverse() -> None:
    librosa = pytest.importorskip("librosa", reason="librosa is not installed (make setup)")
    hz = np.array([0.0, 30.0, 440.0, 999.0, 1000.0, 1001.0, 4000.0, 11000.0])
    np.testing.assert_allclose(mel_of_hz(hz), librosa.hz_to_mel(hz))
    np.testing.assert_allclose(hz_of_mel(mel_of_hz(hz)), hz, atol=1e-9)


def test_a_sweep_rises_through_the_bands() -> None:
    seconds = np.arange(2 * 48000) / 48000
    x = 0.2 * np.sin(2 * np.pi * 100.0 * (2.0 ** (3.0 * seconds) - 1.0) / (3.0 * np.log(2.0)))[None]
    loudest = through(x)[10:].argmax(axis=1)
    assert (np.diff(loudest) >= 0).all()
    assert loudest[-1] > loudest[0] + 40


def test_levels_do_not_depend_on_the_rate() -> None:
    levels = []
    for rate in (22050, 44100, 48000, 96000, 192000):
        tone = 0.2 * np.sin(2 * np.pi * 1000.0 * np.arange(rate // 5) / rate)[None]
        levels.append(through(tone, rate)[-1].max())
    assert np.ptp(levels) < 1.0  # dB


def test_silence_is_minus_100_db() -> None:
    assert set(through(np.zeros((1, 9600)))[-1].tolist()) == {-100.0}


def test_the_newest_sample_is_in_the_vector() -> None:
    x = np.zeros((1, 960), np.float32)
    x[0, 900:] = 1.0  # windows end softly: of the last 20 frames they leave a ten-thousandth
    first, second = through(x)
    assert first.max() == -100.0
    assert second.max() > -90.0


def test_channels_are_mixed_down() -> None:
    stereo = noise(4800, 2)
    np.testing.assert_allclose(through(stereo), through(stereo.mean(axis=0, keepdims=True)), atol=1e-3)


@pytest.mark.parametrize("n_mels", [MIN_MELS - 1, MAX_MELS + 1])
def test_other_numbers_of_bands_are_refused(n_mels: int) -> None:
    with pytest.raises(SpecError, match=r"n_mels of 8\.\.160"):
        Mel(48000, n_mels).prepare(Spec.signal(48000, 1, 480))
