"""The separation network, what it is told, and what training makes small."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.dsp.hpss import Hpss
from rtserver.dsp.stft import Istft, Stft
from rtserver.node import Spec
from rtserver.separation.expected import FADE
from rtserver.separation.features import LIMIT, N_BINS, N_FEATURES, SpectrumFeatures

torch = pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")

from models.separation import frames, losses, network, scores, validation  # noqa: E402  (needs torch)
from models.separation.network import N_NODES, N_SCORE, Network  # noqa: E402

RATE = 44100


def noise(n_channels: int, n_frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n_channels, n_frames)).astype(np.float32)


def inputs(n_hops: int, batch: int = 1, seed: int = 0) -> tuple:
    g = torch.Generator().manual_seed(seed)
    prior = (4.0 * torch.randn(batch, n_hops, N_BINS, generator=g)).clamp(-LIMIT, LIMIT)
    return torch.randn(batch, n_hops, N_FEATURES, generator=g), prior, torch.zeros(batch, n_hops, N_SCORE)


def shaken(stems: str = "stems3", hidden: int = 16, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    made = Network(stems, hidden, 2)
    with torch.no_grad():
        for p in made.parameters():
            p += 0.1 * torch.randn_like(p)
    return made.eval()


@pytest.mark.parametrize("stems", network.STEMS)
def test_an_untrained_network_is_hpss(stems: str) -> None:
    features, prior, score = inputs(3)
    made = Network(stems, 16, 2)
    masks, _, _ = made(features, prior, score, *made.start(1))
    harmonic = masks[0] if stems == "hp" else 1.0 - masks[0]
    torch.testing.assert_close(harmonic, torch.sigmoid(prior))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(list(network.STEMS)))
def test_masks_share_out_each_bin(seed: int, stems: str) -> None:
    made = shaken(stems, seed=seed)
    with torch.no_grad():
        masks, _, _ = made(*inputs(4, seed=seed), *made.start(1))
    assert len(masks) == len(network.STEMS[stems])
    assert all(m.min() >= -1e-6 and m.max() <= 1.0 + 1e-6 for m in masks)
    torch.testing.assert_close(sum(masks), torch.ones_like(masks[0]))


def test_a_whole_chunk_is_hop_by_hop_with_the_state_carried_on() -> None:
    made = shaken()
    features, prior, score = inputs(6)
    with torch.no_grad():
        whole, _, _ = made(features, prior, score, *made.start(1))
        step, state = network.Step(made), made.start(1)
        for i in range(6):
            masks, *state = step(features[:, i], prior[:, i], score[:, i], *state)
            torch.testing.assert_close(masks, torch.stack([m[0, i] for m in whole[:-1]]), atol=1e-5, rtol=1e-5)


def test_no_hop_depends_on_a_later_one() -> None:
    made = shaken()
    a, b = inputs(6), inputs(6, seed=1)
    mixed = [torch.cat([x[:, :3], y[:, 3:]], dim=1) for x, y in zip(a, b, strict=True)]
    with torch.no_grad():
        one, other = (made(*x, *made.start(1))[0] for x in (a, mixed))
    torch.testing.assert_close(one[0][:, :3], other[0][:, :3])
    assert not torch.allclose(one[0][:, 3:], other[0][:, 3:])


def test_a_score_is_heard() -> None:
    made = shaken()
    features, prior, score = inputs(2)
    told = score.clone()
    told[:, :, -1] = 1.0
    with torch.no_grad():
        assert not torch.allclose(made(features, prior, told, *made.start(1))[0][1], made(features, prior, score, *made.start(1))[0][1])


def test_two_stems_of_three_are_its_drums_and_the_rest() -> None:
    made = shaken()
    two = network.two_stems(made)
    with torch.no_grad():
        drums, _, _ = made(*inputs(4), *made.start(1))[0]
        harmonic, percussive = two(*inputs(4), *two.start(1))[0]
    torch.testing.assert_close(percussive, drums)
    torch.testing.assert_close(harmonic, 1.0 - drums)


def test_a_network_of_the_default_size_has_fewer_than_four_million_weights() -> None:
    assert network.parameters(Network()) < 4e6


def test_values_at_nodes_become_straight_lines_over_bins() -> None:
    nodes = network.nodes()
    assert len(nodes) == N_NODES and (np.diff(nodes) > 0).all() and nodes[-1] == N_BINS - 1
    line = Network("hp", 8, 1).to_bins(torch.from_numpy(nodes).float())
    torch.testing.assert_close(line, torch.arange(N_BINS).float(), atol=1e-3, rtol=1e-5)


# What a batch is made of


@pytest.mark.parametrize("hop", frames.HOPS)
def test_spectra_are_those_of_the_live_transform(hop: int) -> None:
    x = noise(2, 20 * hop)
    stft = Stft(2048, hop, 2 * hop)
    stft.prepare(Spec.signal(RATE, 2, hop))
    out = np.zeros((20, 2, N_BINS), np.complex64)
    for i in range(20):
        stft.process(np.ascontiguousarray(x[:, i * hop : (i + 1) * hop]), out[i])
    np.testing.assert_array_equal(frames.transform(x, hop, hop), out)


def test_training_hears_what_two_phases_hear_live() -> None:
    """At hops of 128 frames one HPSS serves both phases, with twice the step; training hears each phase alone. What the past is taken to
    have been before the stream began is forgotten first."""
    spectra = frames.transform(noise(2, 120 * 128), 128, 128)
    hpss, heard = Hpss(frames.N_PAST, frames.N_AROUND, 2 * frames.PAST_STEP), SpectrumFeatures(2)
    hpss.prepare(Spec(RATE, 128, (2, N_BINS), np.dtype(np.complex64)))
    features, priors = np.zeros((120, N_FEATURES), np.float32), np.zeros((120, N_BINS), np.float32)
    parts = np.zeros((2, 2, N_BINS), np.complex64)
    for i, x in enumerate(spectra):
        hpss.process(x, parts)
        heard.process(x, hpss.shares[0], i % 2, features[i], priors[i])
    observer = frames.Observer(frames.View())
    for phase in (0, 1):
        wanted = observer.hear(np.ascontiguousarray(spectra[phase::2]))
        for live, trained in zip((features, priors), wanted, strict=True):
            np.testing.assert_array_equal(live[phase::2][40:], trained[40:])


def example(n_hops: int = 8, seed: int = 0) -> SimpleNamespace:
    return SimpleNamespace(stems=noise(6, n_hops * 256, seed).reshape(3, 2, -1), notes=np.zeros((0, 4), np.float32), has_score=True)


@pytest.mark.parametrize("magnitude", [0.0, 1.0])
def test_statistics_are_the_definition(magnitude: float) -> None:
    made = example()
    hops = frames.Observer(frames.View("stems3", magnitude, combine=True)).observe(made, np.random.default_rng(0))
    stems = np.stack([frames.transform(s) for s in made.stems], axis=1).astype(np.complex128)  # (hops, stems, channels, bins)
    x = stems.sum(axis=1)
    np.testing.assert_allclose(hops["power"], (np.abs(x) ** 2).sum(axis=1), rtol=1e-4)
    for i, combination in enumerate(losses.sums(3)):
        s = stems[:, list(combination)].sum(axis=1)
        cross = np.abs(x) * np.abs(s) if magnitude else (x.conj() * s).real
        np.testing.assert_allclose(hops["cross"][:, i], cross.sum(axis=1), rtol=1e-3, atol=1.0)
        np.testing.assert_allclose(hops["energy"][:, i], (np.abs(s) ** 2).sum(axis=(1, 2)), rtol=1e-4)


def test_streams_carry_on_and_begin_anew() -> None:
    def draw(rng: np.random.Generator):
        while True:
            yield example(12, int(rng.integers(1000)))

    made = frames.streams(draw, frames.View("hp", time=True), [0, 1, 2], n_chunks=3, hops=4, seed=5)
    batches = [next(made) for _ in range(6)]
    assert [b["fresh"].tolist() for b in batches] == [
        [True, True, True],
        [False, False, True],
        [False, True, False],
        [True, False, False],
        [False, False, True],
        [False, True, False],
    ]
    assert batches[0]["features"].shape == (3, 4, N_FEATURES) and batches[0]["stems"].shape == (3, 4, 2, N_BINS)
    again = next(frames.streams(draw, frames.View("hp", time=True), [0, 1, 2], 3, 4, 5))
    np.testing.assert_array_equal(batches[0]["cross"], again["cross"])


def test_a_score_says_which_keys_sound_and_begin() -> None:
    notes = np.array([[60.0, 2560.0, 5120.0, 2], [40.25, 0.0, 2560.0, 1], [36.0, 0.0, 9999.0, 0]], np.float32)
    made = scores.score_features(notes, 40)
    assert (made[:, -1] == 1.0).all()
    middle = made[:, 60 - 21]
    np.testing.assert_array_equal(np.flatnonzero(middle), np.arange(9, 19))  # hop i ends at (i + 1) * 256
    onset = made[:, 88 + 60 - 21]
    assert onset.argmax() == 9 and onset[9] == 1.0
    np.testing.assert_allclose(onset[10:20], 1.0 - np.arange(1, 11) * 256 / FADE, atol=1e-6)
    np.testing.assert_allclose(made[3, [40 - 21, 41 - 21]], [0.75, 0.25])
    assert not made[:, 36 - 21].any(), "drums are no keys"
    assert not scores.score_features(None, 40).any()


# Losses


def test_all_sums_of_stems_but_the_whole() -> None:
    assert losses.sums(3) == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    assert len(losses.sums(4)) == 14


def random_case(n_stems: int = 3, n_hops: int = 6) -> tuple:
    """Masks (leaves with gradients), stems as spectra (batch, stems, hops, channels, bins), statistics."""
    g = torch.Generator().manual_seed(3)
    stems = torch.randn(2, n_stems, n_hops, 2, N_BINS, generator=g, dtype=torch.complex64)
    raw = torch.randn(2, n_stems, n_hops, N_BINS, generator=g, requires_grad=True)
    x = stems.sum(dim=1)
    combined = torch.stack([stems[:, list(c)].sum(dim=1) for c in losses.sums(n_stems)], dim=2)  # (batch, hops, sums, channels, bins)
    power, energy = (x.abs() ** 2).sum(dim=2), (combined.abs() ** 2).sum(dim=(3, 4))
    return raw, x, combined, power, energy


@pytest.mark.parametrize("combine", [0.0, 1.0])
@pytest.mark.parametrize("magnitude", [False, True])
def test_the_spectral_loss_is_the_error_of_the_spectra(combine: float, magnitude: bool) -> None:
    raw, x, combined, power, energy = random_case()
    cross = (x.abs()[:, :, None] * combined.abs() if magnitude else (x.conj()[:, :, None] * combined).real).sum(dim=3)
    masks = [*torch.softmax(raw, dim=1).unbind(1)]
    wanted = losses.Losses((1.0, 0.5, 0.5), combine)
    loss = losses.spectral(masks, power, cross, energy, wanted)
    direct = torch.zeros(())
    for combination, weight in wanted.terms():
        i = losses.sums(3).index(combination)
        made = losses.added(masks, combination)[:, :, None] * (x.abs() if magnitude else x)
        target = combined[:, :, i].abs() if magnitude else combined[:, :, i]
        direct = direct + weight * ((made - target).abs() ** 2).sum(dim=(1, 2, 3)).div(power.sum(dim=(1, 2))).mean()
    torch.testing.assert_close(loss, losses.SPECTRAL_WEIGHT * direct, rtol=1e-4, atol=1e-4)
    (a,) = torch.autograd.grad(loss, raw, retain_graph=True)
    (b,) = torch.autograd.grad(losses.SPECTRAL_WEIGHT * direct, raw)
    torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-6)
    assert a.abs().max() > 0.0


def test_combinations_count_the_sums_too_and_can_be_left_out() -> None:
    assert [c for c, _ in losses.Losses((1.0, 0.5, 0.5)).terms()] == [(0,), (1,), (2,)]
    both = losses.Losses((1.0, 1.0, 1.0), combine=1.0).terms()
    assert [c for c, _ in both] == losses.sums(3) and sum(w for _, w in both) == pytest.approx(1.0)
    assert losses.Losses((1.0, 1.0)).terms() == [((0,), 1.0)], "of two stems one error is the other's"


@pytest.mark.parametrize("hop", frames.HOPS)
def test_the_transform_of_training_is_that_of_the_stage(hop: int) -> None:
    x = noise(1, 30 * hop)
    spectra = losses.analyse(torch.from_numpy(x), 2 * hop, hop)
    np.testing.assert_allclose(spectra[0].numpy(), frames.transform(x, hop, hop)[:, 0], atol=2e-3)
    istft = Istft(2048, hop, 2 * hop)
    istft.prepare(Spec(RATE, hop, (1, N_BINS), np.dtype(np.complex64)))
    out, hops = np.zeros((1, hop), np.float32), []
    for s in spectra[0].numpy():
        istft.process(np.ascontiguousarray(s[None], np.complex64), out)
        hops.append(out.copy())
    made = losses.synthesise(spectra, 2 * hop, hop)
    np.testing.assert_allclose(made.numpy(), np.concatenate(hops, axis=1), atol=1e-5)
    np.testing.assert_allclose(made[0, hop:].numpy(), x[0, :-hop], atol=1e-5)


def test_weighted_sdr_of_cases_made_by_hand() -> None:
    s, n = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0.0, 2.0, 0.0, 0.0])
    assert losses.weighted_sdr(s, s, s + n).item() == pytest.approx(-1.0)
    assert losses.weighted_sdr(0.3 * s, s, s + n).item() == pytest.approx(-0.2 - 0.8 * 2.0 / np.hypot(2.0, 0.7), abs=1e-5)
    # The mixture as an estimate: its cosine with the target is 1 / sqrt(5); nothing of it is left over.
    assert losses.weighted_sdr(s + n, s, s + n).item() == pytest.approx(-0.2 / np.sqrt(5.0), abs=1e-5)


def test_perfect_masks_are_perfect_in_time_and_gradients_flow() -> None:
    tones = torch.stack([torch.sin(2 * np.pi * f * torch.arange(256 * 12) / RATE) for f in (200.0, 2000.0, 9000.0)])
    stems = losses.analyse(tones)[None]  # (1, 3, hops, bins)
    mixture = stems.sum(dim=1)
    wanted = losses.Losses((1.0, 0.5, 0.5), combine=0.5, time=1.0)
    owner = stems.abs().argmax(dim=1)
    perfect = [(owner == i).float() for i in range(3)]
    assert losses.in_time(perfect, mixture, stems, wanted).item() < -0.99
    raw = torch.zeros(1, 3, 12, N_BINS, requires_grad=True)
    loss = losses.in_time([*torch.softmax(raw, dim=1).unbind(1)], mixture, stems, wanted)
    loss.backward()
    assert loss.item() > -0.95 and torch.isfinite(raw.grad).all()
    assert raw.grad[0, 1, 6, 93] < 0.0 < raw.grad[0, 0, 6, 93], "more of the bin at 2 kHz for the stem that has it"


# Choosing weights


def test_si_sdr_from_statistics_is_that_of_the_spectra() -> None:
    made = example(12)
    hops = frames.Observer(frames.View("stems3", combine=True)).observe(made, np.random.default_rng(0))
    tensors = {k: torch.from_numpy(x) for k, x in hops.items()}
    masks = [*torch.softmax(torch.randn(3, 12, N_BINS), dim=0)]
    found = validation.si_sdr(masks, tensors, "stems3")
    stems = np.stack([frames.transform(s) for s in made.stems])
    x = stems.sum(axis=0)
    for name, members in validation.parts("stems3").items():
        s = stems[list(members)].sum(axis=0).ravel()
        e = (losses.added(masks, members).numpy()[:, None] * x).ravel()
        target = (np.vdot(s, e).real / np.vdot(s, s).real) * s
        direct = 10.0 * np.log10(np.vdot(target, target).real / np.vdot(e - target, e - target).real)
        assert found[name] == pytest.approx(direct, abs=0.02)


@pytest.mark.parametrize("stems", network.STEMS)
def test_a_blend_goes_from_the_network_to_hpss(stems: str) -> None:
    made = shaken(stems)
    with torch.no_grad():
        masks, _, _ = made(*inputs(3), *made.start(1))
    prior = inputs(3)[1]
    for of, wanted in ((0.0, masks[0]), (1.0, torch.sigmoid(prior if stems == "hp" else -prior))):
        blended = validation.blended(masks, prior, of)
        torch.testing.assert_close(blended[0], wanted, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(sum(blended), torch.ones_like(wanted))
