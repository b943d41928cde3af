"""The node that separates by a network: what it adds to the network's masks, and what it does without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from separators import make

from rtserver.dsp.hpss import Hpss
from rtserver.dsp.stft import Stft
from rtserver.errors import SpecError
from rtserver.node import Spec
from rtserver.separation.features import SpectrumFeatures
from rtserver.separation.masks import apply, settle, stand_in, whole
from rtserver.separation.model import N_BINS, SeparationModel, read_model
from rtserver.separation.network import BAD, MISSING, Heard, SeparationNetwork, fade_hops
from rtserver.separation.separator import Inline, Separator

pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): no model can be built to be loaded")
RATE = 48000
F32 = np.float32


def spectrum_spec(hop: int = 128, n_channels: int = 2, rate: int = RATE) -> Spec:
    return Spec(rate, hop, (n_channels, N_BINS), np.dtype(np.complex64))


def spectra(n_hops: int, hop: int = 128, n_channels: int = 2, seed: int = 0) -> np.ndarray:
    """(n_hops, n_channels, n_bins) of decaying noise over a tone."""
    stft = Stft(2048, hop, 2 * hop)
    spec = stft.prepare(Spec.signal(RATE, n_channels, hop))
    at = np.arange(n_hops * hop)
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (n_channels, len(at))) * np.exp(-(at % 12000) / 2000)
    x = (noise + 0.3 * np.sin(2 * np.pi * 220.0 / RATE * at)).astype(F32)
    made = np.zeros((n_hops, *spec.shape), np.complex64)
    for k in range(n_hops):
        stft.process(np.ascontiguousarray(x[:, k * hop : (k + 1) * hop]), made[k])
    return made


def run(separator: Separator, x: np.ndarray, hop: int = 128) -> np.ndarray:
    spec = separator.prepare(spectrum_spec(hop, x.shape[1]))
    return again(separator, x, spec)


def again(separator: Separator, x: np.ndarray, spec: Spec) -> np.ndarray:
    out = np.zeros((len(x), *spec.shape), np.complex64)
    for k in range(len(x)):
        separator.process(x[k], out[k])
    return out


class Unreliable(Inline):
    """Inline, but for hops whose masks have not come, or are bad."""

    def __init__(self, lost: set[int] | None = None, bad: set[int] | None = None) -> None:
        super().__init__()
        self.lost, self.bad = lost or set(), bad or set()

    def collect(self, hop: int, out: np.ndarray) -> int:
        return MISSING if hop in self.lost else BAD if hop in self.bad else super().collect(hop, out)


def medians_alone(model: SeparationModel, x: np.ndarray) -> np.ndarray:
    return run(Separator(model, source=Unreliable(set(range(len(x))))), x)


@pytest.mark.parametrize("hop", [128, 256])
def test_masks_are_the_networks_once_it_has_been_faded_in(hop: int, tiny: SeparationModel) -> None:
    """Built by hand: medians, features, one network a phase, masks times the spectrum."""
    x, n_phases, n_fade = spectra(30, hop), 256 // hop, fade_hops(hop / RATE)
    found = run(Separator(tiny), x, hop)
    hpss, features = Hpss(5, 5, n_phases), SpectrumFeatures(n_phases)
    parts = hpss.prepare(spectrum_spec(hop)).empty()
    networks, heard = [SeparationNetwork(tiny) for _ in range(n_phases)], Heard()
    for k in range(len(x)):
        hpss.process(x[k], parts)
        features.process(x[k], hpss.shares[0], k % n_phases, heard.features, heard.prior)
        networks[k % n_phases].run(0, heard)
        masks = networks[k % n_phases].masks
        masks = masks / np.maximum(masks.sum(axis=0), 1.0)
        if k >= n_fade:
            np.testing.assert_allclose(found[k, :2], masks[:, None] * x[k], atol=1e-3)


@pytest.mark.parametrize(("hop", "past_step"), [(256, 2), (128, 4)])
def test_the_medians_span_the_same_time_at_any_hop(hop: int, past_step: int, tmp_path: Path) -> None:
    model = read_model(str(make(tmp_path, facts={"hpss": {"n_past": 5, "past_step": 2, "n_around": 5}})))
    x = spectra(30, hop)
    found = run(Separator(model, source=Unreliable(set(range(30)))), x, hop)
    hpss = Hpss(5, 5, past_step)
    parts = hpss.prepare(spectrum_spec(hop)).empty()
    for k in range(len(x)):
        hpss.process(x[k], parts)
        np.testing.assert_allclose(found[k, 0], parts[1], atol=1e-3)


@pytest.mark.parametrize("n_channels", [1, 2])
def test_stems_add_up_to_the_input(n_channels: int, tiny: SeparationModel) -> None:
    x = spectra(20, n_channels=n_channels)
    stems = run(Separator(tiny, blend=0.3), x)
    assert stems.shape == (20, 3, n_channels, N_BINS)
    np.testing.assert_allclose(stems.sum(axis=1), x, atol=1e-4)


def test_later_masks_are_those_of_their_own_spectrum(tiny: SeparationModel) -> None:
    x = spectra(24)
    now, later = run(Separator(tiny), x), run(Separator(tiny, 3), x)
    separator = Separator(tiny, 3)
    separator.prepare(spectrum_spec())
    assert separator.latency == 3 * 128
    assert not later[:3].any()
    np.testing.assert_array_equal(later[3:], now[:-3])


def test_without_masks_the_medians_separate(tiny: SeparationModel) -> None:
    x = spectra(12)
    drums, bass, rest = medians_alone(tiny, x).transpose(1, 0, 2, 3)
    hpss = Hpss(5, 5, 2)
    parts = hpss.prepare(spectrum_spec()).empty()
    for k in range(len(x)):
        hpss.process(x[k], parts)
        np.testing.assert_allclose(drums[k], parts[1], atol=1e-3)
        np.testing.assert_allclose(bass[k] + rest[k], parts[0], atol=1e-3)
    low, high = slice(1, 5), slice(40, 1000)  # 23 to 94 Hz, and from 0.9 kHz on
    assert np.abs(bass[:, :, low]).sum() > 5 * np.abs(rest[:, :, low]).sum()
    assert np.abs(rest[:, :, high]).sum() > 50 * np.abs(bass[:, :, high]).sum()


def test_one_late_hop_holds_the_last_masks_but_for_a_step_of_a_fade(tiny: SeparationModel) -> None:
    x = spectra(40)
    separator = Separator(tiny, source=Unreliable({20}))
    found, clean, medians = run(separator, x), run(Separator(tiny), x), medians_alone(tiny, x)
    assert (separator.n_missing, separator.n_bad) == (1, 0)
    np.testing.assert_array_equal(found[:20], clean[:20])
    np.testing.assert_array_equal(found[21:], clean[21:])
    before = run(Separator(tiny, source=Unreliable(set(range(20, 40)))), x)
    np.testing.assert_array_equal(found[20], before[20])
    assert np.abs(found[20, 0] - medians[20, 0]).max() > 1e-3, "not a leap to the medians"


def test_masks_that_stay_away_fade_into_the_medians_and_back(tiny: SeparationModel) -> None:
    x, n_fade = spectra(80), fade_hops(128 / RATE)
    lost = set(range(20, 50))
    separator = Separator(tiny, source=Unreliable(lost))
    found, clean, medians = run(separator, x), run(Separator(tiny), x), medians_alone(tiny, x)
    assert separator.n_missing == 30
    np.testing.assert_allclose(found[20 + n_fade : 50], medians[20 + n_fade : 50], atol=1e-4)
    np.testing.assert_array_equal(found[50 + n_fade :], clean[50 + n_fade :])
    share = [np.abs(found[k] - medians[k]).sum() / np.abs(clean[k] - medians[k]).sum() for k in range(50, 50 + n_fade)]
    np.testing.assert_allclose(share, np.arange(1, n_fade + 1) / n_fade, atol=0.02)


def test_masks_that_are_not_finite_count_and_never_come_out(tmp_path: Path) -> None:
    poisoned = read_model(str(make(tmp_path, poison=True)))
    separator = Separator(poisoned)
    x = spectra(60)
    x[:20] *= F32(1e-6)  # the log of the first band's energy is below 0, then above
    x[40:] *= F32(1e-6)
    stems = run(separator, x)
    assert np.isfinite(stems).all()
    assert separator.n_bad > 0 and separator.n_missing == 0
    np.testing.assert_allclose(stems.sum(axis=1), x, atol=1e-4)


def test_reset_begins_anew_with_the_model_that_is_chosen(tiny: SeparationModel, other: SeparationModel) -> None:
    x = spectra(20)
    separator = Separator(tiny, other=other)
    spec = separator.prepare(spectrum_spec())
    separator.set("model", "other")
    again(separator, x, spec)
    separator.reset()
    np.testing.assert_array_equal(again(separator, x, spec), run(Separator(other), x))


def test_a_change_of_models_ends_at_the_other_one(tiny: SeparationModel, other: SeparationModel) -> None:
    x, n_fade = spectra(90), fade_hops(128 / RATE)
    separator = Separator(tiny, other=other)
    spec = separator.prepare(spectrum_spec())
    np.testing.assert_array_equal(again(separator, x[:30], spec), run(Separator(tiny), x[:30]))
    separator.set("model", "other")
    changed = again(separator, x[30:], spec)
    expected = run(Separator(other), x)[30:]
    np.testing.assert_allclose(changed[n_fade + 45 :], expected[n_fade + 45 :], atol=1e-3)  # the network's own memory has passed
    np.testing.assert_allclose(changed.sum(axis=1), x[30:], atol=1e-4)


def test_blend_goes_from_the_network_to_the_medians(tiny: SeparationModel) -> None:
    x = spectra(30)
    clean, medians = run(Separator(tiny), x), medians_alone(tiny, x)
    whole_way = run(Separator(tiny, blend=1.0), x)
    np.testing.assert_allclose(whole_way[10:, 0], medians[10:, 0], rtol=1e-3, atol=2e-2)
    half = run(Separator(tiny, blend=0.5), x)
    loud = np.abs(x[20]) > 1.0
    a, b, c = (np.abs(of[20, 0])[loud] / np.abs(x[20])[loud] for of in (clean, half, medians))
    assert ((b >= np.minimum(a, c) - 1e-3) & (b <= np.maximum(a, c) + 1e-3)).all(), "half way lies between"
    share = np.abs(whole_way[20, 1][loud]) * np.abs(clean[20, 2][loud]) - np.abs(whole_way[20, 2][loud]) * np.abs(clean[20, 1][loud])
    assert np.abs(share).max() < 1e-2 * np.abs(x[20]).max() ** 2, "the rest is shared out as the network says"


def test_blend_holds_from_the_next_hop_on(tiny: SeparationModel) -> None:
    x = spectra(30)
    separator = Separator(tiny)
    spec = separator.prepare(spectrum_spec())
    first = again(separator, x[:15], spec)
    separator.set("blend", 0.7)
    second = again(separator, x[15:], spec)
    np.testing.assert_array_equal(first, run(Separator(tiny), x)[:15])
    np.testing.assert_array_equal(second, run(Separator(tiny, blend=0.7), x)[15:])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("blend", 1.5, "0..1"), ("blend", float("nan"), "0..1"), ("model", "none", "no model 'none'; loaded: tiny"), ("mask", 1.0, "blend")],
)
def test_what_makes_no_sense_is_refused(name: str, value: Any, said: str, tiny: SeparationModel) -> None:
    with pytest.raises(SpecError, match=said):
        Separator(tiny).set(name, value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (spectrum_spec(rate=96000), "'tiny' was made for 44100 or 48000 Hz, got 96000"),
        (spectrum_spec(hop=64), "hops of 128 or 256 frames, got 64"),
        (spectrum_spec(n_channels=3), "1 or 2 channels"),
        (Spec(RATE, 256, (2, 2049), np.dtype(np.complex64)), "1025 bins"),
    ],
)
def test_what_a_model_was_not_made_for_is_refused(spec: Spec, said: str, tiny: SeparationModel) -> None:
    with pytest.raises(SpecError, match=said):
        Separator(tiny).prepare(spec)


def test_models_of_other_stems_do_not_go_together(tiny: SeparationModel, tmp_path: Path) -> None:
    hp = read_model(str(make(tmp_path, "hp", stems=("harmonic", "percussive"))))
    with pytest.raises(SpecError, match="other stems"):
        Separator(tiny, other=hp).prepare(spectrum_spec())


def test_a_network_that_takes_too_long_is_counted_and_heard_all_the_same(tiny: SeparationModel, monkeypatch: pytest.MonkeyPatch) -> None:
    x = spectra(10)
    expected = run(Separator(tiny), x)
    monkeypatch.setattr("rtserver.separation.separator.BUDGET", 0.0)
    separator = Separator(tiny)
    np.testing.assert_array_equal(run(separator, x), expected)
    assert separator.source.slow == 10


STEMS = [("drums", "bass", "other"), ("harmonic", "percussive"), ("percussive", "harmonic"), ("vocals", "rest"), ("bass", "drums")]


def named(stems: tuple[str, ...]) -> SeparationModel:
    return SeparationModel("m", "m", Path(), Path(), stems, (128, 256), (RATE,), 5, 1, 5, 0.0, ("prior",), {})


@pytest.mark.parametrize("stems", STEMS, ids="-".join)
@settings(max_examples=25)
@given(seed=st.integers(0, 1 << 30), blend=st.floats(0, 1), standing_in=st.floats(0, 1))
def test_shares_are_shares_whatever_a_network_says(stems: tuple[str, ...], seed: int, blend: float, standing_in: float) -> None:
    rng = np.random.default_rng(seed)
    model = named(stems)
    masks = rng.uniform(-0.5, 1.5, (len(stems) - 1, N_BINS)).astype(F32)
    masks[:, rng.integers(N_BINS, size=200)] = rng.choice([0.0, 1.0, 0.5], 200)
    gain = rng.choice([0.0, 1.0, 0.3, 0.9], N_BINS).astype(F32)
    out = np.zeros_like(masks)
    whole(masks)
    settle(masks, gain, stand_in(model, RATE), model.percussive, blend, standing_in, out)
    assert np.isfinite(out).all()
    assert out.min() >= -1e-5 and out.sum(axis=0).max() <= 1.0 + 1e-5


@pytest.mark.parametrize("stems", STEMS, ids="-".join)
def test_whoever_stands_in_shares_out_everything(stems: tuple[str, ...]) -> None:
    table = stand_in(named(stems), RATE)
    np.testing.assert_allclose(table.sum(axis=1), 1.0, atol=1e-6)
    if "vocals" in stems:
        assert (table[:, -1] == 1.0).all(), "medians cannot tell them apart: everything to the last"


def test_bins_that_are_not_finite_are_silent_and_counted(tiny: SeparationModel) -> None:
    x = spectra(6)
    x[3, 0, 10], x[3, 1, 20] = np.nan, np.inf
    separator = Separator(tiny)
    stems = run(separator, x)
    assert np.isfinite(stems).all() and separator.n_nonfinite == 2
    assert not stems[3, :, 0, 10].any()


def test_the_last_stem_is_what_the_others_leave() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((2, N_BINS)).astype(F32) / 2
    x = spectra(5)[4]
    out = np.zeros((3, *x.shape), np.complex64)
    apply(masks, x, out)
    np.testing.assert_array_equal(out[2], (x - out[0]) - out[1])
