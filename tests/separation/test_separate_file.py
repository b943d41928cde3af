"""A file split by the live nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from rtserver.audio import file
from rtserver.config import Separation
from rtserver.dsp.hpss import PRESETS
from rtserver.errors import AudioFileError, ConfigError
from rtserver.graph import Graph
from rtserver.node import Spec
from rtserver.separation.offline import separate
from rtserver.separation.wholefile import separate_whole

RATE = 48000
STAGE = Separation("stage")


@pytest.fixture
def take(tmp_path: Path) -> Path:
    """A tone with clicks, of a length that no hop divides."""
    time_s = np.arange(30011) / RATE
    x = np.stack([0.4 * np.sin(2 * np.pi * 440.0 * time_s), 0.2 * np.sin(2 * np.pi * 990.0 * time_s)])
    x[:, ::6000] += 0.5
    file.write(tmp_path / "take.wav", x.astype(np.float32), RATE)
    return tmp_path / "take.wav"


def test_the_parts_are_aligned_and_sum_to_the_input(take: Path, tmp_path: Path) -> None:
    files = separate(take, tmp_path / "out", STAGE)
    assert [f.name for f in files] == ["harmonic.wav", "percussive.wav"]
    x, (harmonic, rate), (percussive, _) = file.read(take)[0], *(file.read(f) for f in files)
    assert rate == RATE
    assert harmonic.shape == x.shape
    np.testing.assert_allclose(harmonic + percussive, x, atol=2e-6)


@pytest.mark.parametrize("mask", ["soft", "hard"])
def test_margins_leave_a_residual_and_all_three_sum_to_the_input(mask: Literal["soft", "hard"], take: Path, tmp_path: Path) -> None:
    files = separate(take, tmp_path / "out", Separation("stage", mask, 2.0, 2.0, 1.5))
    assert [f.name for f in files] == ["harmonic.wav", "percussive.wav", "residual.wav"]
    parts = [file.read(f)[0] for f in files]
    np.testing.assert_allclose(sum(parts), file.read(take)[0], atol=2e-6)
    assert np.abs(parts[2]).max() > 1e-3


def test_masks_out_of_range_are_refused_by_name(take: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"margin_percussive: expected 1 to 16"):
        separate(take, tmp_path / "out", Separation(margin_percussive=0.5))
    assert not (tmp_path / "out").exists()


def test_it_is_the_graph_that_freewheels(take: Path, tmp_path: Path) -> None:
    """Hop by hop from file to file is bit for bit the same as the whole signal at once."""
    stft, hpss, istft = PRESETS["stage"].nodes()
    graph = Graph()
    graph.add("stft", stft)
    graph.add("hpss", hpss, after="stft")
    graph.add("istft", istft, after="hpss")
    graph.output("harmonic", after="istft", label="harmonic")
    graph.prepare(Spec.signal(RATE, 2, stft.hop_size))
    files = separate(take, tmp_path / "out", STAGE)
    np.testing.assert_array_equal(file.read(files[0])[0], graph.freewheel(file.read(take)[0])["harmonic"])


def test_progress_adds_up_to_the_file(take: Path, tmp_path: Path) -> None:
    done: list[int] = []
    separate(take, tmp_path / "out", STAGE, done.append)
    assert sum(done) == file.info(take).n_frames


def test_an_unknown_preset_comes_with_the_nearest(take: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'quality'"):
        separate(take, tmp_path / "out", Separation("qualty"))


def test_an_empty_file_leaves_empty_files(tmp_path: Path) -> None:
    file.write(tmp_path / "empty.wav", np.zeros((1, 0), np.float32), RATE)
    files = separate(tmp_path / "empty.wav", tmp_path / "out", STAGE)
    assert [file.info(f).n_frames for f in files] == [0, 0]


def test_a_missing_input_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError):
        separate(tmp_path / "none.wav", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("way", [separate, separate_whole])
@pytest.mark.parametrize("linked", [False, True])
def test_the_input_is_never_written_over(way: Callable[[Path, Path], object], linked: bool, take: Path, tmp_path: Path) -> None:
    own = take.rename(tmp_path / "percussive.wav")
    before = own.read_bytes()
    folder = tmp_path / "link" if linked else tmp_path
    if linked:
        folder.symlink_to(tmp_path)
    with pytest.raises(AudioFileError, match=r"percussive\.wav: would be written over .*percussive\.wav"):
        way(own, folder)
    assert own.read_bytes() == before
    assert not (tmp_path / "harmonic.wav").exists()


def test_a_damaged_input_leaves_the_files_of_an_earlier_run(take: Path, tmp_path: Path) -> None:
    files = separate(take, tmp_path / "out", STAGE)
    before = [f.read_bytes() for f in files]
    damaged = tmp_path / "take.flac"
    file.write(damaged, file.read(take)[0], RATE)
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    with pytest.raises(AudioFileError, match="damaged"):
        separate(damaged, tmp_path / "out", STAGE)
    assert [f.read_bytes() for f in files] == before
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"harmonic.wav", "percussive.wav"}
