"""Files at the edge: what is written is read, channel by channel, and what cannot be used is refused in words."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.audio import file
from rtserver.errors import AudioFileError


def noise(n_channels: int, n_frames: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1.0, 1.0, (n_channels, n_frames)).astype(np.float32)


@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_wav_keeps_every_bit(tmp_path: Path, n_channels: int) -> None:
    x = noise(n_channels, 1000) * 3.0  # beyond full scale too
    file.write(tmp_path / "a.wav", x, 48000)
    back, sample_rate = file.read(tmp_path / "a.wav")
    assert sample_rate == 48000
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, x)


def test_flac_keeps_24_bits(tmp_path: Path) -> None:
    x = noise(2, 1000)
    file.write(tmp_path / "a.flac", x, 44100)
    np.testing.assert_allclose(file.read(tmp_path / "a.flac")[0], x, atol=2.0**-23)


def test_ogg_keeps_length_and_rate(tmp_path: Path) -> None:
    file.write(tmp_path / "a.ogg", noise(2, 5000), 44100)
    assert file.info(tmp_path / "a.ogg") == file.Info(44100, 2, 5000)


@given(st.lists(st.integers(1, 700), min_size=1, max_size=6), st.integers(1, 500))
@settings(max_examples=20, deadline=None)
def test_how_it_is_cut_does_not_change_a_file(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], block_size: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.wav"
    x = noise(2, sum(sizes))
    with file.Writer(path, 48000, 2) as writer:
        for end, size in zip(np.cumsum(sizes), sizes, strict=True):
            writer.write(x[:, end - size : end])
    pieces = list(file.blocks(path, block_size))
    assert all(piece.shape[1] == block_size for piece in pieces[:-1])
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), x)


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    file.write(tmp_path / "new" / "folder" / "a.wav", noise(1, 10), 48000)
    assert file.info(tmp_path / "new" / "folder" / "a.wav").n_frames == 10


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match=r"none\.wav: no such file"):
        file.read(tmp_path / "none.wav")


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no sound at all" * 10)
    with pytest.raises(AudioFileError, match="not a WAV, FLAC or Ogg file"):
        file.info(tmp_path / "a.wav")


@pytest.mark.parametrize("sample_rate", [8000, 16000, 384000])
def test_a_rate_out_of_range_is_refused_with_a_remedy(tmp_path: Path, sample_rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(100), sample_rate)
    with pytest.raises(AudioFileError, match=f"got {sample_rate}; resample it first"):
        file.read(tmp_path / "a.wav")


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match=r"ending in \.wav, \.flac, \.ogg"):
        file.write(tmp_path / "a.mp4", noise(1, 10), 48000)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(AudioFileError, match="cannot be written"):
        file.write(tmp_path / "taken" / "a.wav", noise(1, 10), 48000)


def test_a_file_that_is_left_by_an_exception_leaves_what_was_there(tmp_path: Path) -> None:
    file.write(tmp_path / "a.wav", noise(1, 10), 48000)
    with pytest.raises(ZeroDivisionError), file.Writer(tmp_path / "a.wav", 48000, 2) as writer:
        writer.write(noise(2, 20))
        raise ZeroDivisionError
    np.testing.assert_array_equal(file.read(tmp_path / "a.wav")[0], noise(1, 10))
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


def test_a_disk_that_is_full_leaves_what_was_there(tmp_path: Path) -> None:
    file.write(tmp_path / "a.wav", noise(1, 10), 48000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(AudioFileError, match=r"a\.wav: cannot be written .* is the disk full\?"):
            file.write(tmp_path / "a.wav", noise(2, 1 << 16), 48000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.info(tmp_path / "a.wav").n_frames == 10


def test_behind_a_link_the_file_is_replaced(tmp_path: Path) -> None:
    file.write(tmp_path / "far" / "a.wav", noise(1, 10), 48000)
    (tmp_path / "a.wav").symlink_to(tmp_path / "far" / "a.wav")
    file.write(tmp_path / "a.wav", noise(1, 20), 48000)
    assert (tmp_path / "a.wav").is_symlink()
    assert file.info(tmp_path / "far" / "a.wav").n_frames == 20


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").mkdir()
    with pytest.raises(AudioFileError, match="expected the name of a file, got a folder"):
        file.write(tmp_path / "a.wav", noise(1, 10), 48000)
