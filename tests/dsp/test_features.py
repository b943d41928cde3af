import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.dsp.features import DIFFERENCE_LAG, FIRST_PITCH, Features
from rtserver.dsp.layout import LEVEL, N_CHROMA, N_DIFFERENCE, N_FEATURES, SEMITONES
from rtserver.errors import SpecError
from rtserver.node import Spec


def prepared(sample_rate: int = 48000, n_channels: int = 1) -> Features:
    node = Features(sample_rate)
    node.prepare(Spec.signal(sample_rate, n_channels, node.hop_size))
    return node


def through(node: Features, x: np.ndarray) -> np.ndarray:
    out = np.full((x.shape[1] // node.hop_size, N_FEATURES), np.nan, np.float32)
    for i in range(len(out)):
        node.process(np.ascontiguousarray(x[:, i * node.hop_size : (i + 1) * node.hop_size]), out[i])
    return out


def tone(node: Features, pitch: float, n_hops: int = 16, amplitude: float = 0.2) -> np.ndarray:
    n = np.arange(n_hops * node.hop_size)
    return (amplitude * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * n / node.sample_rate)).astype(np.float32)[None]


def noise(n_frames: int, seed: int, n_channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n_channels, n_frames)).astype(np.float32)


@pytest.mark.parametrize("sample_rate", [44100, 48000])
@settings(max_examples=30, deadline=None)
@given(pitch=st.integers(48, 107))
def test_chroma_of_a_tone_points_at_its_pitch_class(sample_rate: int, pitch: int) -> None:
    node = prepared(sample_rate)
    chroma = through(node, tone(node, pitch))[-1, :N_CHROMA]
    assert int(np.argmax(chroma)) == pitch % 12
    assert np.linalg.norm(chroma) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("sample_rate", [44100, 48000])
@settings(max_examples=30, deadline=None)
@given(pitch=st.integers(62, 108))
def test_difference_of_an_onset_points_at_its_pitch(sample_rate: int, pitch: int) -> None:
    node = prepared(sample_rate)
    rises = through(node, tone(node, pitch))[:, N_CHROMA:LEVEL].max(axis=0)
    assert FIRST_PITCH + int(np.argmax(rises)) == pitch


def test_a_held_tone_has_no_difference() -> None:
    node = prepared()
    late = through(node, tone(node, 69, n_hops=30))[20:, N_CHROMA:LEVEL]
    assert late.max() < 0.02


@pytest.mark.parametrize("pitch", [45, 57, 69, 81, 100])
def test_a_tone_counts_most_of_its_amplitude(pitch: int) -> None:
    node = prepared()
    hops = through(node, tone(node, pitch, n_hops=DIFFERENCE_LAG * 8, amplitude=0.2))
    rise = hops[::DIFFERENCE_LAG, N_CHROMA + pitch - FIRST_PITCH].sum()  # differences a lag apart add up to the whole
    assert np.log1p(75 * 0.65 * 0.2) < rise < np.log1p(75 * 0.2)


def test_level_is_rms_in_db() -> None:
    node = prepared()
    assert through(node, tone(node, 69, amplitude=0.2))[-1, LEVEL] == pytest.approx(20 * np.log10(0.2 / np.sqrt(2)), abs=0.1)


def test_silence_is_zero_and_minus_120_db() -> None:
    node = prepared()
    out = through(node, np.zeros((1, 20 * node.hop_size), np.float32))[-1]
    assert not np.any(out[:LEVEL])
    assert out[LEVEL] == pytest.approx(-120.0, abs=0.01)


def test_channels_are_mixed_down() -> None:
    stereo = noise(4800, 1, n_channels=2)
    np.testing.assert_allclose(
        through(prepared(n_channels=2), stereo), through(prepared(), stereo.mean(axis=0, keepdims=True)), rtol=1e-4, atol=1e-4
    )


def test_only_the_past_is_used() -> None:
    x = noise(9600, 2)
    changed = x.copy()
    changed[:, 4800:] = 0.0
    np.testing.assert_array_equal(through(prepared(), x)[:10], through(prepared(), changed)[:10])


def test_a_value_uses_audio_up_to_the_end_of_its_hop() -> None:
    x = np.zeros((1, 4800), np.float32)
    x[0, 959] = 1.0  # the last frame of the second hop
    level = through(prepared(), x)[:, LEVEL]
    assert (int(np.argmax(level > -110.0)), prepared().latency) == (1, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_counted_and_taken_as_zero(bad: float) -> None:
    x = noise(9600, 3)
    clean = x.copy()
    clean[0, 1000] = 0.0
    x[0, 1000] = bad
    node = prepared()
    np.testing.assert_array_equal(through(node, x), through(prepared(), clean))
    assert node.n_nonfinite == 1


@pytest.mark.parametrize("level", [1e30, -1e30, 1e-42, 1.0])
def test_extreme_levels_stay_finite(level: float) -> None:
    assert np.all(np.isfinite(through(prepared(n_channels=2), np.full((2, 9600), level, np.float32))))


def test_reset_equals_fresh() -> None:
    node = prepared()
    through(node, noise(9600, 4))
    node.reset()
    np.testing.assert_array_equal(through(node, noise(9600, 5)), through(prepared(), noise(9600, 5)))


@pytest.mark.parametrize("sample_rate", [22050, 192000])
def test_the_widest_range_of_rates_works(sample_rate: int) -> None:
    node = prepared(sample_rate)
    assert int(np.argmax(through(node, tone(node, 69))[-1, :N_CHROMA])) == 9


def test_layout() -> None:
    node = Features(44100)
    spec = node.prepare(Spec.signal(44100, 2, 441))
    assert (spec.shape, spec.hop_size, spec.dtype) == ((208,), 441, np.float32)
    assert (N_CHROMA, N_DIFFERENCE, LEVEL, SEMITONES, N_FEATURES) == (12, 88, 100, 101, 208)


def test_nothing_compiles_after_prepare() -> None:
    node = prepared(n_channels=2)
    through(node, noise(4800, 6, n_channels=2))
    assert len(node.kernel.signatures) == 1


@pytest.mark.parametrize(
    ("rate", "spec"), [(48000, Spec.signal(44100, 1, 441)), (48000, Spec.signal(48000, 1, 512)), (8000, Spec.signal(8000, 1, 80))]
)
def test_other_rates_and_hops_are_refused(rate: int, spec: Spec) -> None:
    with pytest.raises(SpecError, match="Features expects"):
        Features(rate).prepare(spec)


@pytest.mark.parametrize("tuning_hz", [392.0, 415.0, 442.0])
def test_semitones_are_tuned_to_the_a4_that_is_given(tuning_hz: float) -> None:
    """A sine at A4 is loudest in its own semitone and as loud in both neighbours."""
    node = Features(48000, tuning_hz)
    spec = Spec.signal(48000, 1, 480)
    node.prepare(spec)
    out = np.zeros(N_FEATURES, np.float32)
    signal = (0.5 * np.sin(2 * np.pi * tuning_hz * np.arange(9600) / 48000)).astype(np.float32)
    for hop in signal.reshape(-1, 1, 480):
        node.process(hop, out)
    semitones = out[SEMITONES:]
    a4 = 69 - FIRST_PITCH
    assert semitones.argmax() == a4
    assert semitones[a4 - 1] == pytest.approx(semitones[a4 + 1], rel=0.1)
