"""Clips whose stems are known: read, played, scored, compared."""

from pathlib import Path

import numpy as np
import pytest
from stemclips import RATE, stems, write

from models.separation import playing
from models.separation.clips import bootstrap, differences, folders, groups_of, means, parts_of, read_clip, scores, show
from rtserver.config import Separation


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    """Truth and mixture."""
    truth, rate = read_clip(write(tmp_path_factory.mktemp("clips") / "made_a", stems(1.0, 0)))
    assert rate == RATE
    return truth, np.ascontiguousarray(truth.sum(axis=0))


def test_what_is_no_drum_and_no_bass_is_other(clip: tuple[np.ndarray, np.ndarray]) -> None:
    sounds = stems(1.0, 0)
    np.testing.assert_array_equal(clip[0], np.stack([sounds["drums"], sounds["bass"], sounds["other"] + sounds["vocals"]]))


def test_a_folder_without_clips_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no clip folders"):
        folders(tmp_path)


@pytest.mark.parametrize(("options", "n_stems"), [(Separation("stage"), 2), (Separation("default", model="stems3-int8"), 3)])
def test_what_plays_adds_up_to_the_mixture(clip: tuple[np.ndarray, np.ndarray], options: Separation, n_stems: int) -> None:
    made = playing.play(options, clip[1], RATE)
    assert made.shape == (n_stems, *clip[1].shape)
    np.testing.assert_allclose(made.sum(axis=0), clip[1], atol=1e-5)


def test_the_medians_alone_give_the_bass_what_is_low(clip: tuple[np.ndarray, np.ndarray]) -> None:
    truth, mixture = clip
    made = playing.medians_alone(Separation("default", model="stems3-int8"), mixture, RATE)
    assert scores(truth, made)["bass"][0] > 10.0 > scores(truth, mixture[None])["bass"][0]


@pytest.mark.parametrize("preset", ["stage", "default"])
def test_no_method_is_ahead_of_the_oracle(clip: tuple[np.ndarray, np.ndarray], preset: str) -> None:
    truth, mixture = clip
    best = playing.oracle(preset, truth, RATE)
    np.testing.assert_allclose(best.sum(axis=0), mixture, atol=1e-5)
    others = [playing.play(Separation(preset, model=model), mixture, RATE) for model in ("", "stems3-int8")]
    for made in others:
        assert all(scores(truth, best)[part][0] > x for part, (x, _) in scores(truth, made).items())


def test_a_preset_is_as_late_as_its_synthesis_window() -> None:
    assert (round(playing.latency_ms("stage", 44100), 1), round(playing.latency_ms("default", 48000), 1)) == (5.8, 10.7)


def test_the_mixture_stands_for_every_part(clip: tuple[np.ndarray, np.ndarray]) -> None:
    assert all(x is clip[1] or np.shares_memory(x, clip[1]) for x in parts_of(clip[1][None]).values())


def test_differences_are_paired_and_name_the_worst_clip() -> None:
    beside = {f"a_{i}": {"harmonic": (float(i), 0.0)} for i in range(4)} | {"b_0": {"harmonic": (0.0, 0.0)}}
    ahead = {c: {"harmonic": (of["harmonic"][0] + k, 0.0)} for k, (c, of) in enumerate(beside.items())}
    found = differences(ahead, beside, groups_of({"x": ahead}))
    assert set(found) == {"a harmonic", "b harmonic", "all harmonic"}
    assert (found["a harmonic"].mean, found["a harmonic"].worst, found["a harmonic"].worst_clip) == (1.5, 0.0, "a_0")
    assert 0.0 <= found["a harmonic"].low < 1.5 < found["a harmonic"].high <= 3.0
    assert bootstrap([1.0, 1.0, 1.0]) == (1.0, 1.0, 1.0)


def test_means_are_shown_by_group_and_part() -> None:
    table = {"m": {"a_0": {"percussive": (1.0, 2.0)}, "a_1": {"percussive": (3.0, 4.0)}, "b_0": {"percussive": (5.0, 6.0)}}}
    assert show(means(table)) == "| | a percussive | b percussive |\n|---|---|---|\n| m | 2.00 / 3.00 | 5.00 / 6.00 |"
