import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.dsp.hpss import PRESETS, Hpss
from rtserver.errors import SpecError
from rtserver.node import Spec

N_BINS = 33
SMALL = [(5, 7, 1), (5, 7, 3), (23, 9, 1), (23, 9, 2)]  # n_past, n_around, past_step: networks and sorted rows


def spectrum_spec(n_channels: int = 1, n_bins: int = N_BINS) -> Spec:
    return Spec(48000, 64, (n_channels, n_bins), np.dtype(np.complex64))


def prepared(n_past: int = 5, n_around: int = 7, past_step: int = 1, n_channels: int = 1, power: float = 2.0) -> Hpss:
    node = Hpss(n_past, n_around, power, past_step)
    node.prepare(spectrum_spec(n_channels))
    return node


def spectra(n_hops: int, n_channels: int = 1, seed: int = 0) -> np.ndarray:
    parts = np.random.default_rng(seed).standard_normal((2, n_hops, n_channels, N_BINS))
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


def through(node: Hpss, x: np.ndarray) -> np.ndarray:
    """(n_hops, 2, n_channels, n_bins)"""
    out = np.full((len(x), 2, *x.shape[1:]), np.nan, np.complex64)
    for i, hop in enumerate(x):
        node.process(np.ascontiguousarray(hop), out[i])
    return out


def brute_force(x: np.ndarray, n_past: int, n_around: int, past_step: int, power: float = 2.0) -> np.ndarray:
    """The definition, straight: (n_hops, 1, n_bins) masks."""
    powers = np.sum(np.abs(x.astype(np.complex128)) ** 2, axis=1)
    masks = []
    for t in range(len(x)):
        h = np.median([powers[max(0, t - i * past_step)] for i in range(n_past)], axis=0)
        padded = np.pad(powers[t], n_around // 2, mode="symmetric")
        p = np.median(np.lib.stride_tricks.sliding_window_view(padded, n_around), axis=1)
        masks.append(h ** (power / 2) / (h ** (power / 2) + p ** (power / 2)))
    return np.array(masks)[:, None]


@pytest.mark.parametrize(("n_past", "n_around", "past_step"), SMALL)
@pytest.mark.parametrize("n_channels", [1, 2])
def test_harmonic_is_the_definition(n_past: int, n_around: int, past_step: int, n_channels: int) -> None:
    x = spectra(60, n_channels)
    out = through(prepared(n_past, n_around, past_step, n_channels), x)
    np.testing.assert_allclose(out[:, 0], brute_force(x, n_past, n_around, past_step) * x, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_other_powers_are_the_definition(power: float) -> None:
    x = spectra(20)
    out = through(prepared(power=power), x)
    np.testing.assert_allclose(out[:, 0], brute_force(x, 5, 7, 1, power) * x, rtol=1e-4, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(SMALL), st.floats(-12, 12))
def test_stems_sum_to_the_input_and_masks_lie_in_0_to_1(seed: int, sizes: tuple[int, int, int], exponent: float) -> None:
    x = (spectra(10, 2, seed) * 10.0**exponent).astype(np.complex64)
    out = through(prepared(*sizes, n_channels=2), x)
    np.testing.assert_allclose(out.sum(axis=1), x, rtol=1e-6)
    for part in (np.real, np.imag):
        assert np.all(np.abs(part(out[:, 0])) <= np.abs(part(x)))
        assert np.all(part(out[:, 0]) * part(x) >= 0.0)


@pytest.mark.parametrize("sizes", SMALL)
def test_a_sound_that_begins_with_the_stream_has_no_start_up_bias(sizes: tuple[int, int, int]) -> None:
    steady = np.zeros((40, 1, N_BINS), np.complex64)
    steady[:, :, 16] = 1.0
    harmonic = through(prepared(*sizes), steady)[:, 0, 0, 16]
    np.testing.assert_allclose(harmonic, 1.0, atol=1e-6)


def test_a_click_is_percussive_and_a_held_tone_harmonic() -> None:
    x = np.zeros((30, 1, N_BINS), np.complex64)
    x[:, :, 16] = 1.0
    x[20] += 1.0
    out = np.abs(through(prepared(), x))
    assert out[25, 0, 0, 16] > 0.99
    assert np.all(out[20, 1, 0, np.arange(N_BINS) != 16] > 0.99)


@pytest.mark.parametrize("sizes", SMALL)
@pytest.mark.parametrize("bad", [np.nan, np.inf, complex(0, np.nan), complex(-np.inf, np.nan)])
def test_a_bin_that_is_not_finite_is_counted_and_taken_as_zero(sizes: tuple[int, int, int], bad: complex) -> None:
    x = spectra(40)
    clean = x.copy()
    clean[3, 0, 10] = 0.0
    x[3, 0, 10] = bad
    node = prepared(*sizes)
    np.testing.assert_array_equal(through(node, x), through(prepared(*sizes), clean))
    assert node.n_nonfinite == 1


@pytest.mark.parametrize("value", [0.0, 1e30, -1e30, 3e38, 1e-30, 1e-42])
@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_extreme_levels_stay_finite(value: float, power: float) -> None:
    x = np.full((12, 2, N_BINS), complex(value, value), np.complex64)
    out = through(prepared(n_channels=2, power=power), x)
    assert np.all(np.isfinite(out.view(np.float32)))
    np.testing.assert_allclose(out.sum(axis=1), x, rtol=1e-6)


@pytest.mark.parametrize("sizes", SMALL)
def test_reset_equals_fresh(sizes: tuple[int, int, int]) -> None:
    node = prepared(*sizes)
    through(node, spectra(31, seed=1))
    node.reset()
    x = spectra(50, seed=2)
    np.testing.assert_array_equal(through(node, x), through(prepared(*sizes), x))


def test_the_output_is_labelled() -> None:
    spec = Hpss().prepare(spectrum_spec(2, 1025))
    assert (spec.shape, spec.labels, spec.hop_size) == ((2, 2, 1025), ("harmonic", "percussive"), 64)


def test_nothing_compiles_after_prepare() -> None:
    node = prepared(n_channels=2)
    through(node, spectra(10, 2))
    assert len(node.kernel.signatures) == 1


@pytest.mark.parametrize(
    "node", [Hpss(n_past=4), Hpss(n_past=-1), Hpss(n_around=8), Hpss(n_around=65), Hpss(n_around=35), Hpss(past_step=0), Hpss(power=0.0)]
)
def test_parameters_that_make_no_sense_are_refused(node: Hpss) -> None:
    with pytest.raises(SpecError, match="Hpss expects"):
        node.prepare(spectrum_spec())


def test_a_signal_is_refused() -> None:
    with pytest.raises(SpecError, match="spectrum"):
        Hpss().prepare(Spec.signal(48000, 1, 64))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_separate_a_tone_from_clicks(name: str) -> None:
    preset = PRESETS[name]
    nodes = preset.nodes()
    specs = [Spec.signal(48000, 1, preset.hop_size)]
    for node in nodes:
        specs.append(node.prepare(specs[-1]))
    n_hops = 24000 // preset.hop_size
    n = np.arange(n_hops * preset.hop_size)
    tone = (0.3 * np.sin(2 * np.pi * 440 * n / 48000)).astype(np.float32)
    clicks = np.zeros_like(tone)
    clicks[6000::4800] = 1.0
    x = (tone + clicks)[None]
    buffers = [spec.empty() for spec in specs]
    y = np.zeros((2, len(n)), np.float32)
    for start in range(0, len(n), preset.hop_size):
        buffers[0][:] = x[:, start : start + preset.hop_size]
        for i, node in enumerate(nodes):
            node.process(buffers[i], buffers[i + 1])
        y[:, start : start + preset.hop_size] = buffers[-1][:, 0]
    latency = sum(node.latency for node in nodes)
    assert latency == preset.synthesis_size - preset.hop_size
    np.testing.assert_allclose(y.sum(axis=0)[latency:], x[0, : len(n) - latency], atol=3e-6)
    # Well after the tone's start, which a spectrum cannot tell from a click.
    tone_error = np.mean((y[0, 4800:] - tone[4800 - latency : len(n) - latency]) ** 2) / np.mean(tone**2)
    assert tone_error < 0.05
    assert np.all(y[1, 6000 + latency :: 4800] > 0.6)
