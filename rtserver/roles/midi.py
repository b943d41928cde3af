"""The midi role: sends the performer's notes at their time, and knows at every moment which notes sound.

Notes come with their release, so the death of the engine or of the performer hangs nothing: what was scheduled ends by itself, and no
heartbeat but this role's own matters here. If this process is killed, the standby (`rtserver.roles.standby`) releases what its table
of notes holds.
"""

from __future__ import annotations

import sys
import time

from rtserver.errors import DeviceError
from rtserver.events import Command, MidiIn, Note, NoteOff, NoteOn
from rtserver.midi.notes import NoteTable, playable, program_change
from rtserver.midi.patchbay import INPUT_POLL_S, Orders, Patchbay
from rtserver.midi.ports import Input, NullOutput, Output, client_name, open_input, open_output
from rtserver.midi.schedule import MAX_NOTES, Due, Schedule
from rtserver.roles.role import TURN_S
from rtserver.shared.session import RESTARTS, Session

EARLY_NS = 300_000  # wake this long before a deadline and spin the rest: a semaphore wakes 0.05 to 0.2 ms late without real-time priority
LATE_NS = 5_000_000  # a note this late is counted as late, and played
RETRY_NS = 2_000_000_000  # how often the null backend that stands in for a missing one looks whether it has come
QUIET_NS = 100_000_000  # it looks only if nothing is due for this long: a look takes some 30 ms
GREET_NS = 100_000_000  # a message sent in the period in which a connection is made may miss it
MAX_INPUT_SIZE = 128  # bytes of one incoming message that fit into an event's slot


class MidiRole:
    """Schedule → port, with the table of sounding notes in shared memory."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.table = NoteTable(session.block["notes"])
        self.schedule = Schedule()
        self.output: Output = NullOutput()
        self.input: Input | None = None  # on ALSA and CoreMIDI
        self.patchbay: Patchbay | None = None  # on JACK
        self._waker = session.waker("midi")
        self._waiting: list[Note] = []  # until the clock runs
        self._retry_ns = 0
        self._greet_ns: int | None = None
        self._n_played = 0  # notes asked for by command
        self._dropped = 0  # of the schedule's count, what has been added to ours
        self._errors = 0

    def prepare(self) -> None:
        """Open the ports and connect them as before, or as configured."""
        self.session.block["counters.midi"][:] = 0
        complaint = self._open()
        if complaint:
            self._complain(complaint)
        if self.session.role("midi")[RESTARTS] > 0 or self.table.cells.any():
            # A predecessor may have left notes. The standby should have released them; we make sure once our connections stand.
            time.sleep(GREET_NS * 1e-9)
            for message in self.table.release_all(time.monotonic_ns()):
                self.output.send(message)

    def turn(self) -> bool:
        """Take what came, send what is due, wait until shortly before what is due next."""
        if self.patchbay is not None and self.patchbay.lost:
            self.output.lost = True
            raise DeviceError("the JACK server behind the MIDI ports is gone; they open again when it, or another MIDI system, is back")
        self._take_events()
        self._take_input()
        now_ns = time.monotonic_ns()
        due = self.schedule.due(now_ns)
        if due:
            self._send(due, now_ns)
        self._housekeep(now_ns)
        self._wait()
        return True

    def close(self) -> None:
        """Let go of every note, silence every channel, wait until the driver has taken it (three JACK periods)."""
        self._panic(count=False)
        self.output.close()
        self.table.clear()
        if self.input is not None:
            self.input.close()
        if self.patchbay is not None:
            self.patchbay.close()

    def _open(self) -> str:
        config = self.session.config
        self.output, complaint = open_output(config)
        self.input = open_input(config, self.output.api)
        self._open_patchbay()
        self._greet_ns = time.monotonic_ns() + GREET_NS
        self._retry_ns = time.monotonic_ns() + RETRY_NS
        return complaint

    def _open_patchbay(self) -> None:
        if self.output.api == "jack":
            config, folder = self.session.config, str(self.session.run_folder)
            orders = Orders(self.output.name, client_name(config), config.midi.connect, folder)
            self.patchbay = Patchbay(orders, self._waker.post)

    def _complain(self, complaint: str) -> None:
        print(f"rtserver midi: {complaint}", file=sys.stderr, flush=True)
        self.session.count("midi", "port_errors")

    def _take_events(self) -> None:
        for event in self.session.receive("midi"):
            if isinstance(event, Note):
                self._waiting.append(event)
            elif isinstance(event, Command) and event.name == "panic":
                self._panic()
            elif isinstance(event, Command) and event.name == "note":
                self._play(str(event.value))
        if self._waiting and self.session.clock.running:
            for note in self._waiting:
                self._add(note)
            self._waiting.clear()
        elif len(self._waiting) > MAX_NOTES:
            self.session.count("midi", "dropped_notes", len(self._waiting) - MAX_NOTES)
            del self._waiting[:-MAX_NOTES]

    def _add(self, note: Note) -> None:
        if not playable(note):
            self.session.count("midi", "dropped_notes")
            return
        time_at = self.session.clock.time_at
        self.schedule.add(note, round(time_at(note.frame) * 1e9), round(time_at(note.frame + note.duration) * 1e9))

    def _play(self, value: str) -> None:
        """A note by hand, ``"PITCH VELOCITY DURATION_S [CHANNEL]"`` with the channel from 1: now, whether or not the clock runs."""
        try:
            pitch, velocity, duration_s, channel = (*(float(v) for v in value.split()), self.session.config.generation.channel)[:4]
            frame, duration = self._frame(time.monotonic_ns()), round(duration_s * self.session.config.audio.sample_rate)
            self._n_played += 1
            note = Note(frame, frame, -self._n_played, int(pitch), int(velocity), duration, int(channel) - 1, part="command")
        except (ValueError, OverflowError):
            self.session.count("midi", "dropped_notes")
            return
        if not playable(note):
            self.session.count("midi", "dropped_notes")
            return
        now_ns = time.monotonic_ns()
        self.schedule.add(note, now_ns, now_ns + round(duration_s * 1e9))

    def _take_input(self) -> None:
        source = self.input or self.patchbay
        for arrived_ns, message in source.receive() if source is not None else ():
            self.session.count("midi", "messages_in")
            if len(message) > MAX_INPUT_SIZE:
                self.session.count("midi", "port_errors")
                continue
            frame = self._frame(arrived_ns)
            self.session.emit("midi", MidiIn(frame, frame, "midi_in", message))

    def _send(self, due: list[Due], now_ns: int) -> None:
        """Send first, tell afterwards: events cost more than messages."""
        events: list[NoteOn | NoteOff] = []
        for what in due:
            note = what.note
            cut = self.table.holder(note.channel, note.pitch) if what.on else note
            messages = self.table.on(note, what.off_ns) if what.on else self.table.off(note, now_ns)
            if not messages:
                continue
            for message in messages:
                self.output.send(message)
            sent_ns = time.monotonic_ns()
            if cut is not None:
                events.append(self._ended(cut, what.due_ns, sent_ns))
            if what.on:
                frame = self._frame(sent_ns)
                events.append(NoteOn(note.frame, frame, note.note_id, note.pitch, note.velocity, note.channel, what.due_ns, sent_ns))
                self._count_lateness(sent_ns - what.due_ns)
        for event in events:
            self.session.emit("midi", event, "gateway")

    def _ended(self, note: Note, due_ns: int, sent_ns: int) -> NoteOff:
        self.session.count("midi", "notes_off")
        return NoteOff(note.frame + note.duration, self._frame(sent_ns), note.note_id, note.pitch, note.channel, due_ns, sent_ns)

    def _count_lateness(self, late_ns: int) -> None:
        self.session.count("midi", "notes_on")
        self.session.count("midi", "late_notes", int(late_ns > LATE_NS))
        self.session.count_max("midi", "late_ns_max", late_ns)

    def _panic(self, count: bool = True) -> None:
        """Forget what waits, end what sounds, silence all channels."""
        now_ns = time.monotonic_ns()
        self._waiting.clear()
        self.schedule.clear()
        ended = self.table.holders()
        for message in self.table.release_all(now_ns):
            self.output.send(message)
        sent_ns = time.monotonic_ns()
        for note in ended:
            self.session.emit("midi", self._ended(note, now_ns, sent_ns), "gateway")
        if count:
            self.session.count("midi", "panics")

    def _housekeep(self, now_ns: int) -> None:
        """Counters; the program for a synth that has just come; what has broken or is missing, while nothing is due."""
        self.table.settle(now_ns)
        dropped, errors = self.schedule.dropped - self._dropped, self.output.errors - self._errors
        self._dropped, self._errors = self.schedule.dropped, self.output.errors
        self.session.count("midi", "dropped_notes", dropped)
        self.session.count("midi", "port_errors", errors)
        if self.patchbay is not None and self.patchbay.made():
            self._greet_ns = now_ns + GREET_NS
        if self._greet_ns is not None and now_ns >= self._greet_ns:
            self._greet_ns = None
            config = self.session.config
            self.output.send(program_change(config.generation.channel - 1, config.midi.program))
        next_ns = self.schedule.next_due_ns
        if now_ns >= self._retry_ns and (next_ns is None or next_ns - now_ns > QUIET_NS):
            self._retry_ns = now_ns + RETRY_NS
            self._retry()

    def _retry(self) -> None:
        """A null backend that stands in: is there something better by now? A patchbay that has ended by itself: start another."""
        if self.output.api == "null" and self.session.config.midi.api != "null":
            self._open()
            self._errors = 0
        elif self.patchbay is not None and self.patchbay.ended:
            self._complain(f"the patchbay has ended, starting another: {self.patchbay.complaint or 'no reason given'}")
            self._open_patchbay()

    def _wait(self) -> None:
        timeout_s = TURN_S
        if self.input is not None:
            timeout_s = INPUT_POLL_S
        next_ns = self.schedule.next_due_ns
        if next_ns is None:
            self._waker.wait(timeout_s)
            return
        early_s = (next_ns - EARLY_NS - time.monotonic_ns()) * 1e-9
        if early_s > 0 and self._waker.wait(min(early_s, timeout_s)):
            return  # something came, and may be due earlier
        while 0 < next_ns - time.monotonic_ns() < 2 * EARLY_NS:
            pass

    def _frame(self, at_ns: int) -> int:
        """The session frame at a time; the last known one while the clock stands."""
        return round(self.session.clock.frame_at(at_ns * 1e-9)) if self.session.clock.running else self.session.frame
