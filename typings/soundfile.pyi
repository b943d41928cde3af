from collections.abc import Iterator
from os import PathLike
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

_File = str | PathLike[str] | int | BinaryIO

class SoundFileError(Exception): ...
class SoundFileRuntimeError(SoundFileError, RuntimeError): ...

class LibsndfileError(SoundFileRuntimeError):
    code: int
    error_string: str

class SoundFile:
    samplerate: int
    frames: int
    channels: int
    format: str
    subtype: str
    name: str
    closed: bool
    def __init__(
        self,
        file: _File,
        mode: str | None = "r",
        samplerate: int | None = None,
        channels: int | None = None,
        subtype: str | None = None,
        endian: str | None = None,
        format: str | None = None,
        closefd: bool = True,
    ) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None: ...
    def __len__(self) -> int: ...
    def seek(self, frames: int, whence: int = 0) -> int: ...
    def tell(self) -> int: ...
    def read(
        self,
        frames: int = -1,
        dtype: str = "float64",
        always_2d: bool = False,
        fill_value: float | None = None,
        out: npt.NDArray[Any] | None = None,
    ) -> npt.NDArray[Any]: ...
    def write(self, data: npt.NDArray[Any]) -> None: ...
    def blocks(
        self,
        blocksize: int | None = None,
        overlap: int = 0,
        frames: int = -1,
        dtype: str = "float64",
        always_2d: bool = False,
        fill_value: float | None = None,
        out: npt.NDArray[Any] | None = None,
    ) -> Iterator[npt.NDArray[Any]]: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...

class _SoundFileInfo:
    samplerate: int
    frames: int
    channels: int
    duration: float
    format: str
    subtype: str

def info(file: _File, verbose: bool = False) -> _SoundFileInfo: ...
def read(
    file: _File,
    frames: int = -1,
    start: int = 0,
    stop: int | None = None,
    dtype: str = "float64",
    always_2d: bool = False,
    fill_value: float | None = None,
    out: npt.NDArray[Any] | None = None,
    samplerate: int | None = None,
    channels: int | None = None,
    format: str | None = None,
    subtype: str | None = None,
    endian: str | None = None,
    closefd: bool = True,
) -> tuple[npt.NDArray[np.float32], int]: ...
def write(
    file: _File,
    data: npt.NDArray[Any],
    samplerate: int,
    subtype: str | None = None,
    endian: str | None = None,
    format: str | None = None,
    closefd: bool = True,
) -> None: ...
