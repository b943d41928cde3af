"""What a score expects of a moment: the same in training and live, keys as the network hears them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.separation.scores import score_features
from rtserver.demo import SCORE
from rtserver.following.score import load_score
from rtserver.separation.expected import FADE, LOWEST, N_KEYS, Expected
from rtserver.separation.model import N_SCORE

HOP = 256
times = st.floats(-20000.0, 60000.0, width=32)
notes = st.lists(st.tuples(st.floats(15.0, 115.0), times, st.floats(0.0, 30000.0)), max_size=12)


def by_definition(rows: list[tuple[float, float, float]], at: float) -> np.ndarray:
    """Note by note and lane by lane."""
    out = np.zeros(N_SCORE, np.float32)
    out[-1] = 1.0
    for key, onset, length in rows:
        for lane in range(N_KEYS):
            share = max(1.0 - abs(key - (lane + LOWEST)), 0.0)
            if onset <= at < onset + length:
                out[lane] = max(out[lane], share)
            out[N_KEYS + lane] = max(out[N_KEYS + lane], share * max(1.0 - abs(at - onset) / FADE, 0.0))
    return out


def told(expected: Expected, at: float, frames: float = 1.0) -> np.ndarray:
    out = np.full(N_SCORE, np.nan, np.float32)
    expected.tell(at, frames, out)
    return out


def of(rows: list[tuple[float, float, float]]) -> Expected:
    return Expected.of([r[0] for r in rows], [r[1] for r in rows], [r[1] + r[2] for r in rows])


@given(rows=notes, at=times)
def test_it_is_what_the_definition_says_of_any_notes(rows: list[tuple[float, float, float]], at: float) -> None:
    np.testing.assert_allclose(told(of(rows), at), by_definition(rows, at), atol=1e-6)


@given(rows=notes)
def test_training_is_told_the_same_at_the_end_of_each_hop(rows: list[tuple[float, float, float]]) -> None:
    table = np.array([(key, onset, onset + length, 1.0 + k % 2) for k, (key, onset, length) in enumerate(rows)]).reshape(-1, 4)
    drums = np.array([[36.0, 0.0, 9000.0, 0.0]])
    features = score_features(np.concatenate([drums, table]), 100, shift=77.0)
    for i in (0, 1, 50, 99):
        np.testing.assert_array_equal(features[i], told(of(rows), (i + 1.0) * HOP - 77.0))


@given(rows=notes, at=times, frames=st.floats(5000.0, 60000.0))
def test_quarters_at_a_tempo_are_frames(rows: list[tuple[float, float, float]], at: float, frames: float) -> None:
    """A live place is in quarters; what is told is that of the frames which they take."""
    quarters = Expected.of([r[0] for r in rows], [r[1] / frames for r in rows], [(r[1] + r[2]) / frames for r in rows])
    edges = [abs(at - edge) for _, onset, length in rows for edge in (onset, onset + length)]
    if min(edges, default=1.0) > 1e-6:  # on an edge itself either is right
        np.testing.assert_allclose(told(quarters, at / frames, frames), told(of(rows), at), atol=1e-5)


def test_a_note_that_sounds_under_many_others_is_not_forgotten() -> None:
    rows = [(40.0, 0.0, 1e6), *((60.0 + k % 12, 1000.0 * k, 500.0) for k in range(1, 200))]
    assert told(of(rows), 150_700.0)[40 - LOWEST] == 1.0


def test_without_notes_there_is_a_score_all_the_same() -> None:
    out = told(Expected.of([], [], []), 0.0)
    assert out[-1] == 1.0 and not out[:-1].any()


@pytest.mark.parametrize(("sample_rate", "tuning_hz", "shift"), [(44100, 440.0, 0.0), (48000, 440.0, -1.4671), (44100, 415.3047, -1.0)])
def test_keys_are_those_that_the_network_hears(sample_rate: int, tuning_hz: float, shift: float) -> None:
    """It counts bins, and at 48 kHz every sound lies in lower ones."""
    score = load_score(SCORE, tuning_hz=tuning_hz)
    expected = Expected.in_score(score, sample_rate)
    order = np.argsort(score.notes.onset_quarter, kind="stable")
    np.testing.assert_allclose(expected.key - score.notes.pitch[order], shift, atol=1e-3)
    np.testing.assert_array_equal(expected.end - expected.onset, score.notes.duration_quarter[order])
