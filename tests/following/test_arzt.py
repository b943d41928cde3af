"""The method `arzt` on performances made from its own reference, at tempi that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.dsp.layout import LEVEL, N_FEATURES
from rtserver.errors import SpecError
from rtserver.events import Event, Position
from rtserver.following import backforward, oltw, pathtempo
from rtserver.following.arzt import Arzt
from rtserver.following.follower import LOCKED, Follower
from rtserver.following.reference import build_reference
from tests.following.music import HOP, SPEC, prepared, study

SCORE = study()
FEATURES = build_reference(SCORE).features


def played(start: float = 0.0, stop: float = 64.0, tempo: float = 1.0, noise: float = 0.3) -> npt.NDArray[np.float32]:
    """Features of quarters `start` to `stop` at `tempo` times that of the score (120), with noise over them."""
    frames = np.arange(50 * start, 50 * stop, tempo).astype(int)
    x = FEATURES[frames[frames < len(FEATURES)]].copy()
    x[:, :LEVEL] *= np.random.default_rng(7).uniform(1 - noise, 1 + noise, x[:, :LEVEL].shape)
    x[:, LEVEL] = np.maximum(x[:, LEVEL], -40.0)
    return np.ascontiguousarray(x, np.float32)


def run(follower: Follower, x: npt.NDArray[np.float32]) -> list[Position]:
    events: list[Event] = []
    after: list[Position] = []
    for n, row in enumerate(x):
        follower.process(row, (n + 1) * HOP, events.append)
        assert isinstance(events[-1], Position)
        after.append(events[-1])
    return after


@pytest.mark.parametrize("tempo", [0.7, 0.85, 1.0, 1.3, 1.7])
def test_a_performance_of_constant_tempo_is_followed_within_a_semiquaver(tempo: float) -> None:
    positions = run(prepared(SCORE, "arzt"), played(tempo=tempo))
    true = np.arange(len(positions)) * 0.02 * tempo
    error = np.array([p.quarter for p in positions]) - true
    assert np.abs(error[300:-100]).max() < 0.25
    assert positions[-150].tempo_bpm == pytest.approx(120 * tempo, rel=0.08)
    assert {p.state for p in positions[300:]} == {LOCKED}


def test_a_change_of_tempo_is_told_after_some_seconds() -> None:
    positions = run(prepared(SCORE, "arzt"), np.concatenate((played(0, 24), played(24, 64, tempo=1.4))))
    assert positions[1150].tempo_bpm == pytest.approx(120, rel=0.08)
    assert positions[-150].tempo_bpm == pytest.approx(168, rel=0.08)


def test_seek_goes_on_from_there() -> None:
    follower = prepared(SCORE, "arzt")
    run(follower, played()[:500])
    follower.seek(40.0)
    assert abs(run(follower, played(40.0))[500].quarter - 50.0) < 0.25


def test_an_anchor_moves_it_and_keeps_the_tempo() -> None:
    follower = prepared(SCORE, "arzt")
    before = run(follower, played(0, 32, tempo=1.3))[-1]
    follower.anchor(40.0)
    after = run(follower, played(40.0, 64.0, tempo=1.3))
    assert before.tempo_bpm == pytest.approx(156, rel=0.08)
    assert after[0].tempo_bpm == pytest.approx(before.tempo_bpm, rel=1e-6)
    assert after[0].quarter == pytest.approx(40.0, abs=0.1)
    error = [p.quarter - (40.0 + 0.026 * n) for n, p in enumerate(after)]
    assert np.abs(error[50:-100]).max() < 0.25


def test_after_doubt_it_is_unsure() -> None:
    follower = prepared(SCORE, "arzt")
    sure = run(follower, played()[:800])[-1].confidence
    follower.gap()
    assert follower.confidence < 0.4 < sure


def test_a_skipped_repeat_is_noticed() -> None:
    # quarters 16 to 32 are those before them again
    notes = SCORE.notes
    head = notes.onset_quarter < 16.0
    tail = notes.onset_quarter >= 32.0
    onset = np.concatenate((notes.onset_quarter[head], notes.onset_quarter[head] + 16.0, notes.onset_quarter[tail]))
    pitch = np.concatenate((notes.pitch[head], notes.pitch[head], notes.pitch[tail]))
    length = np.concatenate((notes.duration_quarter[head], notes.duration_quarter[head], notes.duration_quarter[tail]))
    repeated = replace(notes, onset_quarter=onset, pitch=pitch, duration_quarter=length, part=np.zeros(len(onset), np.int32))
    score = replace(SCORE, notes=repeated, written=repeated, skips=np.array([[16.0, 32.0]]))
    positions = run(prepared(score, "arzt"), np.concatenate((played(0, 16), played(32, 64))))
    assert abs(positions[700].quarter - 14.0) < 0.25
    late = [abs(p.quarter - (32.0 + 0.02 * (n - 800))) for n, p in enumerate(positions) if n > 1100]
    assert max(late[:-100]) < 0.25


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1.0, 1e30]), st.floats(0.0, 63.0))
def test_positions_stay_within_the_score_whatever_comes(seed: int, scale: float, start: float) -> None:
    random = np.random.default_rng(seed)
    x = (random.standard_normal((300, N_FEATURES)) * scale).astype(np.float32)
    x[:, LEVEL] = random.uniform(-120, 0, 300)
    SHARED.seek(start)
    assert all(-0.01 < p.quarter <= SCORE.length_quarter and 0.0 <= p.confidence <= 1.0 for p in run(SHARED, x))


SHARED = prepared(SCORE, "arzt")


def test_keys_are_refused() -> None:
    with pytest.raises(SpecError, match="'arzt' listens to sound"):
        prepared(SCORE, "arzt").process_keys((60,), HOP, lambda _: None)


def test_nothing_compiles_while_following() -> None:
    follower = Follower(SCORE, "arzt")
    follower.prepare(SPEC)
    kernels = (backforward.advance, backforward.get_inc, backforward.new_column, pathtempo.relative_tempo, oltw.half_square)
    before = [len(kernel.signatures) for kernel in kernels]
    run(follower, played()[:1200])
    assert [len(kernel.signatures) for kernel in kernels] == before == [1] * len(kernels)


def test_attacks_of_the_score_are_marked() -> None:
    method = Arzt()
    method.prepare(SCORE)
    path = method._ways[0].path
    first = method.reference.frame_of(1.0)
    assert path._attack[first : first + 5].all()  # type: ignore[attr-defined]
    assert not path._attack[first - 5 : first].any()  # type: ignore[attr-defined]
