"""Off-line alignment: the cheapest path, and the levels that make it affordable."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.demo import SCORE
from rtserver.following import alignment
from rtserver.following.alignment import align, align_files, onset_times, warp
from rtserver.following.reference import build_reference
from rtserver.following.score import load_score


def cost(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], path: npt.NDArray[np.int64]) -> float:
    return float(0.5 * np.sum((a[path[:, 0]] - b[path[:, 1]]) ** 2))


def cheapest(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """The same by the textbook, cell by cell."""
    d = 0.5 * np.sum((a[:, None] - b[None]) ** 2, axis=2, dtype=np.float64)
    total = np.full((len(a) + 1, len(b) + 1), np.inf)
    total[0, 0] = 0.0
    for i in range(len(a)):
        for j in range(len(b)):
            total[i + 1, j + 1] = d[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    return float(total[-1, -1])


def random(n: int, seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, 4)).astype(np.float32)


@settings(max_examples=40)
@given(st.integers(1, 25), st.integers(1, 25), st.integers(0, 10**6))
def test_the_path_is_a_path_and_none_is_cheaper(n: int, m: int, seed: int) -> None:
    a, b = random(n, seed), random(m, seed + 1)
    path = warp(a, b)
    steps = np.diff(path, axis=0)
    assert (path[0].tolist(), path[-1].tolist()) == ([0, 0], [n - 1, m - 1])
    assert set(map(tuple, steps.tolist())) <= {(1, 1), (1, 0), (0, 1)}
    assert cost(a, b, path) == pytest.approx(cheapest(a, b), rel=1e-4)


def test_a_band_is_kept() -> None:
    a, b = random(30, 1), random(30, 2)
    first, last = np.maximum(np.arange(30) - 2, 0), np.minimum(np.arange(30) + 3, 30)
    path = warp(a, b, first, last)
    assert np.abs(path[:, 0] - path[:, 1]).max() <= 2


def test_level_by_level_it_finds_what_the_whole_matrix_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "SMALL", 100)
    b = np.cumsum(random(900, 3), axis=0)
    times = np.interp(np.linspace(0, 899, 1300), [0, 300, 600, 899], [0, 200, 700, 899])
    a = b[times.astype(int)] + 0.05 * random(1300, 4)
    path = align(a, b)
    assert np.abs(path[:, 1] - times[path[:, 0]]).max() <= 8


def test_the_onsets_of_a_performance_at_another_speed_are_found() -> None:
    score = load_score(SCORE)
    features = build_reference(score).features
    silence = np.zeros((100, features.shape[1]), np.float32)
    slow = features[np.arange(0, len(features), 0.8).astype(int)]
    quarters, seconds = onset_times(score, np.concatenate((silence, slow)))
    expected = 1.0 + np.array([build_reference(score).frame_of(float(q)) for q in quarters]) / 80
    assert np.median(np.abs(seconds - expected)) <= 0.02
    assert np.abs(seconds - expected).max() <= 0.15


def test_files_give_a_row_for_each_onset(tmp_path: Path) -> None:
    """The score as its own performance; a MIDI score lasts as long as it says."""
    import mido

    take = mido.MidiFile(ticks_per_beat=480)
    track = take.add_track()
    for pitch in (60, 64, 67, 72, 71, 67, 62, 60):
        track += [mido.Message("note_on", note=pitch, velocity=70), mido.Message("note_off", note=pitch, time=480)]
    take.save(tmp_path / "take.mid")
    align_files(tmp_path / "take.mid", tmp_path / "take.mid", tmp_path / "out.csv")
    header, *rows = [line.split(",") for line in (tmp_path / "out.csv").read_text().split()]
    assert header == ["score_quarter", "score_beat", "time_s"]
    assert [float(row[0]) for row in rows] == list(range(8))
    assert [float(row[2]) for row in rows] == pytest.approx([0.5 * k for k in range(8)], abs=0.03)
