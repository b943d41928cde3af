from collections.abc import Iterator
from os import PathLike
from typing import Any, BinaryIO

class Message:
    type: str
    time: float
    channel: int
    note: int
    velocity: int
    control: int
    program: int
    value: int
    is_meta: bool
    def __init__(self, type: str, **values: Any) -> None: ...
    def bytes(self) -> list[int]: ...
    def copy(self, **values: Any) -> Message: ...
    @staticmethod
    def from_bytes(data: Any, time: float = 0) -> Message: ...

class MetaMessage(Message):
    tempo: int
    numerator: int
    denominator: int
    name: str

class MidiTrack(list[Message]):
    name: str

class MidiFile:
    type: int
    ticks_per_beat: int
    tracks: list[MidiTrack]
    length: float
    def __init__(
        self,
        filename: str | PathLike[str] | None = None,
        file: BinaryIO | None = None,
        type: int = 1,
        ticks_per_beat: int = 480,
        charset: str = "latin1",
        debug: bool = False,
        clip: bool = False,
        tracks: list[MidiTrack] | None = None,
    ) -> None: ...
    def __iter__(self) -> Iterator[Message]: ...
    def add_track(self, name: str | None = None) -> MidiTrack: ...
    def save(self, filename: str | PathLike[str] | None = None, file: BinaryIO | None = None) -> None: ...

def merge_tracks(tracks: list[MidiTrack], skip_checks: bool = False) -> MidiTrack: ...
def bpm2tempo(bpm: float, time_signature: tuple[int, int] = (4, 4)) -> int: ...
def tempo2bpm(tempo: int, time_signature: tuple[int, int] = (4, 4)) -> float: ...
def tick2second(tick: float, ticks_per_beat: int, tempo: int) -> float: ...
def second2tick(second: float, ticks_per_beat: int, tempo: int) -> int: ...
