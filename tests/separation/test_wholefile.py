"""A whole file split by kernel additive modelling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtserver.audio import file
from rtserver.dsp.backfitting import Model
from rtserver.dsp.proximity import broad, cross, steady
from rtserver.errors import AudioFileError, ConfigError, SpecError
from rtserver.separation.wholefile import WHOLE, default_kernels, n_steps, parse_kernel, separate_whole, source, spectra

RATE = 48000


@pytest.fixture
def take(tmp_path: Path) -> Path:
    """A tone on the left and clicks on the right, of a length that no hop divides."""
    time_s = np.arange(60011) / RATE
    x = np.stack([0.4 * np.sin(2 * np.pi * 440.0 * time_s), np.where(np.arange(60011) % 12000 == 6000, 0.9, 0.0)])
    file.write(tmp_path / "take.wav", x.astype(np.float32), RATE)
    return tmp_path / "take.wav"


@pytest.mark.parametrize("spatial", ["off", "paper", "power"])
def test_the_sources_are_told_apart_and_sum_to_the_input(spatial, take: Path, tmp_path: Path) -> None:
    files = separate_whole(take, tmp_path / "out", spatial=spatial)
    assert [f.name for f in files] == ["harmonic.wav", "percussive.wav"]
    x, (harmonic, rate), (percussive, _) = file.read(take)[0], *(file.read(f) for f in files)
    assert rate == RATE
    assert harmonic.shape == x.shape
    np.testing.assert_allclose(harmonic + percussive, x, atol=1e-6)
    away = slice(4096, -4096)
    assert np.sum((harmonic[0] - x[0])[away] ** 2) < 1e-3 * np.sum(x[0] ** 2)
    assert np.sum(harmonic[1, away] ** 2) < 0.05 * np.sum(x[1] ** 2)


def test_any_number_of_sources_by_kernels_of_ones_own(take: Path, tmp_path: Path) -> None:
    kernels = {"hum": steady(31), "voice": cross(7, 7), "hit": broad(17)}
    files = separate_whole(take, tmp_path / "out", kernels, 1)
    assert [f.stem for f in files] == list(kernels)
    np.testing.assert_allclose(sum(file.read(f)[0] for f in files), file.read(take)[0], atol=1e-6)


def test_every_frame_is_under_as_many_windows() -> None:
    """The first and the last too: what nothing is done to comes back."""
    signal = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 5000)).astype(np.float32)
    x = spectra(signal, RATE)
    everything = Model(np.ones((1, *x.shape[1:]), np.float32), np.empty((1, x.shape[1], 2, 2), np.complex128), places=False)
    np.testing.assert_allclose(source(everything, x, 0, 5000, RATE), signal, atol=1e-6)


@pytest.mark.parametrize("sample_rate", [22050, 44100, 96000])
def test_kernels_keep_their_meaning_in_seconds_and_hertz(sample_rate: int) -> None:
    kernels, preset = default_kernels(sample_rate), WHOLE.at(sample_rate)
    assert kernels["harmonic"].shape[1] * preset.hop_size / sample_rate == pytest.approx(17 * 1024 / 46000, rel=0.1)
    assert kernels["percussive"].shape[0] * sample_rate / preset.window_size == pytest.approx(17 * 46000 / 4096, rel=0.1)


def test_progress_adds_up_to_what_was_said(take: Path, tmp_path: Path) -> None:
    done: list[int] = []
    separate_whole(take, tmp_path / "out", iterations=2, progress=done.append)
    assert sum(done) == n_steps(take, 2)


def test_an_empty_file_leaves_empty_files(tmp_path: Path) -> None:
    file.write(tmp_path / "empty.wav", np.zeros((2, 0), np.float32), RATE)
    files = separate_whole(tmp_path / "empty.wav", tmp_path / "out")
    assert [file.info(f).n_frames for f in files] == [0, 0]
    assert n_steps(tmp_path / "empty.wav", 2) == 0


def test_a_missing_input_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError):
        separate_whole(tmp_path / "none.wav", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_kernel_that_is_none_is_refused_by_its_name(take: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="hum: a proximity kernel"):
        separate_whole(take, tmp_path / "out", {"hum": np.ones((2, 2), bool), "hit": broad(17)})
    assert not (tmp_path / "out").exists()


def test_a_kernel_is_read_from_text() -> None:
    name, kernel = parse_kernel("hum=1x101")
    assert (name, kernel.shape, kernel.all()) == ("hum", (1, 101), True)


@pytest.mark.parametrize("text", ["", "hum", "hum=1", "=1x3", "hum=2x3", "hum=0x1", "hum=1x1003", "a b=1x3", "hum=-1x3", "../hum=1x3"])
def test_text_that_is_no_kernel_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="NAME=BINSxSPECTRA"):
        parse_kernel(text)
