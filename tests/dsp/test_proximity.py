import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rtserver.dsp.proximity import box, broad, cross, median_around, steady
from rtserver.errors import SpecError


def definition(z: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The median of what the kernel says, bin by bin."""
    around, before = (side // 2 for side in kernel.shape)
    padded = np.pad(z, ((around, around), (before, before)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape)
    return np.median(windows[:, :, kernel], axis=-1)


def random_kernel(n_around: int, n_spectra: int, seed: int) -> np.ndarray:
    kernel = np.random.default_rng(seed).random((n_around, n_spectra)) < 0.5
    kernel[n_around // 2, 0] = True
    return kernel


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4).map(lambda n: 2 * n - 1),
    st.integers(1, 6).map(lambda n: 2 * n - 1),
    st.integers(0, 999),
    arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 20)), elements=st.sampled_from([0.0, 1.0, 1.5, 7.0, 1e30])),
)
def test_the_median_is_that_of_the_neighbours_whatever_the_kernel(n_around: int, n_spectra: int, seed: int, z: np.ndarray) -> None:
    kernel = random_kernel(n_around, n_spectra, seed)
    np.testing.assert_allclose(median_around(z, kernel), definition(z, kernel), rtol=1e-6)


@pytest.mark.parametrize(
    "kernel", [steady(17), broad(17), cross(7, 9), box(3, 5), box(15, 15), random_kernel(15, 21, 0), steady(2 * 64 + 1)]
)
def test_many_spectra_and_large_kernels(kernel: np.ndarray) -> None:
    """More than one block of spectra; more neighbours than are sorted."""
    z = np.random.default_rng(1).exponential(size=(24, 300)).astype(np.float32)
    np.testing.assert_allclose(median_around(z, kernel), definition(z, kernel), rtol=1e-6)


def test_steady_lies_along_time_and_broad_along_frequency() -> None:
    z = np.zeros((9, 9), np.float32)
    z[4] = 1.0
    assert np.array_equal(median_around(z, steady(5)), z)
    assert not median_around(z, broad(5)).any()
    assert np.array_equal(median_around(z.T.copy(), broad(5)), z.T)


@pytest.mark.parametrize("kernel", [np.ones((2, 3), bool), np.ones((3, 3)), np.zeros((3, 3), bool), np.ones(3, bool)])
def test_what_is_no_kernel_is_refused(kernel: np.ndarray) -> None:
    with pytest.raises(SpecError, match="proximity kernel"):
        median_around(np.ones((4, 4), np.float32), kernel)
