"""What one port plays: its notes in time on its channels, each note-off sent three times, and the release of everything.

JACK loses messages: what a client writes in a period in which it, or the graph, is late never reaches the clients downstream (measured:
5 % of all messages on a machine that is too busy). A note-on that is lost is a rest; a note-off that is lost is a note that hangs. So each
note-off is sent again after `ECHO_NS`, unless its pitch has been struck anew.

No clock and no driver in here: the caller brings the present and sends the messages.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

from rtserver.config.click import PART
from rtserver.config.midi import MidiPort
from rtserver.events import Note
from rtserver.midi.gate import Bucket
from rtserver.midi.messages import bank_select, note_off, program_change, silence
from rtserver.midi.notes import NoteTable
from rtserver.midi.schedule import Due, Schedule
from rtserver.node import Array

# After a note-off; longer than a hiccup of a machine, and the second one longer than a bad hiccup.
ECHO_NS = (50_000_000, 150_000_000)


MAX_RATE, MAX_BURST = 1000.0, 200.0  # notes a second, and at once: more than a MIDI cable carries, less than a driver's queue


class Step(NamedTuple):
    """Messages to be sent together; `on` is the note that begins with them, `off` the one that ends."""

    messages: list[bytes]
    due_ns: int
    on: Note | None = None
    off: Note | None = None


def plays(port: MidiPort, name: str, note: Note) -> bool:
    """Whether `note` is for the port of that name. The click is for nobody who does not ask for it: it is not to be heard in the hall."""
    if note.port:
        return port.output and note.port == name
    return port.output and (note.part in port.parts if port.parts else note.part != PART)


class PortPlayer:
    """The notes of one port.

    Parameters
    ----------
    port : MidiPort
        What it plays, and how.
    cells : Array
        Its table of sounding notes, int64 ``(16, 128)``; see `rtserver.midi.notes`.
    name : str
        As in the configuration.
    """

    def __init__(self, port: MidiPort, cells: Array, name: str = "") -> None:
        self.table = NoteTable(cells, {int(here) - 1: there - 1 for here, there in port.channels.items()})
        self.schedule = Schedule(gate=Bucket(MAX_RATE, MAX_BURST))
        self._port = port
        self._name = name
        self._offset_ns = round(port.offset_s * 1e9)
        self._echoes: list[tuple[int, int, int]] = []  # (due, channel, pitch): note-offs to be sent again
        self._silences: list[int] = []  # when to silence all channels again, unless something has begun

    def plays(self, note: Note) -> bool:
        """Whether `note` is for this port."""
        return plays(self._port, self._name, note)

    def take_song(self, port: MidiPort) -> bool:
        """The port as another song of the show has it; what sounds goes on. True if banks or programs are others."""
        before, self._port = self._port, port
        return (before.programs, before.banks) != (port.programs, port.banks)

    def greeting(self) -> list[bytes]:
        """Banks and programs, for a synth that has just come."""
        messages: list[bytes] = []
        for channel in sorted(self._port.programs.keys() | self._port.banks.keys(), key=int):
            if channel in self._port.banks:
                messages += bank_select(int(channel) - 1, self._port.banks[channel])
            messages.append(program_change(int(channel) - 1, self._port.programs.get(channel, 0)))
        return messages

    def add(self, note: Note, due_ns: int, off_ns: int, now_ns: int) -> bool:
        """Plan a note, shifted by the port's offset. One that is known too late to be sent early is sent as early as can be.

        False if there is no room: dropped, and counted by the schedule.
        """
        start_ns = min(max(due_ns + self._offset_ns, now_ns), due_ns) if self._offset_ns < 0 else due_ns + self._offset_ns
        return self.schedule.add(note, start_ns, start_ns + off_ns - due_ns)

    @property
    def next_due_ns(self) -> int | None:
        """When the next message is due; None if nothing waits."""
        dues = [due for due in (self.schedule.next_due_ns, *(h[0] for h in self._echoes[:1]), *self._silences[:1]) if due is not None]
        return min(dues, default=None)

    def due(self, now_ns: int) -> list[Step]:
        """What is to be sent now, in order. The table is written before a message is returned."""
        steps: list[Step] = []
        for what in self.schedule.due(now_ns):
            step = self._start(what) if what.on else self._end(what, now_ns)
            if step is not None:
                steps.append(step)
        while self._echoes and self._echoes[0][0] <= now_ns:
            due_ns, channel, pitch = heapq.heappop(self._echoes)
            if self.table.holder(channel, pitch) is None:
                steps.append(Step([note_off(channel, pitch)], due_ns))
        while self._silences and self._silences[0] <= now_ns:
            due_ns = self._silences.pop(0)
            if not self.table.holders():
                steps.append(Step(silence(), due_ns))
        return steps

    def panic(self, now_ns: int) -> tuple[list[bytes], list[Note]]:
        """Forget what waits, end what sounds, silence all channels, and all that again a little later: (messages, notes cut short)."""
        self.schedule.clear()
        self._echoes.clear()
        ended = self.table.holders()
        for channel, pitch in self.table.held():
            self._echo(channel, pitch, now_ns)
        self._silences = [now_ns + after for after in ECHO_NS]
        return self.table.release_all(now_ns), ended

    def _start(self, what: Due) -> Step:
        cut = self.table.holder(*self.table.key(what.note))
        return Step(self.table.on(what.note, what.off_ns), what.due_ns, on=what.note, off=cut)

    def _end(self, what: Due, now_ns: int) -> Step | None:
        messages = self.table.off(what.note, now_ns)
        if not messages:
            return None
        self._echo(*self.table.key(what.note), now_ns)
        return Step(messages, what.due_ns, off=what.note)

    def _echo(self, channel: int, pitch: int, now_ns: int) -> None:
        for after in ECHO_NS:
            heapq.heappush(self._echoes, (now_ns + after, channel, pitch))
