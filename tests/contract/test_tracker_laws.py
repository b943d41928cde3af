"""The laws as far as they speak of trackers, held over every way to follow."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.demo import SCORE
from rtserver.dsp.layout import LEVEL, N_FEATURES
from rtserver.errors import SpecError
from rtserver.following.follower import METHODS, Follower
from rtserver.following.reference import build_reference
from rtserver.following.score import load_score
from rtserver.node import Spec

SPEC = Spec(48000, 480, (N_FEATURES,))
every_method = pytest.mark.parametrize("method", sorted(METHODS))


@pytest.fixture(scope="module")
def score():
    return load_score(SCORE)


def features(n_hops: int, seed: int = 0) -> np.ndarray:
    """Loud noise in the space of the features."""
    x = np.random.default_rng(seed).uniform(0, 1, (n_hops, N_FEATURES)).astype(np.float32)
    x[:, :12] /= np.linalg.norm(x[:, :12], axis=1, keepdims=True)
    x[:, LEVEL] = -20.0
    return x


def prepared(score, method):
    follower = Follower(score, method)
    follower.prepare(SPEC)
    return follower


def run(follower, x, start=0):
    events = []
    for k, hop in enumerate(x):
        follower.process(hop, start + (k + 1) * SPEC.hop_size, events.append)
    return events


@every_method
def test_law_1_nothing_is_known_before_its_audio(score, method):
    events = run(prepared(score, method), features(200))
    assert prepared(score, method).latency == 0
    assert all(event.available_frame >= event.frame and event.frame % SPEC.hop_size == 0 for event in events)
    assert [event.frame for event in events] == sorted({event.frame for event in events}), "at most one a hop"


@every_method
@settings(max_examples=5, deadline=None)
@given(n_hops=st.integers(1, 300), seed=st.integers(0, 99))
def test_law_3_reset_equals_fresh(score, method, n_hops, seed):
    follower = prepared(score, method)
    run(follower, features(n_hops, seed))
    follower.reset()
    assert run(follower, features(100, 1)) == run(prepared(score, method), features(100, 1))


@every_method
def test_law_5_process_keeps_nothing(score, method):
    follower = prepared(score, method)
    x = features(400)
    for k in range(100):
        follower.process(x[k], (k + 1) * 480, lambda _: None)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for k in range(100, 400):
            follower.process(x[k], (k + 1) * 480, lambda _: None)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 4096


@every_method
def test_law_6_same_input_same_events(score, method):
    assert run(prepared(score, method), features(200)) == run(prepared(score, method), features(200))


@every_method
def test_law_7_prepare_refuses_what_does_not_fit(score, method):
    with pytest.raises(SpecError, match="features"):
        Follower(score, method).prepare(Spec(48000, 480, (12,)))


@every_method
def test_it_follows_its_own_reference(score, method):
    """The least that any way to follow must do."""
    follower = prepared(score, method)
    events = run(follower, np.ascontiguousarray(build_reference(score).features[:1000], np.float32))
    expected = score.quarter_at(10.0)
    assert events[-1].quarter == pytest.approx(float(expected), abs=1.0)
