"""Songs: the notes of a MIDI file in seconds, sorted into drums, bass and other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import mido
import numpy as np

DRUM_CHANNEL = 9  # counted from 0: General MIDI's channel 10
BASSES = range(32, 40)  # General MIDI programs, counted from 0
ONSET, END, KEY, VELOCITY, PROGRAM, CHANNEL, VOLUME = range(7)
DRUMS_S = 0.25  # how long a drum note is taken to last: its sample plays to the end anyway


@dataclass(frozen=True)
class Song:
    """Notes as float64 rows (onset s, end s, key, velocity, program, channel, volume 0..1), in order of onset, one array a stem."""

    drums: np.ndarray
    bass: np.ndarray
    other: np.ndarray
    seconds: float

    def stem(self, name: str) -> np.ndarray:
        """The notes of one stem."""
        return {"drums": self.drums, "bass": self.bass, "other": self.other}[name]

    def between(self, begin: float, seconds: float) -> Song:
        """What sounds from `begin` on, from there on counted; notes that sound already have negative onsets."""
        drums, bass, other = (self._inside(notes, begin, seconds) for notes in (self.drums, self.bass, self.other))
        return Song(drums, bass, other, seconds)

    @staticmethod
    def _inside(notes: np.ndarray, begin: float, seconds: float) -> np.ndarray:
        inside = notes[(notes[:, END] > begin) & (notes[:, ONSET] < begin + seconds)].copy()
        inside[:, :2] -= begin
        return inside

    def faster(self, factor: float) -> Song:
        """The same notes, `factor` times as quick."""
        scale = np.array([1.0 / factor] * 2 + [1.0] * 5)
        return Song(self.drums * scale, self.bass * scale, self.other * scale, self.seconds / factor)


@lru_cache(maxsize=256)
def read_song(path: Path) -> Song:
    """The song in a MIDI file. Exits with a line that names a file that is none."""
    try:
        file = mido.MidiFile(str(path))
    except Exception as e:  # mido raises many kinds for files that are no MIDI
        raise SystemExit(f"{path} is not a MIDI file that can be read: {type(e).__name__} {e}") from e
    program, volume = [0] * 16, [100.0 / 127.0] * 16
    down: dict[tuple[int, int], tuple[float, int, int, float]] = {}
    rows: list[tuple[float, float, int, int, int, int, float]] = []
    now = 0.0
    for message in file:  # in order, with seconds from one to the next
        now += message.time
        if message.type == "program_change":
            program[message.channel] = message.program
        elif message.type == "control_change" and message.control == 7:
            volume[message.channel] = message.value / 127.0
        elif message.type in ("note_on", "note_off"):
            key = (message.channel, message.note)
            begun = down.pop(key, None)
            if begun is not None and message.channel != DRUM_CHANNEL:
                rows.append((begun[0], now, message.note, begun[1], begun[2], message.channel, begun[3]))
            if message.type == "note_on" and message.velocity > 0:
                if message.channel == DRUM_CHANNEL:
                    rows.append((now, now + DRUMS_S, message.note, message.velocity, 0, DRUM_CHANNEL, volume[DRUM_CHANNEL]))
                else:
                    down[key] = (now, message.velocity, program[message.channel], volume[message.channel])
    notes = np.array(sorted(rows), np.float64).reshape(-1, 7)
    drums = notes[:, CHANNEL] == DRUM_CHANNEL
    bass = ~drums & (notes[:, PROGRAM] >= BASSES.start) & (notes[:, PROGRAM] < BASSES.stop)
    return Song(notes[drums], notes[bass], notes[~drums & ~bass], now)
