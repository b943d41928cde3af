"""Which notes sound: a table in shared memory, and the messages that end them. Pure: the caller brings the time and sends.

A cell of the table is the time (CLOCK_MONOTONIC, ns) at which the sounding note is due to end; 0 is silence; a negative cell is a
note whose note-off went out at ``-cell`` and may still lie in the driver (JACK takes it at the next period). Whoever outlives the midi
process finds here everything that it must release.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rtserver.events import Note
from rtserver.node import Array

N_CHANNELS, N_PITCHES = 16, 128
NOTE_OFF, NOTE_ON, CONTROL, PROGRAM = 0x80, 0x90, 0xB0, 0xC0
SUSTAIN, ALL_SOUND_OFF, ALL_NOTES_OFF = 64, 120, 123
# How long a note-off may lie in the driver: four JACK periods of 2048 frames at 44.1 kHz take 0.19 s.
IN_FLIGHT_NS = 200_000_000


def note_on(channel: int, pitch: int, velocity: int) -> bytes:
    """Note-on; channel 0..15, pitch 0..127, velocity 1..127 (0 would be a note-off)."""
    return bytes((NOTE_ON | channel, pitch, velocity))


def note_off(channel: int, pitch: int) -> bytes:
    """Note-off with velocity 0."""
    return bytes((NOTE_OFF | channel, pitch, 0))


def program_change(channel: int, program: int) -> bytes:
    """Program change; channel 0..15, program 0..127."""
    return bytes((PROGRAM | channel, program))


def bank_select(channel: int, bank: int) -> list[bytes]:
    """Bank select, coarse and fine (CC0, CC32); channel 0..15, bank 0..16383. Takes effect with the next program change."""
    return [bytes((CONTROL | channel, control, value)) for control, value in ((0, bank >> 7), (32, bank & 0x7F))]


def silence() -> list[bytes]:
    """Sustain up, all notes off, all sound off on the 16 channels: 48 messages. Many synths know only some of them."""
    return [bytes((CONTROL | channel, control, 0)) for channel in range(N_CHANNELS) for control in (SUSTAIN, ALL_NOTES_OFF, ALL_SOUND_OFF)]


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

    def held(self, now_ns: int) -> list[tuple[int, int]]:
        """(channel, pitch) of every note that sounds, or whose note-off may still be on its way."""
        held = (self.cells > 0) | ((self.cells < 0) & (now_ns + self.cells < IN_FLIGHT_NS))
        return [(int(channel), int(pitch)) for channel, pitch in np.argwhere(held)]

    def settle(self, now_ns: int) -> None:
        """Turn the cells of notes that were let go long enough ago into silence."""
        self.cells[(self.cells < 0) & (now_ns + self.cells >= IN_FLIGHT_NS)] = 0

    def release_all(self, now_ns: int) -> list[bytes]:
        """Everything ends now: a note-off for every note that is `held`, then `silence`."""
        messages = [note_off(channel, pitch) for channel, pitch in self.held(now_ns)]
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
