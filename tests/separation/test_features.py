"""What the separation network hears, against its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.dsp.hpss import Hpss
from rtserver.node import Spec
from rtserver.separation.features import (
    GROUPS,
    LIMIT,
    N_BANDS,
    N_BINS,
    N_FEATURES,
    N_SINGLE,
    N_STATE,
    SpectrumFeatures,
    band_edges,
    extract,
    extract_all,
)

FLOOR = 1e-4


def spectra(n_hops: int, n_channels: int = 2, seed: int = 0) -> np.ndarray:
    parts = np.random.default_rng(seed).standard_normal((2, n_hops, n_channels, N_BINS))
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


def gains(n_hops: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((n_hops, N_BINS)).astype(np.float32)


def heard(x: np.ndarray, gain: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, int]:
    """Hop by hop: group -> (n_hops, N_BANDS), priors, and how many bins were not finite."""
    features = np.full((len(x), N_FEATURES), np.nan, np.float32)
    priors = np.full((len(x), N_BINS), np.nan, np.float32)
    state = np.zeros(N_STATE, np.float32)
    n_nonfinite = sum(extract(np.ascontiguousarray(s), g, state, f, p) for s, g, f, p in zip(x, gain, features, priors, strict=True))
    return {name: features[:, i * N_BANDS : (i + 1) * N_BANDS] for i, name in enumerate(GROUPS)}, priors, n_nonfinite


def band_means(values: np.ndarray) -> np.ndarray:
    return np.stack([values[..., a:b].mean(axis=-1) for a, b in zip(band_edges()[:-1], band_edges()[1:], strict=True)], axis=-1)


def test_bands_are_single_bins_and_then_wider_ones_up_to_the_last_bin() -> None:
    widths = np.diff(band_edges())
    assert len(widths) == N_BANDS and band_edges()[-1] == N_BINS
    assert (widths[:N_SINGLE] == 1).all() and (widths[N_SINGLE:] > 2).all()


def test_features_are_the_definition() -> None:
    x, gain = spectra(5), gains(5)
    found, priors, _ = heard(x, gain)
    left, right = (band_means(np.abs(x[:, c].astype(np.complex128)) ** 2) for c in (0, 1))
    cross = band_means((x[:, 0] * x[:, 1].conj()).real.astype(np.float64))
    energy = np.log(left + right + FLOOR)
    wanted = {
        "energy": energy,
        "delta": np.diff(energy, axis=0, prepend=energy[:1]),
        "harmonic": band_means(gain),
        "level difference": (left - right) / (left + right + FLOOR),
        "coherence": (cross + FLOOR) / (np.sqrt(left * right) + FLOOR),
    }
    for name in GROUPS:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(priors, np.clip(np.log(gain / (1.0 - gain)), -LIMIT, LIMIT), atol=2e-3)


def test_one_channel_is_heard_as_two_that_are_equal() -> None:
    x, gain = spectra(3, 1), gains(3)
    mono, prior, _ = heard(x, gain)
    stereo, same_prior, _ = heard(np.repeat(x / np.sqrt(2.0), 2, axis=1).astype(np.complex64), gain)
    for name in GROUPS:
        np.testing.assert_allclose(mono[name], stereo[name], atol=2e-4, err_msg=name)
    np.testing.assert_array_equal(prior, same_prior)


def test_hops_in_a_row_are_the_same_bit_for_bit() -> None:
    x, gain = spectra(7), gains(7)
    found, priors, _ = heard(x, gain)
    state, features, same = np.zeros(N_STATE, np.float32), np.zeros((7, N_FEATURES), np.float32), np.zeros((7, N_BINS), np.float32)
    for some in (slice(0, 3), slice(3, 7)):
        extract_all(x[some], gain[some], state, features[some], same[some])
    np.testing.assert_array_equal(features, np.concatenate(list(found.values()), axis=1))
    np.testing.assert_array_equal(same, priors)


def test_there_is_no_delta_at_the_first_hop() -> None:
    found, _, _ = heard(spectra(2), gains(2))
    assert not found["delta"][0].any() and found["delta"][1].all()


def test_silence_is_the_floor_in_the_middle() -> None:
    found, priors, _ = heard(np.zeros((2, 2, N_BINS), np.complex64), np.full((2, N_BINS), 0.5, np.float32))
    for name, value in zip(GROUPS, (np.log(FLOOR), 0.0, 0.5, 0.0, 1.0), strict=True):
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)
    assert not priors.any()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(-12, 38), st.integers(1, 2), st.sampled_from([0.0, 1.0, np.nan, np.inf, -np.inf]))
def test_whatever_comes_is_heard_as_finite_numbers(seed: int, decades: float, n_channels: int, odd: float) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        x = (spectra(2, n_channels, seed) * 10.0**decades).astype(np.complex64)
    x[0, 0, 10:20] = odd
    gain = np.round(gains(2, seed))  # nothing but 0 and 1
    found, priors, n_nonfinite = heard(x, gain)
    assert all(np.isfinite(f).all() for f in found.values())
    assert np.abs(found["level difference"]).max() <= 1.0 and np.abs(found["coherence"]).max() <= 1.0
    assert np.abs(priors).max() <= LIMIT
    assert n_nonfinite == np.sum(~(np.isfinite(x.real) & np.isfinite(x.imag)))


@pytest.mark.parametrize("n_past", [5, 23])
def test_the_shares_of_hpss_are_what_its_parts_were_made_with(n_past: int) -> None:
    node = Hpss(n_past, 7)
    node.prepare(Spec(44100, 256, (2, N_BINS), np.dtype(np.complex64)))
    out = np.zeros((2, 2, N_BINS), np.complex64)
    for x in spectra(40):
        node.process(x, out)
        np.testing.assert_array_equal(out[0].real, node.shares[0] * x.real)
        np.testing.assert_allclose(node.shares.sum(axis=0), 1.0, atol=1e-6)


def test_each_phase_hears_as_if_it_were_alone() -> None:
    x, gain = spectra(6), gains(6)
    node = SpectrumFeatures(2)
    for _ in range(2):
        features, priors = np.zeros((6, N_FEATURES), np.float32), np.zeros((6, N_BINS), np.float32)
        for i in range(6):
            node.process(x[i], gain[i], i % 2, features[i], priors[i])
        for phase in (0, 1):
            alone, _, _ = heard(x[phase::2], gain[phase::2])
            np.testing.assert_array_equal(features[phase::2], np.concatenate(list(alone.values()), axis=1))
        node.reset()
