import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.dsp.hpss import PRESETS
from rtserver.dsp.stft import Istft, Stft
from rtserver.dsp.windows import window_pair
from rtserver.errors import SpecError
from rtserver.node import Node, Spec

SIZES = [(p.window_size, p.hop_size, p.synthesis_size) for p in PRESETS.values()] + [(256, 64, None), (256, 32, 128), (64, 16, 32)]


def prepared(sizes: tuple[int, int, int | None], n_channels: int = 1, rate: int = 48000):
    stft = Stft(*sizes)
    istft = Istft(stft)
    spectrum = stft.prepare(Spec.signal(rate, n_channels, stft.hop_size))
    return stft, istft, spectrum, istft.prepare(spectrum)


def through(stft: Stft, istft: Istft, x: np.ndarray) -> np.ndarray:
    hop, y = stft.hop_size, np.zeros_like(x)
    spectrum, out = np.zeros((len(x), stft.n_bins), np.complex64), np.zeros((len(x), hop), np.float32)
    for start in range(0, x.shape[1], hop):
        stft.process(np.ascontiguousarray(x[:, start : start + hop]), spectrum)
        istft.process(spectrum, out)
        y[:, start : start + hop] = out
    return y


def noise(n_channels: int, n_frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n_channels, n_frames)).astype(np.float32)


@pytest.mark.parametrize("sizes", SIZES)
def test_reconstruction_is_perfect_and_late_as_declared(sizes: tuple[int, int, int | None]) -> None:
    stft, istft, _, _ = prepared(sizes)
    x = noise(1, 40 * stft.hop_size)
    y = through(stft, istft, x)
    latency = stft.latency + istft.latency
    np.testing.assert_allclose(y[:, latency:], x[:, : x.shape[1] - latency], atol=3e-6)


@pytest.mark.parametrize("sizes", SIZES)
def test_an_impulse_comes_back_at_the_declared_latency(sizes: tuple[int, int, int | None]) -> None:
    stft, istft, _, _ = prepared(sizes)
    x = np.zeros((1, 40 * stft.hop_size), np.float32)
    at = 5 * stft.hop_size + 7
    x[0, at] = 1.0
    assert int(np.argmax(through(stft, istft, x))) == at + istft.latency


def test_latency_of_the_pair_is_on_the_inverse() -> None:
    stft = Stft(2048, 128, 256)
    assert (stft.latency, Istft(stft).latency, Istft(2048, 128, 256).latency) == (0, 128, 128)


def test_spectrum_is_numpys() -> None:
    stft, _, spec, _ = prepared((256, 32, 128))
    x, out = noise(1, 320), spec.empty()
    for start in range(0, 320, 32):
        stft.process(np.ascontiguousarray(x[:, start : start + 32]), out)
    window = window_pair(256, 32, 128).analysis.astype(np.float64)
    np.testing.assert_allclose(out[0], np.fft.rfft(window * x[0, -256:]), atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 7), st.integers(0, 1000))
def test_channels_do_not_touch_each_other(n_channels: int, seed: int) -> None:
    x = noise(n_channels, 640, seed)
    together = through(*prepared((256, 64, None), n_channels)[:2], x)
    for c in range(n_channels):
        np.testing.assert_array_equal(through(*prepared((256, 64, None))[:2], x[c : c + 1])[0], together[c])


def test_stems_keep_their_labels_and_their_order() -> None:
    stft = Stft(256, 64)
    spec = stft.prepare(Spec.signal(48000, 2, 64))
    istft = Istft(stft)
    stems = istft.prepare(Spec(48000, 64, (3, *spec.shape), spec.dtype, ("a", "b", "c")))
    assert (stems.shape, stems.dtype, stems.labels) == ((3, 2, 64), np.float32, ("a", "b", "c"))
    x, spectrum, out = noise(2, 64), spec.empty(), stems.empty()
    many = np.zeros((3, *spec.shape), np.complex64)
    for _ in range(6):
        stft.process(x, spectrum)
        many[:] = spectrum * np.array([1, 0, 2], np.complex64)[:, None, None]
        istft.process(many, out)
    assert np.any(out[0] != 0.0)
    assert not np.any(out[1])
    np.testing.assert_allclose(out[2], 2 * out[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_counted_and_taken_as_zero(bad: float) -> None:
    x = noise(1, 1280)
    clean = x.copy()
    clean[0, 100] = 0.0
    x[0, 100] = bad
    stft, istft, _, _ = prepared((256, 64, None))
    y = through(stft, istft, x)
    assert stft.n_nonfinite == 1
    np.testing.assert_array_equal(y, through(*prepared((256, 64, None))[:2], clean))


def test_the_inverse_recovers_from_a_spectrum_that_is_not_finite() -> None:
    _, istft, spec, out_spec = prepared((256, 64, None))
    out, spectrum = out_spec.empty(), spec.empty()
    istft.process(np.full(spec.shape, np.nan, np.complex64), out)
    for _ in range(4):
        istft.process(spectrum, out)
    assert np.all(np.isfinite(out))


@pytest.mark.parametrize("level", [1e30, -1e30, 1e-42])
def test_extreme_levels_stay_finite(level: float) -> None:
    y = through(*prepared((256, 64, None))[:2], np.full((1, 1280), level, np.float32))
    assert np.all(np.isfinite(y))


def test_reset_equals_fresh() -> None:
    stft, istft, _, _ = prepared((256, 64, 128))
    through(stft, istft, noise(1, 640, seed=1))
    nodes: list[Node] = [stft, istft]
    for node in nodes:
        node.reset()
    x = noise(1, 640, seed=2)
    np.testing.assert_array_equal(through(stft, istft, x), through(*prepared((256, 64, 128))[:2], x))


def test_nothing_compiles_after_prepare() -> None:
    stft, istft, _, _ = prepared((256, 64, 128), 3)
    through(stft, istft, noise(3, 640))
    assert (len(stft.kernel.signatures), len(istft.kernel.signatures)) == (1, 1)


@pytest.mark.parametrize(
    ("node", "spec", "message"),
    [
        (Stft(256, 64), Spec.signal(48000, 1, 32), "hops of 64"),
        (Stft(256, 64), Spec(48000, 64, (12,)), "expects a signal"),
        (Stft(1000, 250), Spec.signal(48000, 1, 250), "power of two"),
        (Stft(256, 100), Spec.signal(48000, 1, 100), "windows expect"),
        (Istft(256, 64), Spec.signal(48000, 1, 64), "expects a spectrum"),
        (Istft(256, 64), Spec(48000, 64, (1, 513), np.dtype(np.complex64)), "129"),
        (Istft(256, 64), Spec(48000, 32, (1, 129), np.dtype(np.complex64)), "hops of 64"),
    ],
)
def test_what_does_not_fit_is_refused(node: Node, spec: Spec, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        node.prepare(spec)
