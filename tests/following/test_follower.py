"""The follower on performances made from its own reference: what it must hold through, whatever the sound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtserver.dsp.layout import LEVEL, N_FEATURES
from rtserver.errors import SpecError
from rtserver.events import Event, Position
from rtserver.following import oltw, reference, tempo, warping
from rtserver.following.follower import METHODS, REFERENCED, Follower
from rtserver.following.score import Notes, Score
from rtserver.following.states import LOCKED, LOST, UNSURE, WAITING
from rtserver.node import Spec, Tracker

Features = npt.NDArray[np.float32]
HOP = 480
SPEC = Spec(48000, HOP, (N_FEATURES,))
SILENCE = np.zeros((1, N_FEATURES), np.float32)
SILENCE[0, LEVEL] = -120.0


def score(skips: list[tuple[float, float]] | None = None, seed: int = 0, rest: tuple[int, int] = (0, 0)) -> Score:
    """64 quarters of two-part music at 120; where `skips` has a pair (a, b), quarters a..b repeat those before them."""
    random = np.random.default_rng(seed)
    upper = random.choice([60, 62, 64, 65, 67, 69, 71, 72, 74, 76], 128)
    lower = random.choice([36, 38, 40, 41, 43, 45, 47], 64)
    for a, b in skips or []:
        length = int(b - a)
        upper[2 * int(a) : 2 * int(b)] = upper[2 * int(a) - 2 * length : 2 * int(a)]
        lower[int(a) : int(b)] = lower[int(a) - length : int(a)]
    onset = np.concatenate((np.arange(128) / 2, np.arange(64.0)))
    duration = np.concatenate((np.full(128, 0.5), np.full(64, 1.0)))
    pitch = np.concatenate((upper, lower)).astype(np.int32)
    keep = (onset < rest[0]) | (onset >= rest[1])
    order = np.lexsort((pitch[keep], onset[keep]))
    notes = Notes(onset[keep][order], duration[keep][order], pitch[keep][order], np.zeros(len(order), np.int32))
    line = np.array([0.0, 64.0])
    return Score(
        title="made here",
        parts=("piano",),
        notes=notes,
        written=notes,
        segments=np.array([[0.0, 64.0, 0.0]]),
        skips=np.array(skips or [], np.float64).reshape(-1, 2),
        tempo_quarter=np.zeros(1),
        tempo_bpm=np.array([120.0]),
        beat_quarter=line,
        beat=line,
        bar_quarter=np.zeros(1),
        bar_number=np.ones(1, np.int32),
    )


def played(s: Score, start: float = 0.0, stop: float = 64.0, noise: float = 0.3, stretch: float = 1.0) -> Features:
    """Features of quarters `start` to `stop` of a score: its reference in another tempo, with noise over it."""
    features = reference.build_reference(s).features
    frames = np.arange(start * 50, stop * 50, 1 / stretch).astype(int)
    x = features[frames[frames < len(features)]].copy()
    x[:, :LEVEL] *= np.random.default_rng(7).uniform(1 - noise, 1 + noise, x[:, :LEVEL].shape)
    x[:, LEVEL] = np.maximum(x[:, LEVEL], -40.0)  # a room: nothing rings out to silence within the music
    return np.ascontiguousarray(x, np.float32)


def prepared(s: Score, **options: Any) -> Follower:
    follower = Follower(s, **options)
    follower.prepare(SPEC)
    return follower


def run(follower: Follower, x: Features) -> list[Position]:
    """The position after each hop."""
    events: list[Event] = []
    after: list[Position] = []
    for n, row in enumerate(x):
        before = len(events)
        follower.process(row, (n + 1) * HOP, events.append)
        assert len(events) - before <= 1
        last = events[-1]
        assert isinstance(last, Position)
        after.append(last)
    return after


@pytest.mark.parametrize("stretch", [0.75, 1.0, 1.3])
def test_it_follows_and_tells_the_tempo(stretch: float) -> None:
    s = score()
    positions = run(prepared(s), played(s, stretch=1 / stretch))
    true = np.arange(len(positions)) * 0.02 * stretch
    error = np.array([p.quarter for p in positions]) - true
    assert np.abs(error[300:-100]).max() < 0.25
    assert positions[-150].tempo_bpm == pytest.approx(120 * stretch, rel=0.05)
    assert {p.state for p in positions[300:]} == {LOCKED}


def test_it_is_a_tracker_of_no_latency() -> None:
    follower = Follower(score())
    assert isinstance(follower, Tracker)
    assert follower.latency == 0


def test_it_waits_for_the_first_sound() -> None:
    s = score()
    hum = np.repeat(SILENCE, 300, axis=0)
    hum[:, LEVEL] = -62.0
    positions = run(prepared(s), np.concatenate((hum, played(s))))
    assert {p.state for p in positions[:300]} == {WAITING}
    assert all(-0.02 < p.quarter < 0.0 for p in positions[:300])  # the first note lies ahead
    assert abs(positions[300 + 1000].quarter - 20.0) < 0.25


def test_it_stands_still_in_a_pause() -> None:
    s = score()
    music = played(s)
    positions = run(prepared(s), np.concatenate((music[:1000], np.repeat(SILENCE, 500, axis=0), music[1000:])))
    assert len({p.quarter for p in positions[1000:1500]}) == 1
    assert abs(positions[1500 + 500].quarter - 30.0) < 0.25


def test_it_stands_still_while_a_chord_rings_on() -> None:
    s = score()
    music = played(s)
    held = np.repeat(music[1000:1001], 500, axis=0)
    held[:, 12:LEVEL] = 0.0  # nothing rises
    positions = run(prepared(s), np.concatenate((music[:1000], held, music[1000:])))
    assert max(abs(p.quarter - 20.0) for p in positions[1020:1500]) < 0.75
    assert abs(positions[1500 + 500].quarter - 30.0) < 0.25


@pytest.mark.parametrize("lost", [20, 50, 100])
def test_after_a_gap_it_keeps_its_place_is_unsure_and_catches_up(lost: int) -> None:
    """`lost` hops of input never came, while the player went on."""
    s = score()
    music = played(s)
    follower = prepared(s)
    before = run(follower, music[:1000])[-1]
    follower.gap()
    after = run(follower, music[1000 + lost :])
    assert (before.state, after[0].state) == (LOCKED, UNSURE)
    assert abs(after[0].quarter - before.quarter) < 0.5
    true = (np.arange(len(after)) + 1000 + lost) * 0.02
    error = np.abs(np.array([p.quarter for p in after]) - true)
    assert error[150:-100].max() < 0.25
    assert {p.state for p in after[200:]} == {LOCKED}


def test_a_rest_runs_on_with_the_tempo_and_ends_at_the_next_onset() -> None:
    s = score(rest=(20, 24))
    quarter = reference.build_reference(s).quarter
    before = int(np.searchsorted(quarter, 20.2))  # the last note has rung out
    x = np.concatenate((played(s)[:before], np.repeat(SILENCE, 250, axis=0)))
    positions = [p.quarter for p in run(prepared(s), x)]
    assert positions[before + 75] - positions[before + 25] == pytest.approx(1.0, abs=0.1)  # half a second at 120
    assert positions[-1] == pytest.approx(24.0, abs=0.1)
    assert positions[-1] < 24.0


def test_a_skipped_repeat_is_noticed() -> None:
    s = score(skips=[(16.0, 32.0)])
    positions = run(prepared(s), np.concatenate((played(s, 0, 16), played(s, 32, 64))))
    assert abs(positions[700].quarter - 14.0) < 0.25
    late = [abs(p.quarter - (32.0 + 0.02 * (n - 800))) for n, p in enumerate(positions) if n > 1100]
    assert max(late[:-100]) < 0.25


def test_a_repeat_that_is_taken_is_followed() -> None:
    s = score(skips=[(16.0, 32.0)])
    error = [abs(p.quarter - 0.02 * n) for n, p in enumerate(run(prepared(s), played(s)))]
    assert max(error[100:-100]) < 0.25


def test_each_of_many_repeats_may_be_skipped() -> None:
    s = score(skips=[(8.0, 16.0), (24.0, 32.0), (40.0, 48.0)])
    x = np.concatenate((played(s, 0, 8), played(s, 16, 40), played(s, 48, 64)))
    assert abs(run(prepared(s), x)[-150].quarter - 61.0) < 0.25


def test_other_music_is_no_match() -> None:
    other = score(seed=5)
    far = replace(other, notes=replace(other.notes, pitch=other.notes.pitch + 6))  # in a key that shares two notes
    positions = run(prepared(score()), played(far))
    assert {p.state for p in positions[-1000:]} == {LOST}


def test_seek_goes_on_from_there() -> None:
    s = score()
    follower = prepared(s)
    run(follower, played(s)[:500])
    follower.seek(40.0)
    assert abs(run(follower, played(s, 40.0))[500].quarter - 50.0) < 0.25


def test_reset_is_as_fresh() -> None:
    s = score(skips=[(16.0, 32.0)])
    used, x = prepared(s), played(s)[:900]
    run(used, np.concatenate((played(s, 0, 16), played(s, 32, 50))))
    used.reset()
    assert run(used, x) == run(prepared(s), x)


def test_nothing_compiles_while_following() -> None:
    s = score(skips=[(16.0, 32.0)])
    follower = prepared(s)
    kernels = (oltw.advance, oltw.get_inc, oltw.half_square, tempo.robust_slope, reference.to_match, warping.chroma_distance)
    before = [len(kernel.signatures) for kernel in kernels]
    run(follower, played(s)[:1200])
    assert [len(kernel.signatures) for kernel in kernels] == before == [1] * len(kernels)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 399), st.integers(0, N_FEATURES - 1), st.sampled_from([np.nan, np.inf, -np.inf])), max_size=60))
def test_what_is_not_finite_does_no_harm(faults: list[tuple[int, int, float]]) -> None:
    s, follower = SHARED
    x = played(s)[:600]
    for row, column, value in faults:
        x[row, column] = value
    follower.reset()
    last = run(follower, x)[-1]
    assert np.isfinite([last.quarter, last.beat, last.tempo_bpm, last.confidence]).all()
    assert abs(last.quarter - 12.0) < 0.5


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1.0, 1e30]))
def test_positions_stay_within_the_score_whatever_comes(seed: int, scale: float) -> None:
    s, follower = SHARED
    x = (np.random.default_rng(seed).standard_normal((300, N_FEATURES)) * scale).astype(np.float32)
    x[:, LEVEL] = np.random.default_rng(seed).uniform(-120, 0, 300)
    follower.reset()
    assert all(-0.02 < p.quarter <= s.length_quarter and 0.0 <= p.confidence <= 1.0 for p in run(follower, x))


SHARED = (score(), prepared(score()))


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean 'dixon'"):
        Follower(score(), "dikson")


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(REFERENCED)))
def test_a_method_that_follows_the_score_itself_takes_no_reference(method: str) -> None:
    with pytest.raises(SpecError, match=rf"the method '{method}' takes no reference; those that do are dixon, arzt"):
        Follower(score(), method, reference.build_reference(score()))


@pytest.mark.parametrize("method", REFERENCED)
def test_a_reference_that_is_given_is_used(method: str) -> None:
    given = reference.build_reference(score())
    follower = prepared(score(), method=method, reference=given)
    assert follower.method.reference is given  # type: ignore[attr-defined]


@pytest.mark.parametrize("spec", [Spec.signal(48000, 1, 480), Spec(48000, 256, (N_FEATURES,)), Spec(48000, 480, (12,))])
def test_another_spec_is_refused(spec: Spec) -> None:
    with pytest.raises(SpecError, match="Follower expects"):
        Follower(score()).prepare(spec)


def test_the_default_is_among_the_methods() -> None:
    assert Follower(score()).method.__class__ is METHODS["semimarkov"]
