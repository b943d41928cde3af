"""Following from file to file, on the embedded demonstration: a human-like performance with a skipped repeat and a pause."""

from __future__ import annotations

import csv
from pathlib import Path

import mido
import numpy as np
import pytest

import rtserver.demo
from rtserver.dsp.layout import LEVEL
from rtserver.errors import ScoreError
from rtserver.following.follower import Follower
from rtserver.following.offline import COLUMNS, follow, follow_audio, follow_midi, midi_features
from rtserver.following.score import load_score

DEMO = Path(rtserver.demo.__file__).parent
SCORE = DEMO / "score.musicxml"


def error_s(rows: list[tuple[float, float]]) -> np.ndarray:
    """Seconds by which each onset was reached late, within its segment."""
    with (DEMO / "truth.csv").open() as file:
        truth = list(csv.DictReader(file))
    t, quarter = np.array(rows).T
    late: list[float] = []
    for segment in sorted({row["segment"] for row in truth}):
        onsets = [(float(row["score_quarter"]), float(row["perf_time_s"])) for row in truth if row["segment"] == segment]
        inside = (quarter >= onsets[0][0] - 1.0) & (t >= onsets[0][1] - 0.5)
        reached = np.maximum.accumulate(np.where(inside, quarter, -np.inf))
        late += [float(t[min(int(np.searchsorted(reached, q - 0.003)), len(t) - 1)]) - p for q, p in onsets]
    return np.array(late)


def test_a_recording_is_followed_into_a_table(tmp_path: Path) -> None:
    follow(SCORE, DEMO / "performance.flac", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    t = np.array([float(row["t_avail"]) for row in rows])
    assert (np.diff(t) > 0).all()
    late = np.abs(error_s([(float(row["t_avail"]), float(row["score_quarter"])) for row in rows]))
    assert np.mean(late < 0.1) > 0.8
    assert np.median(late) < 0.05


def test_midi_takes_the_same_way() -> None:
    rows = follow_midi(Follower(load_score(SCORE)), DEMO / "performance.mid")
    assert np.mean(np.abs(error_s([(row[0], row[1]) for row in rows])) < 0.1) > 0.8


def test_a_recording_of_silence_is_waited_through() -> None:
    rows = follow_audio(Follower(load_score(SCORE)), np.zeros((2, 48000), np.float32), 48000)
    assert [row[5] for row in rows] == ["WAITING"]
    assert -0.02 < rows[0][1] < 0.0


def test_the_pedal_prolongs_midi_notes(tmp_path: Path) -> None:
    def level_after(pedal: int) -> float:
        file = mido.MidiFile(ticks_per_beat=480)
        track = file.add_track()
        track += [mido.Message("control_change", control=64, value=pedal), mido.Message("note_on", note=60, velocity=64)]
        track += [mido.Message("note_off", note=60, time=96), mido.Message("control_change", control=64, value=0, time=960)]
        file.save(tmp_path / "pedal.mid")
        return float(midi_features(tmp_path / "pedal.mid")[60, LEVEL])

    assert level_after(127) > level_after(0) + 20.0


def test_a_broken_midi_performance_is_refused(tmp_path: Path) -> None:
    (tmp_path / "take.mid").write_bytes(b"MThd nothing")
    with pytest.raises(ScoreError, match=r"take\.mid"):
        midi_features(tmp_path / "take.mid")
