"""Notes to events and back, and the chroma of the past."""

import numpy as np
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


def test_chroma_is_past_only() -> None:
    on, off, pitch, looks = (np.array(a) for a in ([10, 50], [20, 60], [60, 62], [49]))
    heard = v.chroma_heard(on, off, pitch, looks)
    assert heard[0, 0] > 0 and heard[0, 2] == 0


def test_a_condition_says_whether_there_is_somebody_to_hear() -> None:
    assert not v.condition(None).any()
    assert v.condition(np.zeros(12)).tolist() == [0.0] * 12 + [1.0]
    assert v.condition(np.arange(12)).max() == 1.0
    assert np.isfinite(v.condition(np.full(12, np.nan))).all()
