"""The mixer's meters as clients are told of them: every window of 50 ms, while somebody listens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from rtserver.audio import table as t
from rtserver.config import Config
from rtserver.events import Event

if TYPE_CHECKING:
    from rtserver.shared.session import Session

FLOOR_DB = -120.0  # what silence is called


class Meter(msgspec.Struct, frozen=True):
    """One device channel (from 1) over a window: `name` of what is on it, peak and RMS in dBFS, samples at or beyond full scale."""

    name: str
    channel: int
    peak_db: float
    rms_db: float
    clipped: int


class Meters(Event, frozen=True):
    """Levels of the device's channels in use over the 50 ms before `frame`. Sent while somebody subscribes to it."""

    inputs: list[Meter]
    outputs: list[Meter]


def names(config: Config) -> tuple[dict[int, str], dict[int, str]]:
    """Device channels in use, from 1, each with the inputs or the outputs that are on it."""
    inputs: dict[int, str] = {}
    outputs: dict[int, str] = {}
    for used, tables in ((inputs, config.inputs), (outputs, config.outputs)):
        for name, table in tables.items():
            for channel in table.channels:
                used[channel] = f"{used[channel]}+{name}" if channel in used else name
    return dict(sorted(inputs.items())), dict(sorted(outputs.items()))


def decibels(amplitude: float) -> float:
    """dBFS of an amplitude, `FLOOR_DB` at least."""
    return max(20.0 * math.log10(amplitude), FLOOR_DB) if amplitude > 0.0 else FLOOR_DB


class MeterTap:
    """Reads the last whole window, each once."""

    def __init__(self, session: Session) -> None:
        self._block = session.block
        self._inputs, self._outputs = names(session.config)
        self._sequence = 0

    def read(self) -> Meters | None:
        """The meters, if there is a window that was not read before."""
        if "audio.table" not in self._block:
            return None  # a session without sound
        table = self._block["audio.table"]
        before = int(table[t.METER_SEQUENCE])
        if before == self._sequence or before % 2:
            return None
        values, frame = self._block["audio.meters"].copy(), int(table[t.METER_FRAME])
        if before != int(table[t.METER_SEQUENCE]):
            return None  # it changed meanwhile: the next look finds it
        self._sequence = before

        def row(first: int, channel: int, name: str) -> Meter:
            peak, square, clipped = (float(v) for v in values[first + channel - 1])
            return Meter(name, channel, decibels(peak), decibels(math.sqrt(square)), int(clipped))

        inputs = [row(0, channel, name) for channel, name in self._inputs.items()]
        outputs = [row(t.MAX_CHANNELS, channel, name) for channel, name in self._outputs.items()]
        return Meters(frame, frame, inputs, outputs)
