"""The presets as a chain from samples to samples: at any rate, from the first frame on, while masks change."""

import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys
from numba.types import Array

from rtserver.dsp.hpss import PRESETS, REFERENCE_RATE, HpssPreset
from rtserver.dsp.masks import SOFT, Masks
from rtserver.kernels import jit
from rtserver.node import Spec

RATES = [22050, 32000, 44100, 48000, 88200, 96000, 176400, 192000]
CHANNELS = {22050: 3, 32000: 8, 44100: 1, 48000: 2, 96000: 1, 192000: 2}  # where it plays: other rates cost seconds of compiling


class Chain:
    """A preset's three nodes with the buffers between them. `hpss` is open to whoever wants to set it."""

    def __init__(self, preset: HpssPreset, sample_rate: int, n_channels: int = 1, masks: Masks = SOFT) -> None:
        self.stft, self.hpss, self.istft = preset.nodes(masks)
        self.hop_size = preset.hop_size
        self.latency = self.istft.latency
        spec = self.stft.prepare(Spec.signal(sample_rate, n_channels, preset.hop_size))
        parts = self.hpss.prepare(spec)
        self.spectrum, self.parts, self.out = spec.empty(), parts.empty(), self.istft.prepare(parts).empty()

    def hop(self, x: np.ndarray) -> np.ndarray:
        self.stft.process(np.ascontiguousarray(x, np.float32), self.spectrum)
        self.hpss.process(self.spectrum, self.parts)
        self.istft.process(self.parts, self.out)
        return self.out.copy()

    def run(self, x: np.ndarray) -> np.ndarray:
        """(n_parts, n_channels, frames): the parts of x (n_channels, frames), aligned to it; what the latency hides is cut off."""
        padded = np.concatenate([x, np.zeros((len(x), self.latency + -(x.shape[1] + self.latency) % self.hop_size))], axis=1)
        hops = [self.hop(padded[:, i : i + self.hop_size]) for i in range(0, padded.shape[1], self.hop_size)]
        return np.concatenate(hops, axis=-1)[:, :, self.latency : self.latency + x.shape[1]]


def tone(sample_rate: int, duration_s: float = 0.6, frequency: float = 440.0) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * frequency * np.arange(round(duration_s * sample_rate)) / sample_rate)


def clicks(sample_rate: int, duration_s: float = 0.6, period_s: float = 0.1) -> np.ndarray:
    x = np.zeros(round(duration_s * sample_rate))
    x[:: round(period_s * sample_rate)] = 1.0
    return x


def db(error: np.ndarray, reference: np.ndarray) -> float:
    return float(10.0 * np.log10(np.sum(error**2) / np.sum(reference**2) + 1e-12))


@pytest.mark.parametrize("sample_rate", RATES)
@pytest.mark.parametrize("name", PRESETS)
def test_sizes_keep_their_meaning_in_seconds_and_hertz(name: str, sample_rate: int) -> None:
    base, preset = PRESETS[name], PRESETS[name].at(sample_rate)

    def stretched(size: float, reference: float) -> float:
        return size / sample_rate / (reference / REFERENCE_RATE)

    for size, reference in ((preset.window_size, base.window_size), (preset.synthesis_size, base.synthesis_size)):
        assert size & (size - 1) == 0
        assert 2**-0.5 <= stretched(size, reference) <= 2**0.5
    assert preset.synthesis_size == base.synthesis_size // base.hop_size * preset.hop_size
    spans = [p.n_past * p.past_step * p.hop_size for p in (preset, base)]
    assert stretched(*spans) == pytest.approx(1.0, abs=0.10)
    bandwidths = [p.n_around / p.window_size for p in (preset, base)]
    assert bandwidths[0] * sample_rate / (bandwidths[1] * REFERENCE_RATE) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("sample_rate", [44100, 48000])
@pytest.mark.parametrize("name", PRESETS)
def test_where_they_were_chosen_nothing_changes(name: str, sample_rate: int) -> None:
    assert PRESETS[name].at(sample_rate) == PRESETS[name]


@pytest.mark.parametrize("sample_rate", CHANNELS)
@pytest.mark.parametrize("name", PRESETS)
def test_at_any_rate_and_width_the_parts_sum_to_the_input_at_the_declared_latency(name: str, sample_rate: int) -> None:
    chain = Chain(PRESETS[name].at(sample_rate), sample_rate, CHANNELS[sample_rate])
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (CHANNELS[sample_rate], round(0.1 * sample_rate)))
    np.testing.assert_allclose(chain.run(x).sum(axis=0), x, atol=3e-6)


@pytest.mark.parametrize("sample_rate", CHANNELS)
@pytest.mark.parametrize("name", PRESETS)
def test_at_any_rate_a_tone_is_parted_from_clicks_as_well_as_at_48_khz(name: str, sample_rate: int) -> None:
    def error_db(rate: int) -> float:
        """What is in the wrong part, against the tone. (The parts sum to the input, so the error of one is that of the other.)"""
        true = tone(rate)
        x = true + rate / 48000 * clicks(rate)  # clicks as strong in every band
        harmonic = Chain(PRESETS[name].at(rate), rate).run(x[None])[0, 0]
        return db((harmonic - true)[rate // 5 :], true[rate // 5 :])

    # 32 kHz lies between two powers of two: its windows are a quarter shorter, and part less.
    assert error_db(sample_rate) < error_db(48000) + (4.0 if sample_rate == 32000 else 1.0)


@pytest.mark.parametrize("masks", [Masks(), Masks("hard", 2.0, 2.0, 2.0)])
def test_no_kernel_allocates(masks: Masks) -> None:
    """Neither the transforms nor the medians. numba counts what a kernel allocates, and its own record of each array handed to it."""
    _nrt_python.memsys_enable_stats()
    chain = Chain(PRESETS["stage"], 48000, masks=masks)
    before = rtsys.get_allocation_stats().alloc
    for _ in range(100):
        chain.hop(np.ones((1, chain.hop_size), np.float32))
    n_arrays = sum(isinstance(argument, Array) for node in (chain.stft, chain.hpss, chain.istft) for argument in node.kernel.signatures[0])
    assert rtsys.get_allocation_stats().alloc - before == 100 * n_arrays


def test_an_allocation_would_be_counted() -> None:
    _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats().alloc
    jit("float32[::1](int64)", cache=False)(lambda n: np.zeros(n, np.float32))(8)
    assert rtsys.get_allocation_stats().alloc > before


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("frequency", [110.0, 440.0, 2000.0])
def test_a_tone_that_starts_with_the_stream_is_harmonic(name: str, frequency: float) -> None:
    x = tone(48000, 0.15, frequency)[None]
    assert db(Chain(PRESETS[name], 48000).run(x)[1], x) < -9.0


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("period_s", [0.05, 0.1, 0.125])
def test_clicks_that_start_with_the_stream_are_percussive(name: str, period_s: float) -> None:
    x = clicks(48000, 0.15, period_s)[None]
    assert db(Chain(PRESETS[name], 48000).run(x)[0], x) < -15.0


@pytest.mark.parametrize("name", PRESETS)
def test_changed_masks_do_not_click(name: str) -> None:
    """A margin that goes up and down under a tone in faint noise: the steps in its curve are a fraction of what plain switching makes."""
    masks = [Masks(exponent=0.5, margin_harmonic=margin) for margin in (1.0, 16.0)]
    steady = [Chain(PRESETS[name], 48000, masks=m) for m in masks]
    changing = Chain(PRESETS[name], 48000, masks=masks[0])
    x = tone(48000, 0.6, 110.0) + 1e-4 * np.random.default_rng(0).standard_normal(28800)
    faded, switched = [], []
    for i in range(len(x) // changing.hop_size):
        hop = x[None, i * changing.hop_size :][:, : changing.hop_size]
        which = i // 8 % 2
        changing.hpss.set("margin_harmonic", masks[which].margin_harmonic)
        faded.append(changing.hop(hop)[0, 0])
        switched.append([chain.hop(hop)[0, 0] for chain in steady][which])

    def steps(hops: list[np.ndarray]) -> np.ndarray:
        y = np.concatenate(hops)[9600:]
        return np.abs(np.diff(y, 2)).max()

    assert steps(faded) < 0.02 * steps(switched)
