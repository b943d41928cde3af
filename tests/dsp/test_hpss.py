import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spectra import N_BINS, spectra, spectrum_spec, through

from rtserver.dsp.hpss import Hpss
from rtserver.dsp.masks import SOFT, Masks
from rtserver.errors import SpecError
from rtserver.node import Spec

with pytest.MonkeyPatch.context() as patch:  # librosa compiles ufuncs for 20 s when it is loaded; what is used here has none of them
    patch.setattr(numba, "vectorize", lambda *_, **__: np.vectorize)
    patch.setattr(numba, "guvectorize", lambda *_, **__: lambda function: function)
    from librosa.decompose import hpss as librosa_hpss

    librosa_hpss(np.ones((8, 8)))  # loads the rest of it

SMALL = [(5, 7, 1), (5, 7, 3), (23, 9, 1), (23, 9, 2)]  # n_past, n_around, past_step: networks and sorted rows


def prepared(n_past: int = 5, n_around: int = 7, past_step: int = 1, n_channels: int = 1, masks: Masks = SOFT) -> Hpss:
    node = Hpss(n_past, n_around, past_step, masks)
    node.prepare(spectrum_spec(n_channels))
    return node


def brute_force(x: np.ndarray, n_past: int, n_around: int, past_step: int) -> np.ndarray:
    """The definition, straight: (n_hops, 1, n_bins) masks. The first hop fills the window; what stands out of it is the past."""
    powers = np.sum(np.abs(x.astype(np.complex128)) ** 2, axis=1)
    padded = np.pad(powers, ((0, 0), (n_around // 2, n_around // 2)), mode="symmetric")
    p = np.median(np.lib.stride_tricks.sliding_window_view(padded, n_around, axis=1), axis=-1)
    past = powers.copy()
    past[0] = np.maximum(powers[0] - p[0], 0.0)
    h = np.array([np.median([past[max(0, t - i * past_step)] for i in range(n_past)], axis=0) for t in range(len(x))])
    return (h / (h + p))[:, None]


@pytest.mark.parametrize(("n_past", "n_around", "past_step"), SMALL)
@pytest.mark.parametrize("n_channels", [1, 2])
def test_harmonic_is_the_definition(n_past: int, n_around: int, past_step: int, n_channels: int) -> None:
    x = spectra(60, n_channels)
    out = through(prepared(n_past, n_around, past_step, n_channels), x)
    np.testing.assert_allclose(out[:, 0], brute_force(x, n_past, n_around, past_step) * x, rtol=1e-4, atol=1e-6)


MASKS = [
    Masks("soft", 2.0, 1.0, 1.0),
    Masks("soft", 1.0, 1.0, 1.0),
    Masks("soft", 2.0, 2.0, 1.5),
    Masks("soft", 3.0, 1.0, 4.0),
    Masks("hard", 2.0, 1.0, 1.0),
    Masks("hard", 2.0, 2.0, 3.0),
]


@pytest.mark.parametrize("masks", MASKS)
def test_parts_are_librosas(masks: Masks) -> None:
    """librosa's median along time is centred; it does not mind in which order the past lies around the newest spectrum."""
    n_past, n_around = 5, 7
    x = spectra(30)
    out = through(prepared(n_past, n_around, masks=masks), x)
    for t in range(n_past + 1, len(x)):
        window = np.roll(x[t - n_past + 1 : t + 1, 0].T, n_past // 2 + 1, axis=1)  # (n_bins, n_past), the newest in the middle
        parts = librosa_hpss(
            window,
            kernel_size=(n_past, n_around),
            power=np.inf if masks.mask == "hard" else masks.exponent,
            margin=(masks.margin_harmonic, masks.margin_percussive),
        )
        harmonic, percussive = (part[:, n_past // 2] for part in parts)
        # Where the newest value is both medians, librosa's hard masks leave it out; Driedger's eq. 2, and so ours, calls it percussive.
        even = (harmonic == 0.0) & (percussive == 0.0) & masks.complete
        np.testing.assert_allclose(out[t, 0, 0], harmonic, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(out[t, 1, 0], np.where(even, x[t, 0], percussive), rtol=1e-4, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(SMALL), st.floats(-12, 12), st.sampled_from(MASKS))
def test_three_parts_sum_to_the_input(seed: int, sizes: tuple[int, int, int], decades: float, masks: Masks) -> None:
    x = (spectra(10, 2, seed) * 10.0**decades).astype(np.complex64)
    node = Hpss(*sizes, masks, residual=True)
    node.prepare(spectrum_spec(2))
    out = through(node, x)
    scale = np.maximum(np.abs(x.real), np.abs(x.imag))
    assert np.all(np.abs(out.sum(axis=1) - x) <= 4e-7 * scale)
    assert masks.complete == (not out[:, 2].any())


@pytest.mark.parametrize("name", ["mask", "exponent", "margin_harmonic", "margin_percussive"])
def test_a_new_setting_holds_from_the_next_hop_on(name: str) -> None:
    """The node then plays as one that was made with it: the past does not depend on the masks. And nothing compiles."""
    value = {"mask": "hard", "exponent": 1.0}.get(name, 2.0)
    x = spectra(30)
    changed, before, after = prepared(), prepared(), prepared(masks=Masks(**{name: value}))
    y = through(changed, x[:20])
    changed.set(name, value)
    np.testing.assert_array_equal(y, through(before, x[:20]))
    np.testing.assert_array_equal(through(changed, x[20:]), through(after, x)[20:, :2])
    assert len(changed.kernel.signatures) == 1


@pytest.mark.parametrize(("name", "value"), [("margin", 2.0), ("mask", "medium"), ("exponent", -1.0), ("margin_harmonic", 0.5)])
def test_a_setting_that_makes_no_sense_changes_nothing(name: str, value: float | str) -> None:
    node = prepared()
    with pytest.raises(SpecError):
        node.set(name, value)
    np.testing.assert_array_equal(through(node, spectra(9)), through(prepared(), spectra(9)))


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
@pytest.mark.parametrize("masks", [*MASKS, Masks(exponent=1e4, margin_harmonic=1e30)])
def test_extreme_levels_stay_finite(value: float, masks: Masks) -> None:
    x = np.full((12, 2, N_BINS), complex(value, value), np.complex64)
    out = through(prepared(n_channels=2, masks=masks), x)
    assert np.all(np.isfinite(out.view(np.float32)))
    np.testing.assert_allclose(out.sum(axis=1), x, rtol=1e-6, atol=1e-44)


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


@pytest.mark.parametrize(
    ("masks", "residual", "n_parts"), [(Masks(), None, 2), (Masks(margin_harmonic=2.0), None, 3), (Masks(), True, 3), (MASKS[2], False, 2)]
)
def test_there_is_a_residual_where_a_margin_leaves_one_or_it_is_asked_for(masks: Masks, residual: bool | None, n_parts: int) -> None:
    spec = Hpss(masks=masks, residual=residual).prepare(spectrum_spec(2))
    assert spec.labels == ("harmonic", "percussive", "residual")[:n_parts]
    assert spec.shape == (n_parts, 2, N_BINS)


def test_nothing_compiles_after_prepare() -> None:
    node = prepared(n_channels=2)
    through(node, spectra(10, 2))
    assert len(node.kernel.signatures) == 1


@pytest.mark.parametrize(
    "node", [Hpss(n_past=4), Hpss(n_past=-1), Hpss(n_around=8), Hpss(n_around=65), Hpss(n_around=35), Hpss(past_step=0)]
)
def test_parameters_that_make_no_sense_are_refused(node: Hpss) -> None:
    with pytest.raises(SpecError, match="Hpss expects"):
        node.prepare(spectrum_spec())


def test_a_signal_is_refused() -> None:
    with pytest.raises(SpecError, match="spectrum"):
        Hpss().prepare(Spec.signal(48000, 1, 64))
