"""The onset network of the zoo, and what its word adds for a chord."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver import zoo
from rtserver.dsp.features import FIRST_PITCH, N_FEATURES
from rtserver.errors import ModelError
from rtserver.following import follower as followers
from rtserver.following import learned, onsetnet
from rtserver.following.onsetnet import N_AGES, N_PITCHES, OnsetNetwork
from rtserver.node import Spec


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(zoo.FOLDER / zoo.manifest()[onsetnet.MODEL]["golden"]))


def test_golden_vectors_reproduce(golden: dict[str, np.ndarray]) -> None:
    """What torch computed at export, this ONNX Runtime computes too."""
    network = OnsetNetwork()
    for spectrum, nats in zip(golden["spectra"], golden["nats"], strict=True):
        network.process(spectrum)
        np.testing.assert_allclose(network.nats, nats, atol=1e-3)


def test_reset_equals_fresh(golden: dict[str, np.ndarray]) -> None:
    network, fresh = OnsetNetwork(), OnsetNetwork()
    for spectrum in golden["spectra"]:
        network.process(spectrum)
    network.reset()
    for x in (network, fresh):
        x.process(golden["spectra"][0])
    np.testing.assert_array_equal(network.nats, fresh.nats)


def test_the_card_says_what_the_manifest_says() -> None:
    entry = zoo.manifest()[onsetnet.MODEL]
    card = (zoo.FOLDER / entry["card"]).read_text()
    for which in ("validation", "held_out_font"):
        scores = entry[which]
        assert " | ".join([f"`{which}`", f"{scores['nats']:.5f}", *(f"{scores[f'found_{a}']:.3f}" for a in range(N_AGES))]) in card
    assert entry["data"] in card and entry["split"] in card


def test_a_model_of_another_kind_is_refused() -> None:
    with pytest.raises(ModelError, match="of kind 'note_events'"):
        OnsetNetwork("performer")


def test_without_its_model_the_default_method_is_refused_and_templates_still_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rtserver.demo import SCORE
    from rtserver.following.score import load_score

    folder = tmp_path / "zoo"
    shutil.copytree(zoo.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    (folder / zoo.manifest()[onsetnet.MODEL]["file"]).unlink()
    monkeypatch.setattr(learned, "OnsetNetwork", lambda: OnsetNetwork(folder=folder))
    score, spec = load_score(SCORE), Spec(48000, 480, (N_FEATURES,))
    with pytest.raises(ModelError, match="is missing"):
        followers.Follower(score, "semimarkov").prepare(spec)
    followers.Follower(score, "semimarkov-templates").prepare(spec)


def pitches_of(nats: np.ndarray) -> np.ndarray:
    out = np.zeros((N_AGES, N_PITCHES))
    learned.of_pitches(nats.astype(np.float32), learned.SPREAD, learned.LEFT_OUT, learned.ADDED, out)
    return out


@settings(deadline=None, max_examples=30)
@given(level=st.floats(-30.0, 30.0))
def test_a_pitch_speaks_within_limits(level: float) -> None:
    nats = pitches_of(np.full((N_AGES, N_PITCHES), level))
    assert nats.min() >= np.log(learned.LEFT_OUT) - 0.01
    assert nats.max() <= -np.log(learned.ADDED)


def test_a_note_may_come_after_the_first_of_its_chord() -> None:
    heard = np.full((N_AGES, N_PITCHES), -10.0)
    heard[2, 40] = 8.0
    nats = pitches_of(heard)[:, 40]
    assert list(np.argsort(-nats)[:3]) == [2, 3, 4]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999), n_hops=st.integers(1, N_AGES))
def test_what_hops_add_sums_up_to_what_the_last_says(seed: int, n_hops: int) -> None:
    """Along the life of an onset the increments telescope."""
    rng = np.random.default_rng(seed)
    start, pitch = np.array([0, 2, 3], np.int32), np.array([30, 40, 50], np.int32)
    said, total = np.zeros((2, N_AGES)), np.zeros(2)
    for a in range(n_hops):
        nats, out = rng.normal(0.0, 3.0, (N_AGES, N_PITCHES)), np.zeros((2, N_AGES + 1))
        learned.add(start, pitch, nats, FIRST_PITCH, learned.WEIGHT, learned.LIMIT, said, out)
        total += out[:, a]
        assert not out[:, N_AGES].any()
    columns = pitch - FIRST_PITCH
    chords = np.array([nats[n_hops - 1, columns[:2]].sum(), nats[n_hops - 1, columns[2]]])
    np.testing.assert_allclose(total, np.clip(learned.WEIGHT * chords, -learned.LIMIT, learned.LIMIT))


def test_pitches_beyond_the_network_say_nothing() -> None:
    start, pitch = np.array([0, 1, 2], np.int32), np.array([20, 109], np.int32)
    out = np.zeros((2, N_AGES + 1))
    learned.add(start, pitch, np.ones((N_AGES, N_PITCHES)), FIRST_PITCH, 1.0, 3.0, np.zeros((2, N_AGES)), out)
    assert not out.any()
