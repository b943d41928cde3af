import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.runtime import _nrt_python, rtsys
from numba.types import Array

from rtserver.dsp.hpss import Hpss
from rtserver.dsp.kam import Kam
from rtserver.dsp.masks import SOFT, Masks
from rtserver.errors import SpecError
from rtserver.node import Spec

N_BINS = 33
STEPPED, SORTED = (5, 7, 3), (23, 9, 2)  # n_past, n_around, past_step: networks and sorted rows
KINDS = [(STEPPED, True), (STEPPED, False), (SORTED, False)]  # every kernel costs seconds of compiling
MASKS = [SOFT, Masks(exponent=1.0), Masks("soft", 2.0, 2.0, 1.5), Masks("hard"), Masks("hard", 2.0, 2.0, 3.0)]
TIME_CONSTANT_S = 0.02


def spectrum_spec(n_channels: int = 2) -> Spec:
    return Spec(48000, 64, (n_channels, N_BINS), np.dtype(np.complex64))


def prepared(
    sizes: tuple[int, int, int] = STEPPED, spatial: bool = True, iterations: int = 2, n_channels: int = 2, masks: Masks = SOFT
) -> Kam:
    node = Kam(*sizes, masks, iterations=iterations, spatial=spatial, time_constant_s=TIME_CONSTANT_S)
    node.prepare(spectrum_spec(n_channels))
    return node


def spectra(n_hops: int, n_channels: int = 2, seed: int = 0) -> np.ndarray:
    parts = np.random.default_rng(seed).standard_normal((2, n_hops, n_channels, N_BINS))
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


def through(node: Hpss, x: np.ndarray) -> np.ndarray:
    """(n_hops, n_parts, n_channels, n_bins)"""
    out = np.full((len(x), 3 if node.residual else 2, *x.shape[1:]), np.nan, np.complex64)
    for i, hop in enumerate(x):
        node.process(np.ascontiguousarray(hop), out[i])
    return out


def causal_algorithm_1(x: np.ndarray, sizes: tuple[int, int, int], iterations: int, spatial: bool) -> np.ndarray:
    """Algorithm 1 with what is known by each hop, word by word: the past for the median along time, recursive means for the covariances.

    (n_hops, n_parts, n_channels, n_bins). The first hop fills the window; what stands out of it is the past.
    """
    n_past, n_around, past_step = sizes
    n_hops, n_channels, n_bins = x.shape
    rate, loading, eye = 1.0 - np.exp(-64 / 48000 / TIME_CONSTANT_S), 0.05, np.eye(n_channels)
    r = np.array([[[eye.astype(complex)] * n_bins] * 2] * iterations)
    pasts: list[list[np.ndarray]] = [[] for _ in range(iterations)]
    out = np.empty((n_hops, 2, n_channels, n_bins), complex)

    def loaded(of: np.ndarray) -> np.ndarray:
        return (1.0 - loading) * of + loading * eye

    def filtered(hop: np.ndarray, f: np.ndarray, covariances: np.ndarray) -> np.ndarray:
        s = np.empty((2, n_channels, n_bins), complex)
        for k in range(n_bins):
            places = [loaded(covariances[j, k]) if spatial else eye for j in range(2)]
            mixture = sum(f[j, k] * places[j] for j in range(2))
            for j in range(2):
                s[j, :, k] = f[j, k] * places[j] @ np.linalg.inv(mixture) @ hop[:, k]
        return s

    for t, hop in enumerate(x.astype(complex)):
        f = np.ones((2, n_bins))
        for i in range(iterations):
            s = filtered(hop, f, r[i - 1] if i else np.array([[eye] * n_bins] * 2))
            z = np.empty((2, n_bins))
            for j in range(2):
                for k in range(n_bins):
                    c = np.outer(s[j, :, k], s[j, :, k].conj())
                    if spatial:
                        r[i, j, k] = (1.0 - rate) * r[i, j, k] + rate * n_channels * c / np.trace(c)
                    z[j, k] = np.trace(np.linalg.inv(loaded(r[i, j, k]) if spatial else eye) @ c).real / n_channels
            p = np.median(np.lib.stride_tricks.sliding_window_view(np.pad(z[1], n_around // 2, mode="symmetric"), n_around), axis=-1)
            before = np.maximum(z[0] - p, 0.0) if i == 0 else z[0]
            pasts[i].append(before if t == 0 else z[0])
            f = np.array([np.median([pasts[i][max(0, t - n * past_step)] for n in range(n_past)], axis=0), p])
        out[t] = filtered(hop, f, r[-1])
    return out


@pytest.mark.parametrize(("sizes", "spatial"), KINDS)
@pytest.mark.parametrize("iterations", [1, 2, 4])
def test_it_is_the_definition(sizes: tuple[int, int, int], spatial: bool, iterations: int) -> None:
    x = spectra(70)
    expected = causal_algorithm_1(x, sizes, iterations, spatial)
    np.testing.assert_allclose(through(prepared(sizes, spatial, iterations), x), expected, atol=2e-3)
    assert np.median(np.abs(through(prepared(sizes, spatial, iterations), x) - expected)) < 2e-6


@pytest.mark.parametrize("sizes", [STEPPED, SORTED])
@pytest.mark.parametrize("n_channels", [1, 2, 3])
@pytest.mark.parametrize("masks", MASKS)
def test_once_without_places_it_is_hpss_bit_for_bit(sizes: tuple[int, int, int], n_channels: int, masks: Masks) -> None:
    x = spectra(60, n_channels)
    hpss = Hpss(*sizes, masks)
    hpss.prepare(spectrum_spec(n_channels))
    np.testing.assert_array_equal(through(prepared(sizes, False, 1, n_channels, masks), x), through(hpss, x))


def test_mono_has_no_places_to_learn() -> None:
    x = spectra(40, 1)
    np.testing.assert_array_equal(through(prepared(n_channels=1), x), through(prepared(n_channels=1, spatial=False), x))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(KINDS), st.integers(1, 10), st.floats(-12, 12), st.sampled_from(MASKS))
def test_parts_sum_to_the_input(seed: int, kind: tuple[tuple[int, int, int], bool], iterations: int, decades: float, masks: Masks) -> None:
    x = (spectra(12, 2, seed) * 10.0**decades).astype(np.complex64)
    node = Kam(*kind[0], masks, residual=True, iterations=iterations, spatial=kind[1], time_constant_s=TIME_CONSTANT_S)
    node.prepare(spectrum_spec())
    out = through(node, x)
    np.testing.assert_allclose(out.sum(axis=1), x, atol=1e-6 * np.abs(x).max())
    assert masks.complete == (not out[:, 2].any())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(KINDS), st.integers(1, 4))
def test_channels_that_change_places_change_places_in_the_parts(
    seed: int, kind: tuple[tuple[int, int, int], bool], iterations: int
) -> None:
    x = spectra(40, 2, seed)
    plain, swapped = (through(prepared(*kind, iterations), y) for y in (x, x[:, ::-1]))
    np.testing.assert_allclose(swapped[:, :, ::-1], plain, atol=5e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(KINDS), st.integers(1, 4), st.integers(-20, 20))
def test_a_louder_input_makes_parts_that_are_as_much_louder(
    seed: int, kind: tuple[tuple[int, int, int], bool], iterations: int, octaves: int
) -> None:
    """To the bit, for powers of two."""
    x, gain = spectra(30, 2, seed), np.float32(2.0**octaves)
    np.testing.assert_array_equal(through(prepared(*kind, iterations), x * gain), through(prepared(*kind, iterations), x) * gain)


@pytest.mark.parametrize("name", ["mask", "exponent", "margin_harmonic", "margin_percussive"])
@pytest.mark.parametrize("spatial", [False, True])
def test_a_new_setting_holds_from_the_next_hop_on(name: str, spatial: bool) -> None:
    """The node then plays as one that was made with it: only the last iteration knows the masks. And nothing compiles."""
    value = {"mask": "hard", "exponent": 1.0}.get(name, 2.0)
    x = spectra(30)
    changed, before, after = prepared(spatial=spatial), prepared(spatial=spatial), prepared(spatial=spatial, masks=Masks(**{name: value}))
    y = through(changed, x[:20])
    changed.set(name, value)
    np.testing.assert_array_equal(y, through(before, x[:20]))
    np.testing.assert_array_equal(through(changed, x[20:]), through(after, x)[20:, :2])
    assert len(changed.kernel.signatures) == 1


@pytest.mark.parametrize(("sizes", "spatial"), KINDS)
def test_no_iteration_locks_to_zero(sizes: tuple[int, int, int], spatial: bool) -> None:
    """A tone that begins in the middle of clicks becomes harmonic, and after a silence again: a mask of zeros is not for ever."""
    x = np.full((400, 2, N_BINS), 1e-3, np.complex64)
    x[::20] = 1.0
    x[100:200, :, 16] = x[300:, :, 16] = 10.0
    harmonic = np.abs(through(prepared(sizes, spatial, 10), x)[:, 0, 0, 16])
    assert harmonic[195] > 9.9
    assert harmonic[395] > 9.9
    assert harmonic[100] < 1.0


def test_where_the_sources_lie_helps_to_tell_them() -> None:
    """A hum on the left, noise on the right, in the same bins."""
    rng = np.random.default_rng(0)
    hum = np.exp(2j * np.pi * rng.random((300, 1, N_BINS)))
    noise = (rng.standard_normal((300, 1, N_BINS)) + 1j * rng.standard_normal((300, 1, N_BINS))) / np.sqrt(2.0)
    hum, noise = hum * np.array([[1.0], [0.1]]), noise * np.array([[0.1], [1.0]])

    def error(spatial: bool) -> float:
        harmonic = through(prepared(spatial=spatial, iterations=6), (hum + noise).astype(np.complex64))[100:, 0]
        return float(np.sum(np.abs(harmonic - hum[100:]) ** 2))

    assert error(True) < 0.7 * error(False)


@pytest.mark.parametrize(("sizes", "spatial"), KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, complex(0, np.nan), complex(-np.inf, np.nan)])
def test_a_bin_that_is_not_finite_is_counted_and_taken_as_zero(sizes: tuple[int, int, int], spatial: bool, bad: complex) -> None:
    x = spectra(40)
    clean = x.copy()
    clean[3, 0, 10] = 0.0
    x[3, 0, 10] = bad
    node = prepared(sizes, spatial)
    np.testing.assert_array_equal(through(node, x), through(prepared(sizes, spatial), clean))
    assert node.n_nonfinite == 1


@pytest.mark.parametrize("value", [0.0, 1e30, -1e30, 9e35, 3e38, 1e-30, 1e-42])
@pytest.mark.parametrize("masks", [*MASKS, Masks(exponent=1e4, margin_harmonic=1e30)])
@pytest.mark.parametrize("spatial", [False, True])
def test_extreme_levels_stay_finite(value: float, masks: Masks, spatial: bool) -> None:
    """With places, what is above 1e36 counts as no number."""
    x = np.full((12, 2, N_BINS), complex(value, value), np.complex64)
    x[::3, 1] *= -0.5
    out = through(prepared(spatial=spatial, masks=masks, iterations=5), x)
    assert np.all(np.isfinite(out.view(np.float32)))
    taken = 0 * x if spatial and value > 1e36 else x
    np.testing.assert_allclose(out.sum(axis=1), taken, rtol=1e-6, atol=3e-7 * np.abs(taken).max() + 1e-44)


@pytest.mark.parametrize(("sizes", "spatial"), KINDS)
def test_reset_equals_fresh(sizes: tuple[int, int, int], spatial: bool) -> None:
    node = prepared(sizes, spatial, 3)
    through(node, spectra(31, seed=1))
    node.reset()
    x = spectra(50, seed=2)
    np.testing.assert_array_equal(through(node, x), through(prepared(sizes, spatial, 3), x))


@pytest.mark.parametrize("spatial", [False, True])
def test_no_kernel_allocates(spatial: bool) -> None:
    """numba counts what a kernel allocates, and its own record of each array handed to it."""
    _nrt_python.memsys_enable_stats()
    node, x = prepared(spatial=spatial, iterations=3), spectra(100)
    out = np.zeros((2, 2, N_BINS), np.complex64)
    before = rtsys.get_allocation_stats().alloc
    for hop in x:
        node.process(hop, out)
    n_arrays = sum(isinstance(argument, Array) for argument in node.kernel.signatures[0])
    assert rtsys.get_allocation_stats().alloc - before == 100 * n_arrays


@pytest.mark.parametrize(
    "node",
    [
        Kam(n_past=4),
        Kam(n_around=8),
        Kam(past_step=0),
        Kam(iterations=0),
        Kam(iterations=11),
        Kam(time_constant_s=0.0),
        Kam(loading=0.0),
        Kam(loading=1.1),
    ],
)
def test_parameters_that_make_no_sense_are_refused(node: Kam) -> None:
    with pytest.raises(SpecError, match="Kam expects"):
        node.prepare(spectrum_spec())


def test_more_than_two_channels_have_no_places() -> None:
    with pytest.raises(SpecError, match="one or two channels with spatial, got 3"):
        Kam().prepare(spectrum_spec(3))
