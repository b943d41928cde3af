import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.runtime import _nrt_python, rtsys
from numba.types import Array
from spectra import N_BINS, spectra, spectrum_spec, through

from rtserver.dsp.hpss import Hpss
from rtserver.dsp.kam import Kam
from rtserver.dsp.masks import SOFT, Masks
from rtserver.dsp.spatial import Spatial
from rtserver.errors import SpecError

STEPPED, SORTED = (5, 7, 3), (23, 9, 2)  # n_past, n_around, past_step: networks and sorted rows
KINDS = [(STEPPED, "power"), (STEPPED, "paper"), (STEPPED, "off"), (SORTED, "off")]  # every kernel costs seconds of compiling
MASKS = [SOFT, Masks(exponent=1.0), Masks("soft", 2.0, 2.0, 1.5), Masks("hard"), Masks("hard", 2.0, 2.0, 3.0)]
TIME_CONSTANT_S = 0.02


def prepared(
    sizes: tuple[int, int, int] = STEPPED, spatial: Spatial = "power", iterations: int = 2, n_channels: int = 2, masks: Masks = SOFT
) -> Kam:
    node = Kam(*sizes, masks, iterations=iterations, spatial=spatial, time_constant_s=TIME_CONSTANT_S)
    node.prepare(spectrum_spec(n_channels))
    return node


def causal_algorithm_1(x: np.ndarray, sizes: tuple[int, int, int], iterations: int, spatial: Spatial) -> np.ndarray:
    """Algorithm 1 with what is known by each hop, word by word: the past for the median along time, recursive means for the covariances,
    of every source in every iteration, also where they are known to be the same.

    (n_hops, n_parts, n_channels, n_bins). The first hop fills the window; what stands out of it is the past.
    """
    n_past, n_around, past_step = sizes
    n_hops, n_channels, n_bins = x.shape
    rate, loading, eye = 1.0 - np.exp(-64 / 48000 / TIME_CONSTANT_S), 0.05, np.eye(n_channels)
    learnt = np.zeros((iterations, 2, n_bins, n_channels, n_channels), complex)
    places = np.broadcast_to(eye, learnt.shape).astype(complex)
    pasts: list[list[np.ndarray]] = [[] for _ in range(iterations)]
    out = np.empty((n_hops, 2, n_channels, n_bins), complex)

    def filtered(hop: np.ndarray, f: np.ndarray, r: np.ndarray) -> np.ndarray:
        s = np.empty((2, n_channels, n_bins), complex)
        for k in range(n_bins):
            for j in range(2):
                s[j, :, k] = f[j, k] * r[j, k] @ np.linalg.inv(f[0, k] * r[0, k] + f[1, k] * r[1, k]) @ hop[:, k]
        return s

    for t, hop in enumerate(x.astype(complex)):
        f = np.ones((2, n_bins))
        for i in range(iterations):
            s = filtered(hop, f, places[i - 1] if i else np.broadcast_to(eye, places[0].shape))
            z = np.empty((2, n_bins))
            for j in range(2):
                for k in range(n_bins):
                    c = np.outer(s[j, :, k], s[j, :, k].conj())
                    if spatial != "off":
                        new = c / np.trace(c) if spatial == "paper" else c
                        learnt[i, j, k] = (1.0 - rate) * learnt[i, j, k] + rate * new
                        r = n_channels * learnt[i, j, k] / np.trace(learnt[i, j, k])
                        places[i, j, k] = (1.0 - loading) * r + loading * eye
                    z[j, k] = np.trace(np.linalg.inv(places[i, j, k]) @ c).real / n_channels
            padded = np.pad(z[1], n_around // 2, mode="symmetric")
            p = np.median(np.lib.stride_tricks.sliding_window_view(padded, n_around), axis=-1)
            before = np.maximum(z[0] - p, 0.0) if i == 0 else z[0]
            pasts[i].append(before if t == 0 else z[0])
            f = np.array([np.median([pasts[i][max(0, t - n * past_step)] for n in range(n_past)], axis=0), p]) + 1e-30
        out[t] = filtered(hop, f, places[-1])
    return out


@pytest.mark.parametrize(("sizes", "spatial"), KINDS)
@pytest.mark.parametrize("iterations", [1, 2, 4])
def test_it_is_the_definition(sizes: tuple[int, int, int], spatial: Spatial, iterations: int) -> None:
    x = spectra(70, 2)
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
    np.testing.assert_array_equal(through(prepared(sizes, "off", 1, n_channels, masks), x), through(hpss, x))


def test_mono_has_no_places_to_learn() -> None:
    x = spectra(40, 1)
    np.testing.assert_array_equal(through(prepared(n_channels=1), x), through(prepared(n_channels=1, spatial="off"), x))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(KINDS), st.integers(1, 10), st.floats(-12, 12), st.sampled_from(MASKS))
def test_parts_sum_to_the_input(
    seed: int, kind: tuple[tuple[int, int, int], Spatial], iterations: int, decades: float, masks: Masks
) -> None:
    x = (spectra(12, 2, seed) * 10.0**decades).astype(np.complex64)
    node = Kam(*kind[0], masks, residual=True, iterations=iterations, spatial=kind[1], time_constant_s=TIME_CONSTANT_S)
    node.prepare(spectrum_spec(2))
    out = through(node, x)
    np.testing.assert_allclose(out.sum(axis=1), x, atol=1e-6 * np.abs(x).max())
    assert not (masks.complete and out[:, 2].any())


@pytest.mark.parametrize("masks", [masks for masks in MASKS if not masks.complete])
def test_margins_leave_something_to_neither(masks: Masks) -> None:
    node = Kam(*STEPPED, masks, residual=True, time_constant_s=TIME_CONSTANT_S)
    node.prepare(spectrum_spec(2))
    assert through(node, spectra(12, 2))[:, 2].any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(KINDS), st.integers(1, 4))
def test_channels_that_change_places_change_places_in_the_parts(
    seed: int, kind: tuple[tuple[int, int, int], Spatial], iterations: int
) -> None:
    x = spectra(40, 2, seed)
    plain, swapped = (through(prepared(*kind, iterations), y) for y in (x, x[:, ::-1]))
    np.testing.assert_allclose(swapped[:, :, ::-1], plain, atol=5e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(KINDS), st.integers(1, 4), st.integers(-20, 20))
def test_a_louder_input_makes_parts_that_are_as_much_louder(
    seed: int, kind: tuple[tuple[int, int, int], Spatial], iterations: int, octaves: int
) -> None:
    """For powers of two to the bit, but for what is -200 dB down: there silence is shared out evenly."""
    x, gain = spectra(30, 2, seed), np.float32(2.0**octaves)
    louder = through(prepared(*kind, iterations), x * gain)
    np.testing.assert_allclose(louder / gain, through(prepared(*kind, iterations), x), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("name", ["mask", "exponent", "margin_harmonic", "margin_percussive"])
@pytest.mark.parametrize("spatial", ["off", "power"])
def test_a_new_setting_holds_from_the_next_hop_on(name: str, spatial: Spatial) -> None:
    """The node then plays as one that was made with it: only the last iteration knows the masks. And nothing compiles."""
    value = {"mask": "hard", "exponent": 1.0}.get(name, 2.0)
    x = spectra(30, 2)
    changed, before, after = prepared(spatial=spatial), prepared(spatial=spatial), prepared(spatial=spatial, masks=Masks(**{name: value}))
    y = through(changed, x[:20])
    changed.set(name, value)
    np.testing.assert_array_equal(y, through(before, x[:20]))
    np.testing.assert_array_equal(through(changed, x[20:]), through(after, x)[20:, :2])
    assert len(changed.kernel.signatures) == 1


@pytest.mark.parametrize("spatial", ["off", "paper", "power"])
def test_no_iteration_locks_to_zero(spatial: Spatial) -> None:
    """A tone that begins in the middle of clicks becomes harmonic, and after a silence again: a mask of zeros is not for ever."""
    x = np.full((400, 2, N_BINS), 1e-3, np.complex64)
    x[::20] = 1.0
    x[100:200, :, 16] = x[300:, :, 16] = 10.0
    harmonic = np.abs(through(prepared(STEPPED, spatial, 10), x)[:, 0, 0, 16])
    assert harmonic[195] > 9.9
    assert harmonic[395] > 9.9
    assert harmonic[100] < 1.0


def test_where_sources_lie_helps_to_tell_them() -> None:
    """A hum in some bins, on the left, and strokes in all of them, on the right."""
    rng = np.random.default_rng(0)
    phases = np.exp(2j * np.pi * rng.random((2, 300, 1, N_BINS)))
    hum = phases[0] * np.where(np.arange(N_BINS) % 4, 0.0, 1.0) * np.array([[1.0], [0.1]])
    strokes = phases[1] * np.where(np.arange(300) % 10, 0.0, 3.0)[:, None, None] * np.array([[0.1], [1.0]])

    def error(spatial: Spatial) -> float:
        harmonic = through(prepared(spatial=spatial, iterations=4), (hum + strokes).astype(np.complex64))[150:, 0]
        return float(np.sum(np.abs(harmonic - hum[150:]) ** 2))

    assert error("power") < 0.5 * error("off")


@pytest.mark.parametrize(("sizes", "spatial"), KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, complex(0, np.nan), complex(-np.inf, np.nan)])
def test_a_bin_that_is_not_finite_is_counted_and_taken_as_zero(sizes: tuple[int, int, int], spatial: Spatial, bad: complex) -> None:
    x = spectra(40, 2)
    clean = x.copy()
    clean[3, 0, 10] = 0.0
    x[3, 0, 10] = bad
    node = prepared(sizes, spatial)
    np.testing.assert_array_equal(through(node, x), through(prepared(sizes, spatial), clean))
    assert node.n_nonfinite == 1


@pytest.mark.parametrize("value", [0.0, 1e30, -1e30, 9e35, 3e38, 1e-30, 1e-42])
@pytest.mark.parametrize("masks", [*MASKS, Masks(exponent=1e4, margin_harmonic=1e30)])
@pytest.mark.parametrize("spatial", ["off", "power"])
def test_extreme_levels_stay_finite(value: float, masks: Masks, spatial: Spatial) -> None:
    """With places, what is above 1e36 counts as no number."""
    x = np.full((12, 2, N_BINS), complex(value, value), np.complex64)
    x[::3, 1] *= -0.5
    out = through(prepared(spatial=spatial, masks=masks, iterations=5), x)
    assert np.all(np.isfinite(out.view(np.float32)))
    taken = 0 * x if spatial != "off" and value > 1e36 else x
    np.testing.assert_allclose(out.sum(axis=1), taken, rtol=1e-6, atol=3e-7 * abs(value) + 1e-44)


@pytest.mark.parametrize(("sizes", "spatial"), KINDS)
def test_reset_equals_fresh(sizes: tuple[int, int, int], spatial: Spatial) -> None:
    node = prepared(sizes, spatial, 3)
    through(node, spectra(31, 2, seed=1))
    node.reset()
    x = spectra(50, 2, seed=2)
    np.testing.assert_array_equal(through(node, x), through(prepared(sizes, spatial, 3), x))


@pytest.mark.parametrize("spatial", ["off", "power"])
def test_no_kernel_allocates(spatial: Spatial) -> None:
    """numba counts what a kernel allocates, and its own record of each array handed to it."""
    _nrt_python.memsys_enable_stats()
    node, x = prepared(spatial=spatial, iterations=3), spectra(100, 2)
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
        Kam(spatial="on"),  # type: ignore[arg-type]
        Kam(iterations=0),
        Kam(iterations=11),
        Kam(time_constant_s=0.0),
        Kam(loading=0.0),
        Kam(loading=1.1),
    ],
)
def test_parameters_that_make_no_sense_are_refused(node: Kam) -> None:
    with pytest.raises(SpecError, match="Kam expects"):
        node.prepare(spectrum_spec(2))


def test_more_than_two_channels_have_no_places() -> None:
    with pytest.raises(SpecError, match="one or two channels with places, got 3"):
        Kam().prepare(spectrum_spec(3))
