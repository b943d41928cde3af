"""What the follower's odds are learned from: renderings with known onsets, and the table fitted to them."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from renderings import SECONDS, render, write_notes

from models.following import acoustics, corpus, fit, textures
from rtserver.dsp.features import FIRST_PITCH
from rtserver.dsp.layout import N_SEMITONES
from rtserver.following import odds
from rtserver.following.score import load_score


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_notes(tmp_path_factory.mktemp("notes"))


@pytest.fixture(scope="module")
def scored(notes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(notes, tmp_path_factory.mktemp("scored"), "--scores")


def test_validation_has_every_tenth_piece_and_training_the_others(notes: Path) -> None:
    kept, held_out = corpus.load(notes, False), corpus.load(notes, True)
    assert [len(pieces) for pieces in kept] == [18, 18]
    assert [len(pieces) for pieces in held_out] == [2, 2]
    assert not {p.tobytes() for _, _, p in kept[0]} & {p.tobytes() for _, _, p in held_out[0]}


def test_missing_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=corpus.FILES[0]):
        corpus.load(tmp_path, False)


def test_a_rendering_sounds_where_its_notes_are(scored: Path) -> None:
    """In the three hops after its onset a note's own semitone has risen, for most notes."""
    for path in scored.glob("*.npz"):
        data = np.load(path)
        semitones = data["semitones"].astype(float)
        assert semitones.shape[1] == N_SEMITONES
        assert len(semitones) > SECONDS * 50
        hops = (data["notes"][:, corpus.ONSET] * 100).astype(int)
        column = data["notes"][:, corpus.PITCH].astype(int) - FIRST_PITCH
        inside = hops + 6 < len(semitones)
        rose = semitones[hops[inside] + 6, column[inside]] > semitones[hops[inside] - 1, column[inside]]
        assert rose.mean() > 0.8


def test_no_key_is_struck_while_it_is_down() -> None:
    rng = np.random.default_rng(1)
    rows = [(float(t), float(t + 1.0), int(p), 60, 0.0) for t, p in zip(rng.uniform(0, 5, 60), rng.integers(60, 65, 60), strict=True)]
    kept = corpus.playable(rows)
    for pitch in range(60, 65):
        same = [row for row in kept if row[corpus.PITCH] == pitch]
        assert all(a[corpus.RELEASE] < b[corpus.ONSET] for a, b in pairwise(same))


def test_the_score_beside_a_rendering_has_its_notes_at_its_quarters(scored: Path) -> None:
    for path in scored.glob("*.npz"):
        events = load_score(path.with_suffix(".mid")).events()
        rows = np.load(path)["notes"]
        for row in rows:
            k = int(np.argmin(np.abs(events.quarter - row[corpus.QUARTER])))
            assert abs(events.quarter[k] - row[corpus.QUARTER]) < 0.01
            assert row[corpus.PITCH] in events.begin_pitch[events.begin_start[k] : events.begin_start[k + 1]]
        begun = fit.first_hops(rows, events.quarter)
        assert (np.diff(begun[begun >= 0]) >= -5).all()


def test_logistic_regression_finds_what_made_the_data() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(20000, 2)), np.ones((20000, 1))], -1)
    made = np.array([1.0, -2.0, 0.0])
    true = rng.random(20000) < 1.0 / (1.0 + np.exp(-x @ made))
    np.testing.assert_allclose(fit.logistic(x, true), made, atol=0.1)


def test_the_tables_tell_true_from_false(scored: Path, notes: Path, tmp_path: Path) -> None:
    others = render(notes, tmp_path, "--scores", "--validation", "--seed", "2")
    template, both, alone = fit.main([str(scored), str(others)])
    assert template.shape == odds.TEMPLATE.shape
    assert both.shape == alone.shape == odds.WEIGHTS.shape
    assert not alone[:, odds.SUM : odds.ONE].any()
    check = fit.examples(scored, np.random.default_rng(1))  # of a few seconds nothing general can be learned
    assert fit.gained(check.rise[:, 4] @ template[4], check.true) > 0.1
    assert fit.gained(fit.words(check, template)[:, 6] @ both[6], check.true) > 0.1


def test_free_writing_stays_on_the_keyboard_and_in_its_time() -> None:
    for seed in range(20):
        notes = textures.texture(np.random.default_rng(seed), 6.0)
        begin, length, pitch = (np.array(column) for column in zip(*notes, strict=True))
        assert (np.diff(begin) >= 0.0).all() and begin[0] >= 0.0 and begin[-1] < 6.0
        assert (length > 0.0).all()
        assert pitch.min() >= 21 and pitch.max() <= 108


@pytest.mark.parametrize("seed", range(8))
def test_what_is_heard_is_as_long_as_what_was_played_and_not_over_full_scale(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.sin(np.arange(30000) * 0.05) * np.exp(-np.arange(30000) / 9000)
    heard = acoustics.heard(y, rng, 44100)
    assert heard.shape == y.shape and heard.dtype == np.float32
    assert 0.0 < np.abs(heard).max() <= 1.0


def test_a_room_rings_on_after_the_sound() -> None:
    click = np.zeros(44100)
    click[0] = 1.0
    assert all(np.abs(acoustics.room(click, np.random.default_rng(seed), 44100)[4000:]).max() > 0.0 for seed in range(5))
