"""The onset network of the zoo, and what its word adds for a chord."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver import zoo
from rtserver.dsp.layout import N_FEATURES
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


def test_a_model_of_another_make_is_refused(tmp_path: Path) -> None:
    """One with the right kind that takes other inputs, as models of earlier versions do."""
    folder = tmp_path / "zoo"
    shutil.copytree(zoo.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    manifest = folder / zoo.MANIFEST
    head, _, performer = manifest.read_text().partition("[performer]")
    manifest.write_text(f"{head}[performer]{performer.replace('note_events', onsetnet.KIND, 1)}")
    with pytest.raises(ModelError, match="expected spectra, whole, pitch"):
        OnsetNetwork("performer", folder)


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
