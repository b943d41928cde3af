import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.dsp.spatial import N_PLANES, extract, learn
from rtserver.kernels import jit

N_BINS = 5
S, Z, PLACE, F, G, OTHER, OUT, END = (
    np.cumsum([0, N_PLANES, 1, N_PLANES, 1, 1, N_PLANES, N_PLANES]) * N_BINS
)  # where all lies in the scratch


@jit("void(float32[::1], float32[::1], int64[::1], boolean, float32, float32)", cache=False)
def learn_it(scratch, covariances, at, equally, rate, loading):  # noqa: PLR0917
    learn(scratch, at[0], at[1], at[2], covariances, 0, N_BINS, equally, rate, loading)


@jit("void(float32[::1], int64[::1])", cache=False)
def extract_it(scratch, at):
    extract(scratch, at[0], at[6], at[3], at[4], at[2], at[5], N_BINS)


AT = np.array([S, Z, PLACE, F, G, OTHER, OUT])


def planes(x: np.ndarray) -> np.ndarray:
    """(2, n_bins) complex as four planes."""
    return np.stack([x[0].real, x[0].imag, x[1].real, x[1].imag]).astype(np.float32).ravel()


def matrices(flat: np.ndarray) -> np.ndarray:
    """Four planes as (n_bins, 2, 2)."""
    a, d, re, im = flat.reshape(N_PLANES, N_BINS)
    return np.array([[a, re + 1j * im], [re - 1j * im, d]]).transpose(2, 0, 1)


def random_source(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((2, N_BINS)) + 1j * rng.standard_normal((2, N_BINS))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999), st.booleans(), st.floats(0.01, 0.5), st.floats(0.001, 1.0))
def test_a_place_is_the_recursive_mean_and_the_strength_is_measured_from_it(seed: int, equally: bool, rate: float, loading: float) -> None:
    rng = np.random.default_rng(seed)
    scratch, covariances = np.zeros(END, np.float32), np.zeros(N_PLANES * N_BINS, np.float32)
    expected = np.zeros((N_BINS, 2, 2), complex)
    for _ in range(6):
        s = random_source(rng)
        scratch[S : S + 4 * N_BINS] = planes(s)
        learn_it(scratch, covariances, AT, equally, rate, loading)
        c = np.einsum("ak,bk->kab", s, s.conj())
        trace = np.trace(c, axis1=1, axis2=2)[:, None, None]
        expected = (1.0 - rate) * expected + rate * (c / trace if equally else c)
    place = (1.0 - loading) * 2.0 * expected / np.trace(expected, axis1=1, axis2=2)[:, None, None] + loading * np.eye(2)
    np.testing.assert_allclose(matrices(scratch[PLACE : PLACE + 4 * N_BINS]), place, atol=1e-5)
    strength = np.trace(np.linalg.inv(place) @ c, axis1=1, axis2=2).real / 2.0
    np.testing.assert_allclose(scratch[Z : Z + N_BINS], strength, rtol=2e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999))
def test_the_filter_is_the_matrix_formula_and_both_sources_sum_to_the_input(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scratch, x, f = np.zeros(END, np.float32), random_source(rng), rng.uniform(0.05, 0.95, N_BINS)
    roots = rng.standard_normal((2, N_BINS, 2, 2)) + 1j * rng.standard_normal((2, N_BINS, 2, 2))
    r, q = (root @ root.conj().transpose(0, 2, 1) + 0.3 * np.eye(2) for root in roots)
    scratch[S : S + 4 * N_BINS] = planes(x)
    found = []
    for mine, other, share in ((r, q, f), (q, r, 1.0 - f)):
        for at, of in ((PLACE, mine), (OTHER, other)):
            flat = np.stack([of[:, 0, 0].real, of[:, 1, 1].real, of[:, 0, 1].real, of[:, 0, 1].imag])
            scratch[at : at + 4 * N_BINS] = flat.ravel()
        scratch[F : F + N_BINS], scratch[G : G + N_BINS] = share, 1.0 - share
        extract_it(scratch, AT)
        lr, li, rr, ri = scratch[OUT : OUT + 4 * N_BINS].reshape(4, N_BINS)
        found.append(np.stack([lr + 1j * li, rr + 1j * ri]))
    mixture = f[:, None, None] * r + (1.0 - f)[:, None, None] * q
    expected = np.einsum("kab,bk->ak", f[:, None, None] * r @ np.linalg.inv(mixture), x)
    np.testing.assert_allclose(found[0], expected, atol=1e-3)
    np.testing.assert_allclose(found[0] + found[1], x, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 1e-20, 1e19])
def test_what_is_too_faint_or_too_loud_teaches_nothing(value: float) -> None:
    scratch, covariances = np.zeros(END, np.float32), np.zeros(N_PLANES * N_BINS, np.float32)
    scratch[S : S + 4 * N_BINS] = value
    learn_it(scratch, covariances, AT, False, 0.1, 0.05)
    assert not covariances.any()
    np.testing.assert_array_equal(matrices(scratch[PLACE : PLACE + 4 * N_BINS]), np.broadcast_to(np.eye(2), (N_BINS, 2, 2)))
    assert np.isfinite(scratch).all()
