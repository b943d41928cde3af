"""The constant-Q transform against sines, against its declared delays and against librosa."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.dsp.cqt import BINS_PER_OCTAVE, N_CQT, Cqt, frequencies
from rtserver.dsp.features import COMPRESSION
from rtserver.errors import SpecError
from rtserver.node import Spec

RATES = [22050, 32000, 44100, 48000, 88200, 96000, 192000]


def prepared(sample_rate: int = 48000, n_channels: int = 1, **options: float) -> Cqt:
    node = Cqt(sample_rate, **options)
    node.prepare(Spec.signal(sample_rate, n_channels, node.hop_size))
    return node


def through(node: Cqt, x: np.ndarray) -> np.ndarray:
    """All vectors of a signal (n_channels, frames)."""
    hop = node.hop_size
    out = np.full((x.shape[1] // hop, N_CQT), np.nan, np.float32)
    for i in range(len(out)):
        node.process(np.ascontiguousarray(x[:, i * hop : (i + 1) * hop], np.float32), out[i])
    return out


def amplitudes(vectors: np.ndarray) -> np.ndarray:
    return np.expm1(vectors.astype(np.float64)) / COMPRESSION


def tone(sample_rate: int, hz: float, seconds: float = 0.7, amplitude: float = 0.2) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(int(seconds * sample_rate)) / sample_rate))[None]


@pytest.mark.parametrize("sample_rate", RATES)
@settings(max_examples=12, deadline=None)
@given(k=st.integers(0, N_CQT - 1))
def test_a_sine_lands_in_its_bin_with_its_amplitude(sample_rate: int, k: int) -> None:
    heard = amplitudes(through(prepared(sample_rate), tone(sample_rate, frequencies()[k]))[-1])
    assert int(heard.argmax()) == k
    assert heard[k] == pytest.approx(0.2, rel=0.002)
    assert heard[np.abs(np.arange(N_CQT) - k) > 6].max() < 0.2 * 10 ** (-59 / 20)


def test_a_sweep_runs_through_the_bins() -> None:
    """Two octaves in four seconds, from C4 on; each bin is loudest as late as it declares."""
    node, rate = prepared(), 48000
    f0, octaves_a_second = 261.63, 0.5
    seconds = np.arange(4 * rate) / rate
    phase = 2 * np.pi * f0 * (2.0 ** (octaves_a_second * seconds) - 1.0) / (octaves_a_second * np.log(2.0))
    heard = through(node, 0.2 * np.sin(phase)[None])
    for k in range(2 * BINS_PER_OCTAVE + 4, 4 * BINS_PER_OCTAVE - 4):
        reached_s = np.log2(frequencies()[k] / f0) / octaves_a_second
        loudest_s = 0.01 * (int(heard[:, k].argmax()) + 1)
        assert abs(loudest_s - node.delays[k] / rate - reached_s) < 0.02


@pytest.mark.parametrize("sample_rate", [22050, 44100, 48000, 192000])
@pytest.mark.parametrize("filter_scale", [0.25, 1.0])
def test_declared_delays_are_measured_delays(sample_rate: int, filter_scale: float) -> None:
    """So many frames before the end of a hop must a tone begin, to have come to half its amplitude there."""
    node = prepared(sample_rate, filter_scale=filter_scale)
    for k in range(5, N_CQT, 18):
        x = tone(sample_rate, frequencies()[k])
        early, late = 0.0, 2.0 * node.delays[k] + 100.0
        while late - early > 1.0:
            begun = (early + late) / 2
            n_hops = -(-int(begun) // node.hop_size)
            node.reset()
            heard = through(node, np.concatenate((np.zeros((1, n_hops * node.hop_size - int(begun))), x[:, : int(begun)]), axis=1))
            early, late = (begun, late) if amplitudes(heard[-1:])[0, k] < 0.1 else (early, begun)
        assert abs(early - node.delays[k]) < 0.02 * node.delays[k] + 0.0015 * sample_rate


def test_the_newest_sample_is_in_the_vector() -> None:
    """What comes last within a hop changes its vector, and none before it: latency is 0."""
    node = prepared()
    x = np.zeros((1, 960))
    x[0, 955:] = 1.0  # the last 0.1 ms of the second hop
    first, second = through(node, x)
    assert not first.any()
    assert second.max() > 1e-3  # windows begin softly
    assert node.latency == 0


@pytest.mark.parametrize("sample_rate", [22050, 44100, 48000])
def test_stationary_tones_are_what_librosa_hears(sample_rate: int) -> None:
    """Within 0.5 dB wherever a bin is within 20 dB of the loudest; librosa centres its windows, on a steady tone that is all one."""
    librosa = pytest.importorskip("librosa", reason="librosa is not installed (make setup)")
    f = frequencies()
    hz = [f[10], f[60] * 2 ** (0.3 / 24), f[101], f[150]]
    x = sum(a * np.sin(2 * np.pi * h * np.arange(3 * sample_rate) / sample_rate) for a, h in zip((0.2, 0.1, 0.15, 0.05), hz, strict=True))
    theirs = np.abs(librosa.cqt(x, sr=sample_rate, fmin=f[0], n_bins=N_CQT, bins_per_octave=BINS_PER_OCTAVE, hop_length=512))
    lengths, _ = librosa.filters.wavelet_lengths(freqs=f, sr=sample_rate, window="hann", filter_scale=1.0)
    theirs = np.median(2.0 * theirs / np.sqrt(lengths)[:, None], axis=1)  # librosa's scale=True: times the root of the length
    ours = amplitudes(through(prepared(sample_rate), x[None])[-1])
    loud = theirs > 0.1 * theirs.max()
    assert loud.sum() > 8
    assert np.abs(20 * np.log10(ours[loud] / theirs[loud])).max() < 0.5


@pytest.mark.parametrize("tuning_hz", [392.0, 415.0, 466.0])
def test_bins_are_tuned_to_the_a4_that_is_given(tuning_hz: float) -> None:
    heard = through(prepared(tuning_hz=tuning_hz), tone(48000, tuning_hz))[-1]
    assert int(heard.argmax()) == (69 - 36) * 2


def test_shorter_windows_are_broader() -> None:
    hz = frequencies()[60]
    wide, narrow = (amplitudes(through(prepared(filter_scale=s), tone(48000, hz))[-1]) for s in (0.25, 1.0))
    assert (wide > 0.05).sum() > 2 * (narrow > 0.05).sum()


@pytest.mark.parametrize("sample_rate", [44100, 48000])
def test_what_the_last_octave_cannot_hold_is_not_heard(sample_rate: int) -> None:
    """A tone above B8 would fold back into the uppermost octaves."""
    top = frequencies()[-1]
    for hz in (1.9 * top, 0.45 * sample_rate):
        assert amplitudes(through(prepared(sample_rate), tone(sample_rate, hz))[-1]).max() < 0.2 * 10 ** (-55 / 20)


def test_channels_are_mixed_down() -> None:
    stereo = np.random.default_rng(1).uniform(-1, 1, (2, 9600))
    np.testing.assert_allclose(through(prepared(n_channels=2), stereo), through(prepared(), stereo.mean(axis=0, keepdims=True)), atol=1e-4)


def test_layout() -> None:
    spec = Cqt(44100).prepare(Spec.signal(44100, 2, 441))
    assert (spec.shape, spec.hop_size, spec.dtype) == ((168,), 441, np.float32)
    assert frequencies()[0] == pytest.approx(65.406, abs=1e-3)


@pytest.mark.parametrize("options", [{"filter_scale": 0.0}, {"filter_scale": 2.0}, {"tuning_hz": 300.0}, {"tuning_hz": 880.0}])
def test_parameters_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(SpecError, match="Cqt expects a"):
        prepared(**options)


@pytest.mark.parametrize(
    ("rate", "spec"), [(48000, Spec.signal(44100, 1, 441)), (48000, Spec.signal(48000, 1, 512)), (8000, Spec.signal(8000, 1, 80))]
)
def test_other_rates_and_hops_are_refused(rate: int, spec: Spec) -> None:
    with pytest.raises(SpecError, match="Cqt expects"):
        Cqt(rate).prepare(spec)
