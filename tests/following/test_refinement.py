"""Where moments begin in a rendering of them, given about where."""

from __future__ import annotations

import numpy as np

from rtserver.demo import SCORE
from rtserver.dsp.layout import SEMITONES
from rtserver.following.offline import audio_features
from rtserver.following.refinement import refine
from rtserver.following.score import load_score

from .music import score_of


def test_what_is_known_about_is_made_exact() -> None:
    """The second half of the demonstration, whose onsets were shifted by a tenth of a second each."""
    score = load_score(SCORE)
    truth = np.loadtxt(SCORE.parent / "truth.csv", delimiter=",", skiprows=1)
    truth = truth[truth[:, 7] == 1.0]
    events = score.events()
    played = np.interp(events.quarter, truth[:, 0], truth[:, 3])
    about = np.maximum.accumulate(played + np.random.default_rng(0).normal(0.0, 0.1, len(played)))
    semitones = np.ascontiguousarray(audio_features(SCORE.parent / "performance.flac", score.tuning_hz)[:, SEMITONES:])
    found = refine(events, semitones, about)
    inside = (events.quarter >= truth[0, 0]) & (events.quarter <= truth[-4, 0])
    assert np.mean(np.abs(about - played)[inside] < 0.05) < 0.6
    assert np.mean(np.abs(found - played)[inside] < 0.05) > 0.9


def test_moments_keep_their_order() -> None:
    score = score_of([(float(k), 1.0, 60 + k) for k in range(8)])
    events = score.events()
    random = np.random.default_rng(0)
    semitones = random.random((600, 107)).astype(np.float32)
    begun = refine(events, semitones, np.sort(random.uniform(0.0, 5.0, len(events))))
    assert (np.diff(begun) >= 0.0).all()


def test_too_little_to_refine_is_left_alone() -> None:
    one = score_of([(0.0, 1.0, 60)]).events()
    assert refine(one, np.zeros((100, 107), np.float32), np.array([0.3])).tolist() == [0.3]
    two = score_of([(0.0, 1.0, 60), (1.0, 1.0, 62)]).events()
    assert refine(two, np.zeros((5, 107), np.float32), np.array([0.0, 0.02])).tolist() == [0.0, 0.02]
