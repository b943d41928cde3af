"""A growing WAV is whole at every moment, and beyond 4 GB."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.errors import AudioFileError
from rtserver.recording.wave import HEADER, LARGEST, Wave

RATE = 48000


def noise(n_frames: int, n_channels: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-2, 2, (n_channels, n_frames)).astype(np.float32)


def read(path: Path) -> np.ndarray:
    x, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate == RATE
    return x.T


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, 3000), max_size=5), n_channels=st.integers(1, 4))
def test_after_every_piece_the_file_holds_what_was_written(tmp_path_factory, sizes: list[int], n_channels: int) -> None:
    path = tmp_path_factory.mktemp("w") / "a.wav"
    x = noise(sum(sizes), n_channels)
    wave = Wave(path, RATE, n_channels)
    n = 0
    for size in sizes:
        wave.write(x[:, n : n + size])
        n += size
        np.testing.assert_array_equal(read(path), x[:, :n])
    wave.close()


def test_silence_takes_no_room(tmp_path: Path) -> None:
    path, x = tmp_path / "a.wav", noise(1000)
    wave = Wave(path, RATE, 2)
    wave.write(x)
    wave.skip(RATE * 600)
    wave.write(x)
    wave.close()
    assert path.stat().st_blocks * 512 < 1 << 20
    with soundfile.SoundFile(path) as file:
        assert file.frames == 2000 + RATE * 600
        file.seek(1000 + RATE * 600)
        np.testing.assert_array_equal(file.read(dtype="float32").T, x)


def test_beyond_4_gb_it_is_rf64(tmp_path: Path) -> None:
    path, x = tmp_path / "a.wav", noise(1000)
    wave = Wave(path, RATE, 2)
    try:
        wave.skip(LARGEST // 8)
    except OSError:
        pytest.skip("this file system holds no file of 4 GB")
    wave.write(x)
    wave.close()
    assert path.read_bytes()[:4] == b"RF64" if path.stat().st_size < 1 << 20 else _first(path) == b"RF64"
    with soundfile.SoundFile(path) as file:
        assert file.frames == LARGEST // 8 + 1000
        file.seek(LARGEST // 8)
        np.testing.assert_array_equal(file.read(dtype="float32").T, x)


def _first(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def test_a_successor_goes_on_where_the_file_ends(tmp_path: Path) -> None:
    path, x = tmp_path / "a.wav", noise(3000)
    wave = Wave(path, RATE, 2)
    wave.write(x[:, :2000])
    wave.close()
    with path.open("ab") as file:
        file.write(b"\1\2\3")  # a piece that a death cut short
    wave = Wave(path, RATE, 2, resume=True)
    assert wave.n_frames == 2000
    wave.write(x[:, 2000:])
    wave.close()
    np.testing.assert_array_equal(read(path), x)


@pytest.mark.parametrize(("rate", "n_channels"), [(44100, 2), (RATE, 1)])
def test_a_file_of_another_kind_is_not_gone_on_with(tmp_path: Path, rate: int, n_channels: int) -> None:
    Wave(tmp_path / "a.wav", rate, n_channels).close()
    with pytest.raises(AudioFileError, match=f"expected 48000 Hz, 2 channels, got {rate} Hz, {n_channels}"):
        Wave(tmp_path / "a.wav", RATE, 2, resume=True)


def test_what_is_no_wav_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("diary")
    with pytest.raises(AudioFileError, match="move it away"):
        Wave(tmp_path / "a.wav", RATE, 2, resume=True)


def test_a_full_disk_leaves_the_pieces_before(tmp_path: Path) -> None:
    path, x = tmp_path / "a.wav", noise(3000)
    wave = Wave(path, RATE, 2)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HEADER.size + 8 * 2500, limits[1]))
    try:
        wave.write(x[:, :2000])
        with pytest.raises(OSError, match="File too large"):
            wave.write(x[:, 2000:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        wave.close()
    np.testing.assert_array_equal(read(path), x[:, :2000])


def test_a_deleted_file_is_noticed(tmp_path: Path) -> None:
    wave = Wave(tmp_path / "a.wav", RATE, 2)
    assert not wave.gone
    os.unlink(wave.path)
    assert wave.gone
    wave.close()
