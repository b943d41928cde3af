"""A recording with known beats as the reference: what its beats may be, and what is followed by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.audio.file import write
from rtserver.errors import ScoreError
from rtserver.following.alignment import align_files
from rtserver.following.follower import Follower
from rtserver.following.offline import follow_audio
from rtserver.following.recorded import Beats, read_beats, recorded_reference
from rtserver.following.score import Score
from tests.following.music import score_of, study
from tests.support.synthesiser import played

SCORE = study(32)


def table(tmp_path: Path, *rows: str, names: str = "time_s,quarter") -> Path:
    path = tmp_path / "take.csv"
    path.write_text("\n".join((names, *rows)) + "\n")
    return path


def rubato(score: Score) -> Score:
    """The same at 150, 90 and 120 quarters a minute, one after the other."""
    return replace(score, tempo_quarter=np.array([0.0, 10.0, 20.0]), tempo_bpm=np.array([150.0, 90.0, 120.0]))


def with_beats(score: Score) -> tuple[np.ndarray, int, Beats]:
    """A take of `score` that begins with half a second of silence, and its crotchets."""
    signal, sample_rate = played(score)
    quarter = np.arange(33.0)
    signal = np.concatenate((np.zeros((2, sample_rate // 2), np.float32), signal), axis=1)
    return signal, sample_rate, Beats(score.seconds_at(quarter) + 0.5, quarter)


def test_rows_become_beats(tmp_path: Path) -> None:
    beats = read_beats(table(tmp_path, "0.5,0", "", " 1.25 , 1 ", "1.25,1.5"))
    assert (beats.time_s.tolist(), beats.quarter.tolist()) == ([0.5, 1.25, 1.25], [0.0, 1.0, 1.5])


def test_other_columns_do_no_harm(tmp_path: Path) -> None:
    beats = read_beats(table(tmp_path, "0,4,0.5", "1,5,1.5", names="score_quarter,score_beat,time_s"))
    assert (beats.time_s.tolist(), beats.quarter.tolist()) == ([0.5, 1.5], [0.0, 1.0])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["0,0", "1"], r"take\.csv row 3: expected a number for quarter, found ''"),
        (["0,0", "one,1"], r"take\.csv row 3: expected a number for time_s, found 'one'"),
        (["0,0", "nan,1"], r"row 3: expected a number for time_s, found 'nan'"),
        (["-1,0", "1,1"], r"row 2: expected time_s from 0 on, found -1"),
        (["0,0", "2,1", "1.5,2"], r"row 4: time_s goes back from 2 to 1\.5"),
        (["0,0", "1,1", "2,1"], r"row 4: quarter must rise, found 1 after 1"),
        (["0,0"], r"take\.csv: expected at least two beats at different times, found 1 row"),
        (["1,0", "1,1"], r"at least two beats at different times, found 2 row"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(ScoreError, match=message):
        read_beats(table(tmp_path, *rows))


def test_wrong_names_are_told(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match=r"row 1: expected the names time_s,quarter, found 'seconds,beat'"):
        read_beats(table(tmp_path, "0,0", names="seconds,beat"))


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match=r"none\.csv: no such file of beats; rtserver align"):
        read_beats(tmp_path / "none.csv")


@given(st.binary(max_size=300))
def test_whatever_lies_in_the_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("beats") / "take.csv"
    for head in (b"", b"time_s,quarter\n"):
        path.write_bytes(head + content)
        try:
            beats = read_beats(path)
        except ScoreError as error:
            assert "take.csv" in str(error)
        else:
            assert (np.diff(beats.quarter) > 0).all()
            assert (np.diff(beats.time_s) >= 0).all()


def test_the_reference_lies_where_the_beats_are() -> None:
    take = rubato(SCORE)
    reference = recorded_reference(SCORE, *with_beats(take))
    frames = np.array([reference.frame_of(q) for q in (0.0, 5.0, 15.0, 25.0, 31.0)])
    assert frames[0] == 0
    np.testing.assert_allclose(frames * 0.01, take.seconds_at(np.array([0.0, 5.0, 15.0, 25.0, 31.0])), atol=0.011)
    assert reference.tempo_bpm[frames[1:4]] == pytest.approx([150.0, 90.0, 120.0], rel=0.02)


def test_its_notes_begin_where_its_features_rise() -> None:
    reference = recorded_reference(SCORE, *with_beats(rubato(SCORE)))
    rise = np.linalg.norm(reference.match[:, 12:], axis=1)
    at = np.array([rise[f + 1 : f + 6].max() for f in reference.onset[1:-1]])
    assert np.median(at) > 2.0 * np.median(rise)


@pytest.mark.parametrize("method", ["dixon", "arzt"])
def test_another_performance_is_followed_by_it(method: str) -> None:
    reference = recorded_reference(SCORE, *with_beats(rubato(SCORE)))
    rows = follow_audio(Follower(SCORE, method, reference), *played(SCORE))
    t, quarter = np.array([row[:2] for row in rows]).T
    inside = (t > 3.0) & (t < 15.5)
    assert np.abs(quarter - 2.0 * t)[inside].max() < 0.35
    # the tempo is that of the player, not that of the recording
    assert np.median([row[3] for row in rows if 12.0 < row[0] < 15.0]) == pytest.approx(120.0, rel=0.15)


def test_what_align_writes_is_taken_for_beats(tmp_path: Path) -> None:
    """A take without beats is aligned first."""
    from rtserver.following.rendered import as_midi

    (tmp_path / "score.mid").write_bytes(as_midi(SCORE))
    signal, sample_rate = played(rubato(SCORE))
    write(tmp_path / "take.wav", signal, sample_rate)
    align_files(tmp_path / "score.mid", tmp_path / "take.wav", tmp_path / "beats.csv")
    beats = read_beats(tmp_path / "beats.csv")
    error = beats.time_s - rubato(SCORE).seconds_at(beats.quarter)
    assert np.median(np.abs(error)) < 0.03
    reference = recorded_reference(SCORE, signal, sample_rate, beats)
    rows = follow_audio(Follower(SCORE, "arzt", reference), signal, sample_rate)
    t, quarter = np.array([row[:2] for row in rows]).T
    inside = (t > 2.0) & (t < rubato(SCORE).seconds_at(31.0))
    assert np.median(np.abs(quarter - rubato(SCORE).quarter_at(t))[inside]) < 0.1


@pytest.mark.parametrize(
    ("time_s", "quarter", "message"),
    [
        ([0.0, 20.0], [0.0, 32.0], r"the last beat lies at 20\.00 s, the recording ends at 15\.00 s: is it another take\?"),
        ([0.0, 15.0], [0.0, 60.0], r"the beats go up to quarter 60, the score as unfolded to 32"),
        ([0.0, 8.0], [0.0, 16.0], r"the beats cover quarters 0 to 16, the score as unfolded has notes from 0 to 31"),
        ([5.0, 14.0], [12.0, 30.0], r"the beats cover quarters 12 to 30"),
        ([1.0, 14.5], [6.0, 30.0], r"by its beats the piece lasts from -2\.38 to 15\.06 s of the recording.*is it cut off"),
    ],
)
def test_beats_that_do_not_fit_are_refused(time_s: list[float], quarter: list[float], message: str) -> None:
    written = [(float(i), 1.0, 60 + i % 12) for i in range(32)]
    silence = np.zeros((1, 15 * 48000), np.float32)
    with pytest.raises(ScoreError, match=message):
        recorded_reference(score_of(written), silence, 48000, Beats(np.array(time_s), np.array(quarter)))


def test_a_hop_that_is_not_ten_milliseconds_does_not_drift() -> None:
    """At 22.05 kHz a hop has 220 samples and not 220.5."""
    score = study(32)
    signal, _ = played(score)
    half = np.ascontiguousarray(0.5 * (signal[:, : signal.shape[1] // 2 * 2 : 2] + signal[:, 1 : signal.shape[1] // 2 * 2 : 2]))
    quarter = np.arange(33.0)
    reference = recorded_reference(score, half, 22050, Beats(score.seconds_at(quarter), quarter))
    assert reference.quarter[-100] == pytest.approx(2.0 * 220 / 22050 * (len(reference) - 100), abs=1e-6)
