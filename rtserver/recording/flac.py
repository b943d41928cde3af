"""FLAC that survives a crash: segments, and the one being written kept as WAV beside it until it is complete.

A FLAC file that was not closed cannot be relied on, so a segment counts only once it is closed and has its name. Its samples are in a
growing WAV (`rtserver.recording.wave`) until then: after a crash that WAV is the last segment.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import soundfile

from rtserver.errors import AudioFileError
from rtserver.node import Array
from rtserver.recording.wave import Wave

SEGMENT_S = 120.0  # seconds a file: 46 MB of stereo WAV at 48 kHz lie beside it meanwhile
MAX_CHANNELS = 8  # of the format


class Flac:
    """A sequence of files ``<name>-<first frame, 12 digits>.flac``, 24 bits; frames count from the beginning of the recording.

    The interface is that of `Wave`, but that a gap (`skip`) takes no samples: the next segment's name says where it begins.
    """

    def __init__(self, path: Path, sample_rate: int, n_channels: int, resume: bool = False) -> None:
        if n_channels > MAX_CHANNELS:
            raise AudioFileError(f"{path}: FLAC holds {MAX_CHANNELS} channels, got {n_channels}; set recording.format to 'wav'")
        self.path = path  # without the segment's frame
        self.sample_rate, self.n_channels = sample_rate, n_channels
        self.n_frames = 0
        self._segment_size = round(SEGMENT_S * sample_rate)
        self._wave: Wave | None = None
        self._flac: Any = None
        self._first = 0
        if resume:
            self._take_up()

    def _take_up(self) -> None:
        """A predecessor's unfinished segment stays a WAV; we begin after it."""
        for torn in self.path.parent.glob(f"{self.path.stem}-*.flac.part"):
            torn.unlink()
        for left in self.path.parent.glob(f"{self.path.stem}-*.*"):
            self.n_frames = max(self.n_frames, int(left.stem.rpartition("-")[2]) + soundfile.info(left).frames)

    def write(self, x: Array) -> None:
        """Append ``(n_channels, n)`` float32; beyond ±1 it is clipped."""
        start = 0
        while start < x.shape[1]:
            wave = self._open()
            piece = x[:, start : start + self._segment_size - wave.n_frames]
            wave.write(piece)
            try:
                self._flac.write(piece.T)
            except (soundfile.SoundFileError, AssertionError) as error:  # a short write is an assertion in soundfile
                raise OSError(errno.EIO, f"FLAC could not be written ({error})") from None
            start += piece.shape[1]
            self.n_frames += piece.shape[1]
            if wave.n_frames >= self._segment_size:
                self._finish()

    def skip(self, n_frames: int) -> None:
        """Leave a gap: the next segment begins after it."""
        self._finish()
        self.n_frames += n_frames

    def _open(self) -> Wave:
        if self._wave is None:
            self._first = self.n_frames
            self._wave = Wave(self._name(".wav"), self.sample_rate, self.n_channels)
            try:
                self._flac = soundfile.SoundFile(self._name(".flac.part"), "w", self.sample_rate, self.n_channels, "PCM_24", format="FLAC")
            except soundfile.SoundFileError as error:
                raise OSError(errno.EIO, f"FLAC could not be opened ({error})") from None
        return self._wave

    def _name(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.stem}-{self._first:012d}{suffix}")

    def _finish(self) -> None:
        """The segment is whole: from now on the FLAC is it."""
        if self._wave is None:
            return
        self._flac.close()
        self._name(".flac.part").rename(self._name(".flac"))
        self._name(".wav").unlink()
        self._wave.close()
        self._wave = None

    @property
    def gone(self) -> bool:
        """Whether the file has been deleted."""
        return self._wave is not None and self._wave.gone

    def close(self) -> None:
        """Complete the last segment. Calling it twice does no harm."""
        self._finish()
