"""The belief over the score, fed with evidence that is made here: what must hold whatever a hop says."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.following.statespace import AGE, LOCAL, N_HYPOTHESES, REPORT, TEMPO, Places, StateSpace

F64 = npt.NDArray[np.float64]
N_AGES = 7
HOP_S = 0.01


def space_of(n_events: int, duration_s: float = 0.3, n_chords: int | None = None) -> StateSpace:
    """Every event another chord, or `n_chords` in turn."""
    chord = (np.arange(n_events) % (n_chords or n_events)).astype(np.int32)
    space = StateSpace(np.full(n_events, duration_s), chord, HOP_S)
    space.begin(0)
    return space


def listen(space: StateSpace, onsets: list[tuple[float, int]], until_s: float) -> F64:
    """The report after each hop, if events begin at these seconds, as clearly as a struck chord does."""
    n_chords = int(space.chord.max()) + 1
    at = {round(100 * second): event for second, event in onsets}
    reports = np.zeros(round(100 * until_s))
    recent = np.zeros(n_chords)
    latest = (-(10**6), 0)
    for n in range(len(reports)):
        latest = (n, at[n]) if n in at else latest
        age = n - latest[0]
        evidence = np.full((n_chords, N_AGES + 1), -2.0)
        evidence[:, N_AGES] = -1.0 if age == 0 else 0.0
        if age < N_AGES:
            evidence[space.chord[latest[1]], age] = 2.0
        recent[:] = -6.0
        if age <= 3:
            recent[space.chord[latest[1]]] = 2.0 * (age + 1)
        space.advance()
        space.update(evidence, 0.0, recent if age <= 3 else None)
        reports[n] = space.state[REPORT]
    return reports


def steps(reports: F64) -> F64:
    return np.diff(reports)[np.diff(reports) != 0]


@pytest.mark.parametrize("stretch", [0.5, 0.8, 1.0, 1.4, 2.0])
def test_onsets_in_order_are_followed_one_by_one(stretch: float) -> None:
    space = space_of(60)
    reports = listen(space, [(0.3 * stretch * k, k) for k in range(60)], 18 * stretch)
    assert (steps(reports) == 1).all()
    for k in range(8, 60):
        assert reports[round(100 * (0.3 * stretch * k + 0.03))] == k
    assert space.state[TEMPO] == pytest.approx(np.log(stretch), abs=0.1)


def test_a_pause_is_waited_through() -> None:
    space = space_of(60)
    reports = listen(space, [(0.3 * k, k) for k in range(20)] + [(12 + 0.3 * k, 20 + k) for k in range(20)], 17.8)
    assert set(reports[600:1199]) == {19.0}
    assert reports[-1] == 39


@pytest.mark.parametrize("goal", [5, 70])
def test_a_leap_is_found_within_two_seconds_and_told_once(goal: int) -> None:
    space = space_of(100)
    reports = listen(space, [(0.3 * k, k) for k in range(40)] + [(12 + 0.3 * k, goal + k) for k in range(20)], 18.0)
    assert (np.abs(steps(reports)) > 12).sum() == 1
    true = goal + np.floor(np.arange(600) / 30 + 1e-9)
    assert (np.abs(reports[1400:] - true[200:]) <= 1).all()


def test_the_last_event_is_an_end() -> None:
    space = space_of(10)
    reports = listen(space, [(0.3 * k, k) for k in range(10)], 20.0)
    assert set(reports[300:]) == {9.0}
    assert space.state[LOCAL] == pytest.approx(1.0)
    assert space.state[AGE] == pytest.approx(20.0 - 2.7, abs=0.1)


def test_nobody_leaps_to_the_last_events() -> None:
    space = space_of(100)
    reports = listen(space, [(0.3 * k, k) for k in range(40)] + [(12 + 0.3 * k, 95 + k) for k in range(5)], 14.0)
    assert reports.max() < 95 - Places().last


def test_begin_forgets_the_past() -> None:
    used, fresh = space_of(60), space_of(60)
    listen(used, [(0.3 * k, k) for k in range(40)], 12.0)
    used.begin(0)
    onsets = [(0.3 * k, k) for k in range(30)]
    assert np.array_equal(listen(used, onsets, 9.0), listen(fresh, onsets, 9.0))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 3.0, 30.0, 300.0]), st.booleans())
def test_the_belief_stays_one_whatever_is_said(seed: int, size: float, leaps: bool) -> None:
    random = np.random.default_rng(seed)
    space = space_of(50, n_chords=20)
    for _ in range(60):
        space.advance()
        space.held[:] = -random.uniform(0, 1, 50)
        space.update(random.uniform(-size, size, (20, N_AGES + 1)), 0.3, random.uniform(-size, size, 20) if leaps else None)
        assert np.isfinite(space.state).all()
        assert 0 <= space.state[REPORT] < 50
        assert -1e-9 <= space.state[LOCAL] <= 1.0 + 1e-9
        assert space.belief.sum() == pytest.approx(1.0, abs=1e-6)
        assert (space.belief >= 0.0).all()
        assert ((space.events >= 0) & (space.events < 50)).all()


@pytest.mark.parametrize("nats", [15.0, 18.0, 60.0])
def test_hypotheses_never_exceed_the_limit(nats: float) -> None:
    """Everything might have begun anywhere, all the time."""
    n_events = 2 * N_HYPOTHESES
    space = space_of(n_events, 0.2, 10)
    evidence, recent = np.zeros((10, N_AGES + 1)), np.full(10, nats)
    counts: list[int] = []
    for _ in range(20):
        space.advance()
        space.update(evidence, 0.0, recent)
        counts.append(len(space.events))
        assert space.belief.sum() == pytest.approx(1.0, abs=1e-6)
    assert min(counts) > 0
    assert max(counts) <= N_HYPOTHESES
