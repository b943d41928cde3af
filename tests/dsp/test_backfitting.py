from typing import get_args

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.dsp.backfitting import backfit, separate
from rtserver.dsp.proximity import broad, cross, steady
from rtserver.dsp.spatial import Spatial
from rtserver.errors import SpecError

with pytest.MonkeyPatch.context() as patch:  # as in test_hpss.py: else librosa compiles for 20 s
    patch.setattr(numba, "vectorize", lambda *_, **__: np.vectorize)
    patch.setattr(numba, "guvectorize", lambda *_, **__: lambda function: function)
    from librosa.decompose import hpss as librosa_hpss

    librosa_hpss(np.ones((8, 8)))

HP = [steady(7), broad(5)]
SPATIAL = get_args(Spatial)


def spectra(n_channels: int, n_bins: int = 12, n_spectra: int = 20, seed: int = 0) -> np.ndarray:
    parts = np.random.default_rng(seed).standard_normal((2, n_channels, n_bins, n_spectra))
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


def algorithm_1(x: np.ndarray, kernels: list[np.ndarray], iterations: int, spatial: str) -> np.ndarray:
    """The paper's Algorithm 1, word by word: one bin and one matrix at a time; with "power" the other step 4b."""
    n_channels, n_bins, n_spectra = x.shape
    sources = range(len(kernels))
    f = np.empty((len(kernels), n_bins, n_spectra))
    f[:] = np.sum(np.abs(x.astype(np.complex128)) ** 2, axis=0) / (n_channels * len(kernels))  # 2. initialisation
    r = np.array([[np.eye(n_channels, dtype=complex) for _ in range(n_bins)] for _ in sources])
    s = np.empty((len(kernels), n_bins, n_spectra, n_channels), complex)

    def step_3() -> None:
        for k in range(n_bins):
            for t in range(n_spectra):
                mixture = sum(f[i, k, t] * r[i, k] for i in sources)
                for j in sources:
                    s[j, k, t] = f[j, k, t] * r[j, k] @ np.linalg.inv(mixture) @ x[:, k, t]

    for _ in range(iterations):
        step_3()
        for j in sources:
            z = np.empty((n_bins, n_spectra))
            for k in range(n_bins):
                c = [np.outer(s[j, k, t], s[j, k, t].conj()) for t in range(n_spectra)]  # 4a
                if spatial == "paper":
                    r[j, k] = n_channels / n_spectra * sum(of / np.trace(of) for of in c)  # 4b
                elif spatial == "power":
                    r[j, k] = n_channels * sum(c) / np.trace(sum(c))
                for t in range(n_spectra):
                    z[k, t] = np.trace(np.linalg.inv(r[j, k]) @ c[t]).real / n_channels  # 4c
            around, before = (side // 2 for side in kernels[j].shape)
            padded = np.pad(z, ((around, around), (before, before)), mode="symmetric")
            for k in range(n_bins):
                for t in range(n_spectra):
                    near = padded[k : k + kernels[j].shape[0], t : t + kernels[j].shape[1]]
                    f[j, k, t] = np.median(near[kernels[j]])  # 4d
    step_3()
    return s.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("n_channels", [1, 2, 3])
@pytest.mark.parametrize("kernels", [HP, [steady(7), broad(5), cross(3, 5)]], ids=["two", "three"])
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("spatial", SPATIAL)
def test_it_is_algorithm_1(n_channels: int, kernels: list[np.ndarray], iterations: int, spatial: Spatial) -> None:
    x = spectra(n_channels)
    np.testing.assert_allclose(separate(x, kernels, iterations, spatial, 0.0), algorithm_1(x, kernels, iterations, spatial), atol=2e-5)


@pytest.mark.parametrize("n_channels", [1, 2])
def test_once_without_places_it_is_median_filtering(n_channels: int) -> None:
    """To float rounding. librosa masks each channel by itself, so that with two it is asked for the mask of their common power."""
    x = spectra(n_channels, 33, 40)
    power = np.sum(np.abs(x) ** 2, axis=0, dtype=np.float64)
    mask, _ = librosa_hpss(power, kernel_size=(7, 5), power=1.0, mask=True)
    np.testing.assert_allclose(separate(x, HP, 1, "off")[0], mask * x, rtol=1e-5, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 3), st.integers(1, 3), st.sampled_from(SPATIAL), st.floats(-6, 6))
def test_sources_sum_to_the_input(seed: int, n_channels: int, iterations: int, spatial: Spatial, decades: float) -> None:
    x = (spectra(n_channels, seed=seed) * 10.0**decades).astype(np.complex64)
    y = separate(x, HP, iterations, spatial)
    np.testing.assert_allclose(y.sum(axis=0), x, atol=1e-5 * np.abs(x).max())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999), st.permutations(range(3)), st.integers(1, 3), st.sampled_from(SPATIAL))
def test_permuted_channels_are_permuted_sources(seed: int, order: list[int], iterations: int, spatial: Spatial) -> None:
    x = spectra(3, seed=seed)
    plain, permuted = separate(x, HP, iterations, spatial), separate(x[order], HP, iterations, spatial)
    np.testing.assert_allclose(permuted, plain[:, order], atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 3), st.sampled_from(SPATIAL), st.floats(-8, 8))
def test_a_louder_input_makes_sources_that_are_as_much_louder(seed: int, iterations: int, spatial: Spatial, decades: float) -> None:
    x = spectra(2, seed=seed)
    louder = separate((x * 10.0**decades).astype(np.complex64), HP, iterations, spatial)
    np.testing.assert_allclose(louder / 10.0**decades, separate(x, HP, iterations, spatial), atol=1e-4)


def test_a_kernel_of_ones_own_finds_what_repeats() -> None:
    """A note every eight spectra is neither steady nor broad, but it is like itself eight spectra on."""
    repeating, strokes = np.zeros((2, 1, 24, 96), np.complex64)
    repeating[0, ::3, ::8] = 1.0
    strokes[0, :, [5, 40, 67]] = 1.0
    every_eighth = np.zeros((1, 33), bool)
    every_eighth[0, ::8] = True

    def error(kernel: np.ndarray) -> float:
        return float(np.sum(np.abs(separate(repeating + strokes, [kernel, broad(7)], 2)[0] - repeating) ** 2) / np.sum(repeating.real))

    assert error(every_eighth) < 0.05
    assert error(steady(33)) > 0.2


def test_as_the_paper_has_it_all_sources_lie_in_one_place() -> None:
    """``C_j / tr C_j`` is that of the input, whatever its share: R_j is the same for every j, and cancels out of eq. 7."""
    x = spectra(2)
    model = backfit(x, HP, 3)
    np.testing.assert_allclose(model.covariances[0], model.covariances[1], atol=1e-12)
    np.testing.assert_allclose(model.spectrum(x, 0), x * model.strengths[0] / model.strengths.sum(axis=0), rtol=1e-4)


@pytest.mark.parametrize("spatial", ["paper", "power"])
def test_where_sources_lie_helps_to_tell_them(spatial: Spatial) -> None:
    """A hum in some bins, on the left, and strokes in all of them, on the right."""
    rng = np.random.default_rng(0)
    hum = np.exp(2j * np.pi * rng.random((16, 200))) * np.where(np.arange(16) % 4, 0.0, 1.0)[:, None]
    strokes = np.where(np.arange(200) % 10, 0.0, 3.0) * np.exp(2j * np.pi * rng.random((16, 200)))
    hum, strokes = hum * np.array([1.0, 0.1])[:, None, None], strokes * np.array([0.1, 1.0])[:, None, None]

    def error(spatial: Spatial) -> float:
        return float(np.sum(np.abs(separate((hum + strokes).astype(np.complex64), HP, 4, spatial)[0] - hum) ** 2))

    assert error(spatial) < 0.2 * error("off")


@pytest.mark.parametrize("n_channels", [1, 2, 3])
@pytest.mark.parametrize("spatial", SPATIAL)
def test_silence_and_channels_that_are_the_same_stay_finite(n_channels: int, spatial: Spatial) -> None:
    x = np.repeat(spectra(1), n_channels, axis=0)
    x[:, 3] = 0.0
    x[:, :, 5:9] = 0.0
    y = separate(x, HP, 4, spatial)
    assert np.isfinite(y.view(np.float32)).all()
    assert not separate(0 * x, HP, 4, spatial).any()


def test_progress_adds_up_to_every_bin_of_every_iteration() -> None:
    done: list[int] = []
    backfit(spectra(1), HP, 3, progress=done.append)
    assert sum(done) == 3 * 12


@pytest.mark.parametrize(
    ("kernels", "iterations", "loading", "match"),
    [
        (HP[:1], 1, 0.0, "two or more"),
        (HP, 0, 0.0, "iterations >= 1"),
        (HP, 1, 1.5, "loading"),
        ([np.ones((2, 2), bool)] * 2, 1, 0.0, "odd"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(kernels: list[np.ndarray], iterations: int, loading: float, match: str) -> None:
    with pytest.raises(SpecError, match=match):
        backfit(spectra(1), kernels, iterations, loading=loading)
