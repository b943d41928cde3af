"""The midi role: sends the performer's notes at their time, and knows at every moment which notes sound.

Notes come with their release, so the death of the engine or of the performer hangs nothing: what was scheduled ends by itself, and no
heartbeat but this role's own matters here. If this process is killed, its senders (`rtserver.midi.sender`) and the standby
(`rtserver.roles.standby`) release what sounds.
"""

from __future__ import annotations

import sys
import time

from rtserver.audio.table import heard
from rtserver.config.midi import IN_PORT_NAME, ports_of
from rtserver.errors import DeviceError
from rtserver.events import Beat, Command, Dropped, MidiIn, Note, NoteOff, NoteOn, Param
from rtserver.midi.clock import CLOCK_MESSAGES, TICKS_PER_QUARTER, TICKS_PER_SIXTEENTH, ClockIn, Fix
from rtserver.midi.keys import KeysDown
from rtserver.midi.mapping import Action, Mapping
from rtserver.midi.notes import playable
from rtserver.midi.panics import Panics
from rtserver.midi.patchbay import INPUT_POLL_S, Patchbay
from rtserver.midi.player import Step
from rtserver.midi.rack import Rack, Slot
from rtserver.midi.schedule import MAX_NOTES
from rtserver.roles.role import TURN_S
from rtserver.shared.session import RESTARTS, Session
from rtserver.wire.parameters import EFFECT_S

EARLY_NS = 300_000  # wake this long before a deadline and spin the rest: a semaphore wakes 0.05 to 0.2 ms late without real-time priority
LATE_NS = 5_000_000  # a note this late is counted as late, and played
RETRY_NS = 2_000_000_000  # how often the null backend that stands in for a missing one looks whether it has come
OPEN_S = 5.0  # what opening ports again may take; nothing sounds meanwhile
STALL_NS = 200_000_000  # a turn of our own that took this long: the machine stood still, or we opened ports, and heard no sender
LOOK_NS = 5_000_000  # how often we look for faults and keep house, at most
QUIET_NS = 100_000_000  # it looks only if nothing is due for this long: a look takes some 30 ms
GREET_NS = 100_000_000  # a message sent in the period in which a connection is made may miss it
INPUT_EFFECT_S = 0.01  # what comes in takes effect so long after it came: the way to the performer, so that it is there in time


class MidiRole:
    """Schedules → ports, with the tables of sounding notes in shared memory."""

    def __init__(self, session: Session) -> None:
        self.session = session
        session.turn_to(heard(session.block))
        self.notes = session.block["notes"]
        self.rack = Rack(session.config, session.run_folder, session.block["notes.ports"], session.block["midi.senders"])
        self.mapping = Mapping(session.config)
        self.keys = {name or IN_PORT_NAME: KeysDown(session.block["keys"][i]) for i, name in enumerate(ports_of(session.config))}
        self.clocks: dict[str, ClockIn] = {}  # by the port on which they come in
        self._grain_s = session.config.audio.block_size / session.config.audio.sample_rate  # JACK's period, as a rule
        self._waker = session.waker("midi")
        self._waiting: list[Note] = []  # until the clock runs
        self._panics = Panics()
        self._retry_ns = 0
        self._action_effect = round(EFFECT_S * session.config.audio.sample_rate)
        self._input_effect = round(INPUT_EFFECT_S * session.config.audio.sample_rate)
        self._n_played = 0  # notes asked for by command
        self._counted: dict[str, int] = {}  # totals kept elsewhere, as far as they have been added to our counters
        self._complained = ""
        self._look_ns = 0  # when to look for faults and keep house
        self._turned_ns = self._steady_ns = 0  # when we last turned; when we ourselves last stood still

    def prepare(self) -> None:
        """Open the ports and connect them as before, or as configured."""
        self.session.block["counters.midi"][:] = 0
        self._open()
        if self.session.role("midi")[RESTARTS] > 0 or self.session.block["notes.ports"].any():
            # A predecessor may have left notes. They should have been released; we make sure once our connections stand.
            time.sleep(GREET_NS * 1e-9)
            now_ns = time.monotonic_ns()
            for slot in self.rack.slots:
                slot.output.send(*slot.player.panic(now_ns)[0])
        self.notes[:] = 0
        self._let_go()  # what the player let go of meanwhile nobody has heard

    def turn(self) -> bool:
        """Take what came, keys first: somebody waits for the answer. Send what is due, wait until shortly before what is due next."""
        self._follow_song()
        self._take_input()
        self._take_events()
        now_ns = time.monotonic_ns()
        for slot in self.rack.slots:
            if slot.clock is not None:
                slot.output.send(*slot.clock.due(now_ns))
            steps = slot.player.due(now_ns)
            if steps:
                self._send(slot, steps)
            if slot.player.schedule.left_out:
                self._tell_left_out(slot)
        if now_ns >= self._look_ns:  # not in every turn: somebody may wait for an answer to what came in this one
            self._look_ns = now_ns + LOOK_NS
            self._look_for_faults()
            self._housekeep(now_ns)
        self._wait()
        return True

    def close(self) -> None:
        """Let go of every note, silence every channel, stop clocks, wait until the driver has taken it (three JACK periods)."""
        for slot in self.rack.slots:
            if slot.clock is not None:
                slot.clock.stop()
                slot.output.send(*slot.clock.due(time.monotonic_ns()))
        self._panic(count=False)
        self.rack.close()
        self.notes[:] = 0

    def _open(self) -> None:
        complaint = self.rack.open(self._waker)
        now_ns = time.monotonic_ns()
        self._retry_ns = now_ns + RETRY_NS
        for slot in self.rack.slots:
            slot.greet_ns = now_ns + GREET_NS
        if complaint:
            self._complain(complaint)

    def _follow_song(self) -> None:
        """Whom we speak to and listen to, what its parameters and programs are."""
        deck = heard(self.session.block)
        if deck == self.session.deck:
            return
        self.session.turn_to(deck)
        self.mapping.take_song(self.session.config)
        self.rack.take_song(self.session.config)

    def _look_for_faults(self) -> None:
        patchbay = self.rack.patchbay
        if patchbay is not None and patchbay.lost:
            self.rack.lost = True
            raise DeviceError("the JACK server behind the MIDI ports is gone; they open again when it, or another MIDI system, is back")
        now_ns = time.monotonic_ns()
        if now_ns - self._turned_ns > STALL_NS:
            self._steady_ns = now_ns
        self._turned_ns = now_ns
        if patchbay is not None and (silent_s := patchbay.hangs(now_ns, self._steady_ns)):
            self._complain(f"the patchbay hung for {silent_s:.1f} s and was ended")
            patchbay.kill()  # its end is seen, and another started, when nothing is due
            patchbay.heard_ns = now_ns
        self.rack.listen(now_ns)
        for slot in self.rack.slots:
            if slot.ended:
                raise DeviceError(f"the sender of the MIDI port {slot.output.name} has ended; everything opens anew")
            if silent_s := slot.hangs(now_ns, self._steady_ns):
                slot.kill()
                raise DeviceError(f"the sender of the MIDI port {slot.output.name} hung for {silent_s:.1f} s; everything opens anew")

    def _complain(self, complaint: str) -> None:
        print(f"rtserver midi: {complaint}", file=sys.stderr, flush=True)
        self.session.count("midi", "port_errors")

    def _take_events(self) -> None:
        for event in self.session.receive("midi"):
            if isinstance(event, Note) and self._panics.void(event):
                self._leave_out(event, "panic")
            elif isinstance(event, Note):
                self._waiting.append(event)
            elif isinstance(event, Command):
                self._obey(event)
            elif isinstance(event, Beat) and event.source == self.session.own("performer"):
                self._follow(event)
        if self._waiting and self.session.clock.running:
            for note in self._waiting:
                time_at = self.session.clock.time_at
                self._add(note, round(time_at(note.frame) * 1e9), round(time_at(note.frame + note.duration) * 1e9))
            self._waiting.clear()
        elif len(self._waiting) > MAX_NOTES:
            for note in self._waiting[:-MAX_NOTES]:
                self._leave_out(note, "room")
            del self._waiting[:-MAX_NOTES]

    def _add(self, note: Note, due_ns: int, off_ns: int) -> None:
        """Plan a note on every port that plays it."""
        players = [slot.player for slot in self.rack.slots if slot.player.plays(note)]
        if not playable(note) or not players:
            self._leave_out(note, "unplayable" if players else "port")
            return
        now_ns = time.monotonic_ns()
        for player in players:
            player.add(note, due_ns, off_ns, now_ns)

    def _leave_out(self, note: Note, why: str, count: int = 1) -> None:
        """Tell that a note is not played. What a schedule has left out it has counted."""
        self.session.count("midi", "dropped_notes", count)
        frame = self._frame(time.monotonic_ns())
        self.session.emit("midi", Dropped(note.frame, frame, note.note_id, note.pitch, note.channel, why), "gateway")

    def _tell_left_out(self, slot: Slot) -> None:
        """What a port has left out, by the first of those that were to play it."""
        left_out = slot.player.schedule.left_out
        while left_out:
            note, why = left_out.popleft()
            if self.rack.tells(slot, note):
                self._leave_out(note, why, 0)

    def _follow(self, beat: Beat) -> None:
        """The performer's clock: what our ports send follows it."""
        at_ns, now_ns = round(self.session.clock.time_at(beat.frame) * 1e9), time.monotonic_ns()
        for slot in self.rack.slots:
            if slot.clock is not None:
                slot.clock.take(at_ns + slot.offset_ns, beat.quarter, beat.tempo_bpm, beat.running, now_ns)

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
        now_ns = time.monotonic_ns()
        self._add(note, now_ns, now_ns + round(duration_s * 1e9))
        self.session.emit("midi", note, *(["follower"] if self.session.setup.score_file else []), "gateway")

    def _take_input(self) -> None:
        for port, arrived_ns, message in self.rack.receive():
            port = port or IN_PORT_NAME
            if message:
                self.session.count("midi", "messages_in")
                self._hear(port, arrived_ns, message)
            else:
                self._let_go(port)
        if self.rack.deaf:
            self._let_go()

    def _let_go(self, *ports: str) -> None:
        """Say what the keyboards at `ports`, by default at all of them, would have said had they been let go of before they went."""
        now_ns = time.monotonic_ns()
        for port in ports or self.keys:
            for message in self.keys[port].let_go():
                self.session.count("midi", "keys_let_go")
                self._hear(port, now_ns, message)
            self.mapping.forget(port)

    def _hear(self, port: str, arrived_ns: int, message: bytes) -> None:
        """A message of the player's, from the driver or in the place of one that has gone."""
        frame = self._frame(arrived_ns)
        self.keys[port].take(message)
        self.session.emit("midi", MidiIn(frame, frame + self._input_effect, port, message), "performer", "follower", "gateway")
        for action in self.mapping.take(port, message):
            self._do(action, frame)
        if message[0] in CLOCK_MESSAGES:
            clock = self.clocks.setdefault(port, ClockIn(self._grain_s))
            self._tell_beat(port, clock.take(message, arrived_ns * 1e-9))

    def _tell_beat(self, port: str, fix: Fix | None) -> None:
        """What a MIDI clock says: every sixteenth, and every tick of the first one."""
        clock = self.clocks[port]
        if fix is None:
            return
        tick = round(fix.quarter * TICKS_PER_QUARTER)
        if fix.running and tick % TICKS_PER_SIXTEENTH and clock.since_start > TICKS_PER_SIXTEENTH:
            return
        frame = self._frame(round(fix.at_s * 1e9))
        effect = self._frame(time.monotonic_ns()) + self._input_effect
        beat = Beat(frame, effect, fix.quarter, fix.tempo_bpm, fix.running, port)
        self.session.emit("midi", beat, "performer", "gateway")

    def _do(self, action: Action, now: int) -> None:
        """What a mapped message asks for; it takes effect a declared time after `now`, with midi at once."""
        frame = now + self._action_effect
        self.session.count("midi", "mapped")
        if action.is_parameter and action.value is not None:
            event: Param | Command = Param(frame, now, action.name, action.value)
        else:
            event = Command(frame, now, action.name, action.value)
            if "midi" in action.roles:
                self._obey(event)
        self.session.emit("midi", event, *(role for role in action.roles if role != "midi"), "gateway")

    def _obey(self, command: Command) -> None:
        if command.name == "panic":
            self._panics.take(command)
            self._panic()
        elif command.name == "note":
            self._play(str(command.value))

    def _send(self, slot: Slot, steps: list[Step]) -> None:
        """Send first, tell afterwards: events cost more than messages. What two ports play is told once, by the first of them."""
        for step in steps:
            slot.output.send(*step.messages)
        sent_ns = time.monotonic_ns()
        for step in steps:
            if step.off is not None:
                self._ended(slot, step.off, step.due_ns, sent_ns)
            if step.on is not None:
                self._began(slot, step.on, step.due_ns, sent_ns)

    def _began(self, slot: Slot, note: Note, due_ns: int, sent_ns: int) -> None:
        late_ns = sent_ns - due_ns
        self.session.count("midi", "notes_on")
        self.session.count("midi", "late_notes", int(late_ns > LATE_NS))
        self.session.count_max("midi", "late_ns_max", late_ns)
        if self.rack.tells(slot, note):
            self.notes[note.channel, note.pitch] = slot.player.table.cells[slot.player.table.key(note)]
            event = NoteOn(note.frame, self._frame(sent_ns), note.note_id, note.pitch, note.velocity, note.channel, due_ns, sent_ns)
            self.session.emit("midi", event, "gateway")

    def _ended(self, slot: Slot, note: Note, due_ns: int, sent_ns: int) -> None:
        self.session.count("midi", "notes_off")
        if self.rack.tells(slot, note):
            self.notes[note.channel, note.pitch] = 0
            frame = note.frame + note.duration
            event = NoteOff(frame, self._frame(sent_ns), note.note_id, note.pitch, note.channel, due_ns, sent_ns)
            self.session.emit("midi", event, "gateway")

    def _panic(self, count: bool = True) -> None:
        """Forget what waits, end what sounds, silence all channels."""
        now_ns = time.monotonic_ns()
        self._waiting.clear()
        cut: list[tuple[Slot, Note]] = []
        for slot in self.rack.slots:
            messages, ended = slot.player.panic(now_ns)
            slot.output.send(*messages)
            cut += [(slot, note) for note in ended]
        sent_ns = time.monotonic_ns()
        for slot, note in cut:
            self._ended(slot, note, now_ns, sent_ns)
        if count:
            self.session.count("midi", "panics")

    def _housekeep(self, now_ns: int) -> None:
        """Counters; programs for a synth that has just come; what has broken or is missing, while nothing is due."""
        made = self.rack.made()
        for slot in self.rack.slots:
            slot.settle(now_ns)
            if slot.name in made:
                slot.greet_ns = now_ns + GREET_NS
            if slot.greet_ns is not None and now_ns >= slot.greet_ns:
                slot.greet_ns = None
                slot.output.send(*slot.player.greeting())
        for port, clock in self.clocks.items():
            self._tell_beat(port, clock.silent(now_ns * 1e-9))
        clocks = self.clocks.values()
        ticks = {"ticks_in": sum(clock.ticks for clock in clocks), "ticks_lost": sum(clock.lost for clock in clocks)}
        for counter, total in (self.rack.totals() | ticks).items():
            self.session.count("midi", counter, max(total - self._counted.get(counter, 0), 0))
            self._counted[counter] = total
        complaint = self.rack.complaint
        if complaint and complaint != self._complained:
            print(f"rtserver midi: {complaint}", file=sys.stderr, flush=True)
            self._complained = complaint
        next_ns = self.rack.next_due_ns
        quiet = next_ns is None or next_ns - now_ns > QUIET_NS
        if now_ns >= self._retry_ns and (quiet or self.rack.stands_in):  # what goes nowhere may be late
            self._retry_ns = now_ns + RETRY_NS
            self.session.beat("midi", OPEN_S)
            self._retry()

    def _retry(self) -> None:
        """A null backend that stands in: is there something better by now? A patchbay that has ended by itself: start another."""
        patchbay: Patchbay | None = self.rack.patchbay
        if self.rack.stands_in:
            if self.rack.found():
                self._open()
        elif patchbay is not None and patchbay.ended:
            self._complain(f"the patchbay has ended, starting another: {patchbay.complaint or 'no reason given'}")
            self.rack.open_patchbay(self._waker)

    def _wait(self) -> None:
        timeout_s = INPUT_POLL_S if self.rack.polls else TURN_S
        next_ns = self.rack.next_due_ns
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
