"""Notes to events and back, and the chroma of the past."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.generation import vocabulary as v
from rtserver.generation.modes import Listener

notes = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 127), st.integers(1, 300)), min_size=1, max_size=40)


def columns(rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(c, np.int64) for c in zip(*rows, strict=True))


@given(notes)
def test_events_have_one_spelling_and_stay_inside_the_vocabulary(rows: list[tuple[int, int, int]]) -> None:
    onset, dt, pitch, duration = v.encode(*columns(rows))
    again = v.encode(*columns(rows[::-1]))
    assert all(np.array_equal(a, b) for a, b in zip((onset, dt, pitch, duration), again, strict=True))
    assert dt.min() >= 0 and dt.max() <= v.MAX_DT
    assert duration.min() >= 1 and duration.max() <= v.MAX_DURATION
    assert np.all(np.diff(pitch)[dt[1:] == 0] > 0), "in a chord pitches rise strictly"


@given(notes)
def test_what_is_encoded_decodes_to_the_same_notes(rows: list[tuple[int, int, int]]) -> None:
    rows = sorted({(on // 5, pitch): (on // 5, pitch, min(d, v.MAX_DURATION)) for on, pitch, d in rows}.values())  # no rest above 80 ticks
    onset, dt, pitch, duration = v.encode(*columns(rows))
    events = [v.NoteEvent(*e) for e in zip(dt.tolist(), pitch.tolist(), duration.tolist(), strict=True)]
    assert v.decode(events, start=int(onset[0])) == rows


@given(st.integers(0, 5000))
def test_a_folded_rest_keeps_the_beat_phase(dt: int) -> None:
    assert v.fold(dt) <= v.MAX_DT
    assert (v.fold(dt) - dt) % v.N_PHASE == 0


@given(notes, st.lists(st.integers(0, 700), min_size=1, max_size=10))
def test_the_listener_hears_what_the_training_data_say(rows: list[tuple[int, int, int]], looks: list[int]) -> None:
    """The same chroma in closed form and step by step."""
    last: dict[int, int] = {}
    kept: list[tuple[int, int, int]] = []
    for on, pitch, d in sorted(rows):  # one key cannot be down twice
        if on > last.get(pitch, -1):
            kept.append((on, pitch, d))
            last[pitch] = on + d
    onset, pitch, duration = columns(kept)
    ticks = np.array(sorted(looks))
    expected = v.chroma_heard(onset, onset + duration, pitch, ticks)
    moments = sorted([(on + d, 0, p) for on, p, d in kept] + [(on, 1, p) for on, p, _ in kept] + [(t, 2, -1) for t in looks])
    listener, found = Listener(), []
    for tick, kind, key in moments:
        listener.advance(tick)
        if kind == 2:
            found.append(listener.heard.copy())
        else:
            listener.key(key, kind == 1)
    np.testing.assert_allclose(np.array(found), expected, atol=1e-3)


def test_what_is_asked_for_is_marked_as_asked_for() -> None:
    assert not v.controls().any()
    assert v.controls(density=7.0).tolist() == [1.0, 1.0, 0.0, 0.0]
    assert v.controls(register=84.0).tolist() == [0.0, 0.0, 1.0, 1.0]


def test_what_comes_has_its_loudest_pitch_class_at_one() -> None:
    assert not v.ahead(None).any()
    weights = np.zeros((2, 12))
    weights[0, [0, 7]] = 24, 48
    found = v.ahead(weights)
    assert found.nonzero()[0].tolist() == [0, 7, 24]
    assert (found[0], found[7], found[24]) == (0.5, 1.0, 1.0)


@given(st.integers(-500, 500), st.integers(-200, 200), st.sampled_from([36, 48, 72, 96, 144]))
def test_a_bar_begins_at_its_line(tick: int, line: int, bar: int) -> None:
    place, eighths = v.bar_place(tick, line, bar)
    assert 1 <= place <= bar and eighths * 12 == bar
    assert (place == 1) == ((tick - line) % bar == 0)


@pytest.mark.parametrize("bar", [0, 90, 156])
def test_a_bar_that_the_model_cannot_know_is_unknown(bar: int) -> None:
    assert v.bar_place(30, 0, bar) == (0, 0)


@given(notes, st.lists(st.integers(0, 700), min_size=2, max_size=10, unique=True))
def test_chroma_between_counts_sounding_ticks(rows: list[tuple[int, int, int]], looks: list[int]) -> None:
    onset, pitch, duration = columns(rows)
    edges = np.array(sorted(looks))
    found = v.chroma_between(onset, onset + duration, pitch, edges)
    for k, (a, b) in enumerate(pairwise(edges.tolist())):
        counted = np.zeros(12)
        for on, p, d in rows:
            counted[p % 12] += max(0, min(on + d, b) - max(on, a))
        np.testing.assert_allclose(found[k], counted)


def test_chroma_is_past_only() -> None:
    on, off, pitch, looks = (np.array(a) for a in ([10, 50], [20, 60], [60, 62], [49]))
    heard = v.chroma_heard(on, off, pitch, looks)
    assert heard[0, 0] > 0 and heard[0, 2] == 0


def test_a_condition_says_whether_there_is_somebody_to_hear() -> None:
    assert not v.condition(None).any()
    assert v.condition(np.zeros(12)).tolist() == [0.0] * 12 + [1.0]
    assert v.condition(np.arange(12)).max() == 1.0
    assert np.isfinite(v.condition(np.full(12, np.nan))).all()
