"""The gateway's raw MIDI: what is committed and what becomes of it, as messages on the topics ``midi.PART``.

It follows the midi role: while that is not up nothing is told, and when it dies everything is taken back. While nobody subscribes
nothing is kept or counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rtserver.config.midi import outputs_of
from rtserver.events import Command, Event, Note, NoteOff
from rtserver.midi.panics import Panics
from rtserver.midi.player import plays
from rtserver.midi.schedule import MAX_NOTES
from rtserver.shared.session import STATE, UP, Session
from rtserver.wire.rawmidi import Raw, RawNotes

BY_HAND = "command"  # the part of notes that are played at once and need no clock


class RawFeed:
    """Turns the events that the gateway publishes into raw MIDI.

    Parameters
    ----------
    session : Session
    send : callable
        Publishes a `Raw`, known at a session frame.
    """

    def __init__(self, session: Session, send: Callable[[Raw, int], object]) -> None:
        self._session, self._send = session, send
        self._notes, self._panics = RawNotes(), Panics()
        self._waiting: list[Note] = []  # until the clock runs
        self._wanted = False

    def turn(self, wanted: bool) -> None:
        """Once a turn, before the events of that turn."""
        if self._wanted and not wanted:
            self._notes.clear()
            self._waiting.clear()
        self._wanted = wanted
        if wanted and len(self._notes) and not self._midi_is_up():
            self.cut_all()
        if self._waiting and self._session.clock.running:
            waiting, self._waiting = self._waiting, []
            for note in waiting:
                self._take(note)

    def take(self, event: Event) -> None:
        """An event that was published. A panic counts even if nobody listens yet."""
        if isinstance(event, Command) and event.name == "panic":
            self._panics.take(event)
            self._waiting.clear()
            self.cut_all()
        elif not self._wanted:
            return
        elif isinstance(event, Note) and self._midi_is_up() and not self._panics.void(event):
            self._take(event)
        elif isinstance(event, NoteOff):
            self._tell(self._notes.ended(event.note_id, event.due_ns, time.monotonic_ns(), self._session.frame))

    def cut_all(self) -> None:
        """Take back whatever was told and has not ended."""
        if len(self._notes):
            self._tell(self._notes.cut_all(time.monotonic_ns(), self._session.frame))

    def _take(self, note: Note) -> None:
        now_ns, clock = time.monotonic_ns(), self._session.clock
        if note.part == BY_HAND:
            due_ns, off_ns = now_ns, now_ns + round(note.duration * 1e9 / self._session.config.audio.sample_rate)
        elif clock.running:
            due_ns, off_ns = (round(clock.time_at(frame) * 1e9) for frame in (note.frame, note.frame + note.duration))
        else:
            self._waiting = [*self._waiting[1 - MAX_NOTES :], note]
            return
        self._tell(self._notes.take(note, due_ns, off_ns, now_ns, self._early_ns(note)))

    def _early_ns(self, note: Note) -> int:
        """How much earlier than due the port that tells of a note sends it."""
        ports = outputs_of(self._session.config).items()
        port = next((port for name, port in ports if plays(port, name, note)), None)
        return round(max(-port.offset_s, 0.0) * 1e9) if port is not None else 0

    def _midi_is_up(self) -> bool:
        return int(self._session.role("midi")[STATE]) == UP

    def _tell(self, said: list[Raw]) -> None:
        frame = self._session.frame
        for raw in said:
            self._send(raw, frame)
