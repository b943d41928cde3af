"""The performer role: positions and features in, notes out, each with its due frame and its duration.

It advances with the feature ring, one tick every 10 ms of audio, so that what it plays depends on the audio and not on when it was woken:
positions, parameters, commands and MIDI take effect at the tick of their declared frame, and what comes later is told (`agenda`). One thing
is not to wait for a tick: the key with which the music begins, where the clock waits for it.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np

from rtserver.config.midi import ports_of
from rtserver.dsp.features import LEVEL, N_CHROMA
from rtserver.errors import ConfigError
from rtserver.events import Beat, Command, Event, MidiIn, Note, Param, Plan, Position
from rtserver.following.score import Score
from rtserver.following.states import FOLLOWING, JUMPED
from rtserver.generation.settings import accompanist_of, change, with_value
from rtserver.generation.vocabulary import TICKS_PER_QUARTER
from rtserver.roles.agenda import Agenda
from rtserver.roles.hops import HopReader
from rtserver.roles.ownnotes import OwnKeys
from rtserver.roles.refusing import refuse
from rtserver.roles.role import TURN_S
from rtserver.shared.session import Session
from rtserver.transport import Transport
from rtserver.verdict import WHOLE_FILE

# Notes are committed this far ahead of their due frames: one tick, the worker's lateness, and the way to the port.
HORIZON_S = 0.05
PLAN_EVERY_S = 0.1  # the plan is told at most so often
NOTES, NOTE_ON = 0x80, 0x90  # MIDI status bytes, without channel: of both kinds of note messages, of note-on
SOFT_DB, LOUD_DB = -50.0, -10.0  # levels of the player that mean velocities 40 and 100


def first_note_id(frame: int, deck: int) -> int:
    """Where the notes of a performer that enters at `frame` begin to count: no other performer of the session comes near.

    Below 2**53, for JSON; above what clients' notes have.
    """
    return (1 << 52) + ((2 * frame + deck) << 12)


class PerformerRole:
    """Runs an `Accompanist` on the session's musical clock."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def prepare(self) -> None:
        session, generation = self.session, self.session.config.generation
        sample_rate = session.config.audio.sample_rate
        self.generation = generation
        self.horizon = round(HORIZON_S * sample_rate)
        self.transport = Transport(sample_rate, generation.tempo_bpm)
        self.follows = bool(session.setup.score_file)
        self.accompanist = accompanist_of(generation, self.transport, *self._scores(), followed=session.config.score.parts)
        self.own = OwnKeys(session.config)
        self.x = np.zeros(session.features.vectors.shape[1], np.float32)
        self.agenda = Agenda(session, "performer")
        self.reader = HopReader(session, "performer")
        self.forgotten = -1  # positions of audio up to this frame are of before the last reset
        self.clock_from = "" if self.follows else session.config.midi.clock_from
        self.begins_with_key = generation.start == "first_note" and not self.follows and not self.clock_from
        self.waiting = self.begins_with_key
        self.plan_told = (0, 0)  # revision of the draft, frame
        self.n_plans = 0
        self.sends_clock = any(port.clock for port in ports_of(session.config).values())
        self.state = ""  # of the follower
        self.entered = False
        self.told = (0, 0.0, 0.0, False)  # the line that midi knows: frame, quarter, tempo, running
        self.waker = session.waker("performer")

    def turn(self) -> bool:
        self.waker.wait(TURN_S)
        self.step()
        return True

    def step(self) -> None:
        """Play whatever has become due. Waits for nothing."""
        until = self.reader.written  # before the events: what was said before a hop was written is known when it is read
        if self.reader.early(until) and not self.waiting:
            return
        for event in self.session.receive("performer"):
            self.agenda.add(event)
        for frame, missing in self.reader.hops(until, self.x):
            if not self.entered:
                self.entered = True
                self.accompanist.hands.note_id = first_note_id(frame, self.session.deck)
            self._begin_with_key()
            for event in self.agenda.due(frame):
                self._take(event, frame)
            if missing:  # nobody knows what sounded meanwhile: let what was heard fade
                self.accompanist.hear_chroma(frame - missing, np.zeros(N_CHROMA, np.float32))
            self._tick(frame)
        self._begin_with_key()

    def _begin_with_key(self) -> None:
        """Where the clock waits for the player's first key: begin with it, between two ticks."""
        if not self.waiting:
            return
        for event in self.agenda.at_once(_strikes):
            if isinstance(event, MidiIn):
                self._hear(event)
                self.accompanist.advance(event.frame, self.horizon, self._emit)

    def _hear(self, event: MidiIn) -> None:
        """A key of the player's; with the first one the clock begins."""
        if _is_key(event) and self.own.is_own(event):
            return
        begins = self.waiting and _strikes(event)
        if begins:
            self.waiting = False
            self.transport.start(event.frame)
        self.accompanist.hear_midi(event)
        if begins:
            self.accompanist.begin(event.frame)

    def _take(self, event: Event, frame: int) -> None:
        if isinstance(event, Position) or (isinstance(event, Beat) and event.source == self.clock_from):
            self._move(event, frame)
        elif isinstance(event, MidiIn):
            self._hear(event)
        elif isinstance(event, Param):
            self._set(event, frame)
        elif isinstance(event, Command) and event.name in ("reset", "panic"):
            self.transport.stop(frame)
            self.accompanist.reset()
            self.forgotten = frame
            self.waiting = self.begins_with_key

    def _tick(self, frame: int) -> None:
        self.session.count("performer", "events")
        self.own.advance(frame)
        if not self.follows and not self.clock_from and not self.transport.running and not self.waiting:
            self.transport.start(frame)
        if self.sends_clock:
            self._tell_clock(frame)
        share = np.clip((float(self.x[LEVEL]) - SOFT_DB) / (LOUD_DB - SOFT_DB), 0.0, 1.0)
        heard = self.x[:N_CHROMA] if share > 0 else np.zeros(N_CHROMA, np.float32)
        self.accompanist.hear_chroma(frame, heard, 40.0 + 60.0 * float(share) if share > 0 else None)
        start = time.perf_counter_ns()
        self.accompanist.advance(frame, self.horizon, self._emit)
        self.session.count_max("performer", "query_ns_max", time.perf_counter_ns() - start)
        self._tell_plan(frame)

    def _move(self, fix: Position | Beat, frame: int) -> None:
        """Where the musical clock goes, from the hop that ends at `frame` on."""
        if fix.frame <= self.forgotten:
            return
        state, self.state = self.state, fix.state if isinstance(fix, Position) else ""
        if isinstance(fix, Beat) and fix.running:
            self.transport.update(fix.frame, fix.quarter, fix.tempo_bpm)
        elif isinstance(fix, Position) and fix.state in FOLLOWING:
            self.transport.follow(frame, fix, leapt=fix.state == JUMPED != state)
        else:
            self.transport.stop(fix.frame)

    def _tell_clock(self, frame: int) -> None:
        """The transport's line to the midi role, which sends MIDI clock along it."""
        transport = self.transport
        line = (transport.frame, transport.quarter, transport.line_bpm, transport.running)
        if line != self.told:
            self.told = line
            source = self.session.own("performer")
            self.session.emit("performer", Beat(line[0], frame, line[1], line[2], line[3], source), "midi")

    def _tell_plan(self, frame: int) -> None:
        """What is meant to be played, where that has become another; at most ten times a second."""
        draft = self.accompanist.draft
        revision, told = self.plan_told
        if draft.revision == revision or frame - told < PLAN_EVERY_S * self.transport.sample_rate:
            return
        self.plan_told = draft.revision, frame
        self.n_plans += 1
        before = math.floor(self.transport.quarter_at(frame)) * TICKS_PER_QUARTER
        notes: list[tuple[int, int, int]] = []
        for tick, pitch, duration in self.accompanist.plan:
            notes.append((max(0, tick - before), pitch, duration))
            before = max(tick, before)
        quarter = float(math.floor(self.transport.quarter_at(frame)))
        self.session.emit("performer", Plan(frame, frame, self.n_plans, quarter, notes), "gateway")

    def _emit(self, event: Event) -> None:
        self.session.emit("performer", event, "midi", *(["follower"] if self.follows else []), "gateway")
        if isinstance(event, Note):
            self.own.note(event)
            self.session.count("performer", "notes")
            if event.frame < self.session.frame:
                self.session.count("performer", "late_notes")

    def _set(self, param: Param, frame: int) -> None:
        name, value = param.name.removeprefix("generation."), param.value
        try:
            if name == "enabled":
                self.accompanist.silent = not value
            elif name == "mode":
                self.accompanist.set_mode(str(value), frame)
            else:
                wanted = with_value(self.generation, name, value)
                change(self.accompanist, self.generation, wanted)
                self.generation = wanted
        except ConfigError as error:
            refuse(self.session, "performer", frame, param, error)

    def _scores(self) -> tuple[Score | None, Score | None]:
        """The score that is followed, and the same with all parts where that has not."""
        if not self.follows:
            return None, None
        score = Path(self.session.setup.score_file)
        whole = score.with_name(WHOLE_FILE)
        return Score.from_npz(score), Score.from_npz(whole) if whole.exists() else None

    def close(self) -> None:
        return None


def _is_key(event: Event) -> bool:
    """Whether it is a note-on or note-off."""
    return isinstance(event, MidiIn) and len(event.data) == 3 and event.data[0] & 0xE0 == NOTES


def _strikes(event: Event) -> bool:
    """Whether somebody strikes a key."""
    return isinstance(event, MidiIn) and _is_key(event) and event.data[0] & NOTE_ON == NOTE_ON and event.data[2] > 0
