"""Audio files at the edge: WAV, FLAC and Ogg in, the same out, always ``(n_channels, frames)`` float32 on the inside.

Nothing is resampled: a file is processed at its own rate, or refused. WAV is written as 32-bit float, so that what is written is what was
computed, bit for bit; FLAC holds 24 bits, and Ogg (Vorbis) is lossy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
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


def check_apart(source: Path, files: Iterable[Path]) -> None:
    """Refuse to write any of `files` over `source`, by whichever of its names. Raises `AudioFileError`."""
    for file in files:
        with contextlib.suppress(OSError):  # what is not there yet is not the source
            if file.samefile(source):
                raise AudioFileError(f"{file}: would be written over {source}, which is being read; name another folder for the output")


class Writer:
    """A file that grows block by block, beside its place: it gets there when it is complete.

    Left by an exception (a damaged input, a full disk), it leaves what was at its place before.

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
        if self.path.is_dir():
            raise AudioFileError(f"{path}: expected the name of a file, got a folder; move it away, or name another")
        self._place = self.path.resolve()  # behind a link the file is replaced, not the link
        self._beside = self._place.with_name(f".{self._place.stem}.part{self.path.suffix}")
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            self._file = soundfile.SoundFile(self._beside, "w", sample_rate, n_channels, subtype)
        except (OSError, soundfile.SoundFileError) as error:
            raise AudioFileError(f"{path}: cannot be written ({error}); is the folder writable?") from None

    def write(self, x: Array) -> None:
        """Append ``(n_channels, frames)`` float32. Raises `AudioFileError` where the disk is full."""
        try:
            self._file.write(x.T)
        except soundfile.SoundFileError as error:
            raise AudioFileError(f"{self.path}: cannot be written ({error}); is the disk full?") from None

    def close(self) -> None:
        """Complete the file and put it in its place."""
        self._file.close()
        try:
            self._beside.replace(self._place)
        except OSError as error:
            raise AudioFileError(f"{self.path}: cannot be written ({error}); is the folder writable?") from None

    def discard(self) -> None:
        """Drop what was written; calling it after `close` does nothing."""
        self._file.close()
        self._beside.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


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
