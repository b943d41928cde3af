"""FLAC in segments: whole ones are FLAC, the one that a crash cut short is WAV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtserver.errors import AudioFileError
from rtserver.recording import flac
from rtserver.recording.flac import Flac

RATE = 48000
SEGMENT = 4800


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flac, "SEGMENT_S", SEGMENT / RATE)


def noise(n_frames: int) -> np.ndarray:
    steps = np.random.default_rng(0).integers(-(1 << 23), 1 << 23, (2, n_frames))
    return (steps / (1 << 23)).astype(np.float32)  # what 24 bits hold exactly


def whole(folder: Path) -> dict[int, np.ndarray]:
    """Segments by their first frame."""
    return {int(p.stem.split("-")[1]): soundfile.read(p, dtype="float32")[0].T for p in sorted(folder.glob("input-*"))}


def test_segments_follow_each_other_without_a_seam(tmp_path: Path) -> None:
    x = noise(3 * SEGMENT + 1000)
    file = Flac(tmp_path / "input.flac", RATE, 2)
    for start in range(0, x.shape[1], 777):
        file.write(x[:, start : start + 777])
    file.close()
    assert {p.suffix for p in tmp_path.iterdir()} == {".flac"}
    segments = whole(tmp_path)
    assert list(segments) == [0, SEGMENT, 2 * SEGMENT, 3 * SEGMENT]
    np.testing.assert_array_equal(np.concatenate(list(segments.values()), axis=1), x)


def test_a_gap_is_told_by_the_name_of_the_next_segment(tmp_path: Path) -> None:
    x = noise(2000)
    file = Flac(tmp_path / "input.flac", RATE, 2)
    file.write(x[:, :1000])
    file.skip(500)
    file.write(x[:, 1000:])
    file.close()
    segments = whole(tmp_path)
    assert list(segments) == [0, 1500]
    np.testing.assert_array_equal(segments[1500], x[:, 1000:])


def test_after_a_crash_the_last_segment_is_wav_and_a_successor_begins_after_it(tmp_path: Path) -> None:
    x = noise(2 * SEGMENT)
    dead = Flac(tmp_path / "input.flac", RATE, 2)
    dead.write(x[:, : SEGMENT + 1000])  # and no close
    assert {p.name for p in tmp_path.glob("*.wav")} == {f"input-{SEGMENT:012d}.wav"}
    file = Flac(tmp_path / "input.flac", RATE, 2, resume=True)
    assert file.n_frames == SEGMENT + 1000
    file.write(x[:, SEGMENT + 1000 :])
    file.close()
    segments = whole(tmp_path)
    assert list(segments) == [0, SEGMENT, SEGMENT + 1000]
    np.testing.assert_array_equal(np.concatenate(list(segments.values()), axis=1), x)


def test_more_channels_than_flac_holds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match=r"recording\.format"):
        Flac(tmp_path / "input.flac", RATE, 9)
