"""What a panic has made void: notes that were on their way when it was called. Pure."""

from __future__ import annotations

from rtserver.events import Command, Note

LONG_AGO = -(1 << 62)
OTHERS = ("client", "command", "cue")  # parts that are not the performer's doing


class Panics:
    """The last panic, and what it took back.

    The performer obeys at the command's declared frame: what it committed at an earlier hop it decided before, even if that arrives later.
    Notes of clients, controllers and cues are void if they were known before the panic was.
    """

    def __init__(self) -> None:
        self._performer = self._others = LONG_AGO

    def take(self, command: Command) -> None:
        """A panic was called."""
        self._performer, self._others = command.frame, command.available_frame

    def void(self, note: Note) -> bool:
        """Whether `note` was taken back before it came."""
        return note.available_frame < (self._others if note.part in OTHERS else self._performer)
