"""Audio files at the edge: WAV, FLAC and Ogg in, the same out, always ``(n_channels, frames)`` float32 on the inside.

Nothing is resampled: a file is processed at its own rate, or refused. WAV is written as 32-bit float, so that what is written is what was
computed, bit for bit; FLAC holds 24 bits, and Ogg (Vorbis) is lossy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import soundfile

from rtserver.errors import AudioFileError
from rtserver.node import Array

SAMPLE_RATES = (22050, 192000)  # Hz, as `audio.sample_rate` has it: below, the presets' windows no longer fit what they separate
SUBTYPES = {".wav": "FLOAT", ".flac": "PCM_24", ".ogg": "VORBIS"}


@dataclass(frozen=True, slots=True)
class Info:
    """What a file holds."""

    sample_rate: int  # Hz
    n_channels: int
    n_frames: int

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return self.n_frames / self.sample_rate


def info(path: Path | str) -> Info:
    """What `path` holds. Raises `AudioFileError` for what `read` would refuse."""
    with _open(Path(path)) as file:
        return Info(file.samplerate, file.channels, file.frames)


def read(path: Path | str) -> tuple[Array, int]:
    """A whole file as ``(n_channels, frames)`` float32 and its sample rate in Hz. Raises `AudioFileError`."""
    with _open(Path(path)) as file:
        try:
            return np.ascontiguousarray(file.read(dtype="float32", always_2d=True).T), file.samplerate
        except soundfile.SoundFileError as error:
            raise AudioFileError(f"{path}: damaged ({error}); copy or export it again?") from None


def blocks(path: Path | str, block_size: int) -> Iterator[Array]:
    """A file piece by piece: ``(n_channels, block_size)`` float32, the last one shorter. Raises `AudioFileError`."""
    with _open(Path(path)) as file:
        try:
            while len(x := file.read(block_size, dtype="float32", always_2d=True)):
                yield np.ascontiguousarray(x.T)
        except soundfile.SoundFileError as error:
            raise AudioFileError(f"{path}: damaged ({error}); copy or export it again?") from None


def write(path: Path | str, x: Array, sample_rate: int) -> None:
    """Write ``(n_channels, frames)`` float32; the suffix names the format. Raises `AudioFileError`."""
    with Writer(path, sample_rate, x.shape[0]) as writer:
        writer.write(x)


class Writer:
    """A file that grows block by block.

    Parameters
    ----------
    path : Path or str
        Ends in .wav (32-bit float), .flac (24 bits) or .ogg (Vorbis). Missing folders are made.
    sample_rate : int
        Hz.
    n_channels : int
    """

    def __init__(self, path: Path | str, sample_rate: int, n_channels: int) -> None:
        self.path = Path(path)
        subtype = SUBTYPES.get(self.path.suffix.lower())
        if subtype is None:
            raise AudioFileError(f"{path}: expected a name ending in {', '.join(SUBTYPES)}, got {self.path.suffix!r}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = soundfile.SoundFile(self.path, "w", sample_rate, n_channels, subtype)
        except (OSError, soundfile.SoundFileError) as error:
            raise AudioFileError(f"{path}: cannot be written ({error}); is the folder writable?") from None

    def write(self, x: Array) -> None:
        """Append ``(n_channels, frames)`` float32. Raises `AudioFileError` where the disk is full."""
        try:
            self._file.write(x.T)
        except soundfile.SoundFileError as error:
            raise AudioFileError(f"{self.path}: cannot be written ({error}); is the disk full?") from None

    def close(self) -> None:
        """Complete the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def _open(path: Path) -> soundfile.SoundFile:
    if not path.is_file():
        raise AudioFileError(f"{path}: no such file")
    try:
        file = soundfile.SoundFile(path)
    except soundfile.SoundFileError as error:
        reason = str(error).rsplit(": ", 1)[-1]
        raise AudioFileError(f"{path}: not a WAV, FLAC or Ogg file that can be read ({reason})") from None
    low, high = SAMPLE_RATES
    if not low <= file.samplerate <= high:
        file.close()
        raise AudioFileError(f"{path}: expected {low} to {high} Hz, got {file.samplerate}; resample it first")
    return file
