"""From a planned note to one with a due frame, a length, a loudness and an id; and which keys are down meanwhile, in frames."""

from __future__ import annotations

import math

from rtserver.events import Note
from rtserver.generation import vocabulary as v
from rtserver.generation.draft import Step
from rtserver.node import Emit
from rtserver.transport import Transport

SHORTEST_S = 0.01  # a synthesiser needs that much to speak
LONGEST_S = 4.0  # what a tempo that collapses may make of a long note
LONGEST_WRITTEN_S = 12.0  # the same for one that a score asks for
GATE = 0.95  # part of its length for which a key is down: leaves the finger time to strike again, and a tempo that rises 5 % room
OWN, SCORE = "performer", "score"  # parts of the notes: the network's, and those played as written


def velocity(level: float, tick: int) -> int:
    """MIDI velocity of a note of that level (0..127): first of four quarters +8, other quarters +3, between them -4."""
    accent = 8 if tick % v.N_PHASE == 0 else 3 if tick % v.TICKS_PER_QUARTER == 0 else -4
    return max(1, min(127, round(level + accent)))


class Hands:
    """Strikes keys, none of them while it is down.

    Parameters
    ----------
    transport : Transport
    channel : int
        MIDI channel 0..15 of the performer's own notes; the parts of a score have those after it.
    note_id : int
        Of the next note; ids count up.
    """

    def __init__(self, transport: Transport, channel: int, note_id: int) -> None:
        self.transport, self.channel, self.note_id = transport, channel, note_id
        self.reset()

    def reset(self) -> None:
        """No key is down."""
        self._down: list[tuple[int, int, int]] = []  # (release frame, pitch, channel)

    def look(self, frame: int) -> None:
        """It is `frame`: what ends by then is up."""
        self._down = [d for d in self._down if d[0] > frame]

    def down(self, frame: int) -> list[tuple[int, int]]:
        """(release tick, pitch) of what is down after `frame`, on the transport's present axis."""
        ticks = v.TICKS_PER_QUARTER
        return [(math.ceil(self.transport.quarter_at(release) * ticks), pitch) for release, pitch, _ in self._down if release > frame]

    def when(self, step: Step, frame: int, polyphony: int) -> int:
        """The first frame from `frame` on at which the key is up and a voice is free; the tempo may have moved since the plan."""
        while not self._free(frame, step, polyphony):
            frame = min(r for r, _, _ in self._down if r > frame)
        return frame

    def strike(self, step: Step, start: int, frame: int, level: float, emit: Emit) -> None:
        """Play it at frame `start`, as is decided at `frame`."""
        transport = self.transport
        ticks = min(step.note.duration, max(1, step.until - step.tick))
        length_s = GATE * ticks / v.TICKS_PER_QUARTER * transport.frames_per_quarter / transport.sample_rate
        part, longest = (OWN, LONGEST_S) if step.part < 0 else (SCORE, LONGEST_WRITTEN_S)
        duration = round(min(max(length_s, SHORTEST_S), longest) * transport.sample_rate)
        channel = self._channel(step)
        self._down.append((start + duration, step.note.pitch, channel))
        emit(Note(start, frame, self.note_id, step.note.pitch, velocity(level, step.tick), duration, channel, part))
        self.note_id += 1

    def _channel(self, step: Step) -> int:
        return (self.channel + 1 + step.part) % 16

    def _free(self, start: int, step: Step, polyphony: int) -> bool:
        channel = self._channel(step)
        pitches = [p for release, p, c in self._down if release > start and c == channel]
        return step.note.pitch not in pitches and (step.part >= 0 or len(pitches) < polyphony)
