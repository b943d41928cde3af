"""A WAV file that is whole at every moment: what was appended is in it, whatever becomes of the process that wrote it.

32-bit float, bit for bit what was given. The header is written anew after every piece, in one write, so that a reader (or a crash) finds
a file that says how long it is. Beyond 4 GB the header turns into that of RF64, for which it keeps the room.

EBU Tech 3306 (2009), "RF64: an extended file format for audio", section 4: a JUNK chunk that becomes ds64 on the fly.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

from rtserver.errors import AudioFileError
from rtserver.node import Array

HEADER = struct.Struct("<4sI4s 4sIQQQI 4sIHHIIHH 4sII 4sI")  # RIFF or RF64; JUNK or ds64; fmt; fact; data
FLOAT = 3  # WAVE_FORMAT_IEEE_FLOAT
LARGEST = 0xFFFFFFFF  # what 32 bits can say; in RF64 it means: see ds64
PIECE = 1 << 16  # frames written at once


class Wave:
    """A file that grows.

    Parameters
    ----------
    path : Path
    sample_rate : int
        Hz.
    n_channels : int
    resume : bool
        Go on at the end of a file that a predecessor left, instead of beginning it anew. Raises `AudioFileError` for a file of
        another rate or number of channels.

    Notes
    -----
    `write` and `skip` raise `OSError` where the disk refuses; the file then holds what was written before.
    """

    def __init__(self, path: Path, sample_rate: int, n_channels: int, resume: bool = False) -> None:
        self.path = path
        self.sample_rate, self.n_channels = sample_rate, n_channels
        self.n_frames = 0
        self._frame_size = 4 * n_channels  # bytes
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | (0 if resume else os.O_TRUNC), 0o644)
        try:
            if resume and os.fstat(self._fd).st_size > 0:
                self._take_up()
            self._describe()
        except BaseException:
            self.close()
            raise

    def _take_up(self) -> None:
        header = os.pread(self._fd, HEADER.size, 0)
        if len(header) < HEADER.size or header[:4] not in (b"RIFF", b"RF64"):
            raise AudioFileError(f"{self.path}: not a file that the recorder wrote; move it away")
        _, _, _, _, _, _, _, _, _, _, _, _, n_channels, sample_rate, *_ = HEADER.unpack(header)
        if (sample_rate, n_channels) != (self.sample_rate, self.n_channels):
            expected = f"{self.sample_rate} Hz, {self.n_channels} channels"
            raise AudioFileError(f"{self.path}: expected {expected}, got {sample_rate} Hz, {n_channels} channels; move it away")
        self.n_frames = (os.fstat(self._fd).st_size - HEADER.size) // self._frame_size
        os.ftruncate(self._fd, self._end)

    @property
    def _end(self) -> int:
        return HEADER.size + self.n_frames * self._frame_size

    def write(self, x: Array) -> None:
        """Append ``(n_channels, n)`` float32."""
        for start in range(0, x.shape[1], PIECE):
            piece = x[:, start : start + PIECE]
            data = memoryview(np.ascontiguousarray(piece.T, "<f4").tobytes())
            done = 0
            while done < len(data):
                done += os.pwrite(self._fd, data[done:], self._end + done)
            self.n_frames += piece.shape[1]
        self._describe()

    def skip(self, n_frames: int) -> None:
        """Append silence. It takes no room on the disk (a hole), and no time."""
        os.ftruncate(self._fd, self._end + n_frames * self._frame_size)
        self.n_frames += n_frames
        self._describe()

    def _describe(self) -> None:
        data_size = self.n_frames * self._frame_size
        riff_size = HEADER.size - 8 + data_size
        large = riff_size > LARGEST
        header = HEADER.pack(
            b"RF64" if large else b"RIFF",
            LARGEST if large else riff_size,
            b"WAVE",
            b"ds64" if large else b"JUNK",
            28,
            *((riff_size, data_size, self.n_frames) if large else (0, 0, 0)),
            0,
            b"fmt ",
            16,
            FLOAT,
            self.n_channels,
            self.sample_rate,
            self.sample_rate * self._frame_size,
            self._frame_size,
            32,
            b"fact",
            4,
            min(self.n_frames, LARGEST),
            b"data",
            LARGEST if large else data_size,
        )
        os.pwrite(self._fd, header, 0)

    @property
    def gone(self) -> bool:
        """Whether the file has been deleted: what is written then is lost, and no call says so."""
        return os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        """Close the file, which is complete already. Calling it twice does no harm."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
