"""Which notes sound: a table in shared memory, and what ends them. Pure: the caller brings the time and sends.

A cell of the table is the time (CLOCK_MONOTONIC, ns) at which the sounding note is due to end; 0 is silence; a negative cell is a
note whose note-off went out at ``-cell`` and may still lie in the driver (JACK takes it at the next period). Whoever outlives the midi
process finds here everything that it must release.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rtserver.events import Note
from rtserver.midi.messages import N_CHANNELS, note_off, note_on, silence
from rtserver.node import Array

N_PITCHES = 128
# How long a note-off may lie in the driver: four JACK periods of 2048 frames at 44.1 kHz take 0.19 s.
IN_FLIGHT_NS = 200_000_000


def playable(note: Note) -> bool:
    """Whether channel, pitch, velocity and duration are within what MIDI can say."""
    return 0 <= note.channel < N_CHANNELS and 0 <= note.pitch < N_PITCHES and 1 <= note.velocity < 128 and note.duration >= 0


class NoteTable:
    """The sounding notes. One process writes it; `cells` is int64 ``(16, 128)``, as a rule in shared memory.

    `channels` says on which channel notes of another channel are sent; cells and messages go by the channel sent on.

    A cell is written before its message is returned for sending, so that a process killed in between leaves too much in the table, never
    too little.
    """

    def __init__(self, cells: Array, channels: Mapping[int, int] | None = None) -> None:
        if cells.shape != (N_CHANNELS, N_PITCHES) or cells.dtype != np.int64:
            raise ValueError(f"the table of notes is int64 ({N_CHANNELS}, {N_PITCHES}), got {cells.dtype} {cells.shape}")
        self.cells = cells
        self._channels = channels or {}
        self._holders: dict[tuple[int, int], Note] = {}

    def key(self, note: Note) -> tuple[int, int]:
        """(channel, pitch) that `note` is sent as."""
        return self._channels.get(note.channel, note.channel), note.pitch

    def holder(self, channel: int, pitch: int) -> Note | None:
        """The note that sounds there."""
        return self._holders.get((channel, pitch))

    def holders(self) -> list[Note]:
        """The notes that sound."""
        return list(self._holders.values())

    def on(self, note: Note, end_ns: int) -> list[bytes]:
        """`note` starts and is due to end at `end_ns`. A pitch that sounds already is let go first: [note-off,] note-on."""
        key = self.key(note)
        messages = [note_off(*key)] if key in self._holders else []
        self._holders[key] = note
        self.cells[key] = max(end_ns, 1)
        return [*messages, note_on(*key, note.velocity)]

    def off(self, note: Note, now_ns: int) -> list[bytes]:
        """`note` ends: [note-off], or nothing if another note has taken its pitch since (that one's own end will come)."""
        key = self.key(note)
        if self._holders.get(key) is not note:
            return []
        del self._holders[key]
        self.cells[key] = -now_ns
        return [note_off(*key)]

    def held(self) -> list[tuple[int, int]]:
        """(channel, pitch) of every note that sounds, or whose note-off may still be on its way."""
        return [(int(channel), int(pitch)) for channel, pitch in np.argwhere(self.cells)]

    def settle(self, now_ns: int) -> None:
        """Turn the cells of notes that were let go long enough before `now_ns` into silence."""
        self.cells[(self.cells < 0) & (now_ns + self.cells >= IN_FLIGHT_NS)] = 0

    def release_all(self, now_ns: int) -> list[bytes]:
        """Everything ends now: a note-off for every note that is `held`, then `silence`."""
        messages = [note_off(channel, pitch) for channel, pitch in self.held()]
        self.cells[self.cells > 0] = -now_ns
        self._holders.clear()
        return messages + silence()

    def overdue(self, now_ns: int, by_ns: int) -> list[tuple[int, int]]:
        """(channel, pitch) of every note that should have ended `by_ns` ago and more."""
        return [(int(channel), int(pitch)) for channel, pitch in np.argwhere((self.cells > 0) & (self.cells < now_ns - by_ns))]

    def clear(self) -> None:
        """Nothing sounds and nothing is on its way."""
        self.cells[:] = 0
        self._holders.clear()
