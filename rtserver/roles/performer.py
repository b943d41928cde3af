"""The performer role: positions and features in, notes out, each with its due frame and its duration.

It advances with the feature ring, one tick every 10 ms of audio, so that what it plays depends on the audio and not on when it was woken:
positions, parameters, commands and MIDI take effect at the tick of their declared frame, and what comes later is told (`agenda`).
"""

from __future__ import annotations

import time

import numpy as np

from rtserver.config import Generation
from rtserver.config.click import COUNT_IN
from rtserver.config.midi import ports_of
from rtserver.dsp.features import LEVEL, N_CHROMA
from rtserver.events import Beat, Command, Event, MidiIn, Note, Param, Position
from rtserver.following.states import FOLLOWING, JUMPED
from rtserver.generation.constraints import Constraints
from rtserver.generation.modes import Accompanist
from rtserver.generation.performer import Performer
from rtserver.roles.agenda import Agenda
from rtserver.roles.clicking import Clicking
from rtserver.roles.hops import HopReader
from rtserver.roles.role import TURN_S
from rtserver.shared.session import Session
from rtserver.transport import Transport

# Notes are committed this far ahead of their due frames: one tick, the worker's lateness, and the way to the port.
HORIZON_S = 0.05
SOFT_DB, LOUD_DB = -50.0, -10.0  # levels of the player that mean velocities 40 and 100


def constraints_of(generation: Generation) -> Constraints:
    """The hard limits that a configuration states."""
    return Constraints(
        scale=generation.scale,
        low=generation.pitch_low,
        high=generation.pitch_high,
        polyphony=generation.polyphony,
        grid=generation.grid,
    )


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
        self.enabled = True  # as far as there is a network at all
        self.horizon = round(HORIZON_S * sample_rate)
        self.transport = Transport(sample_rate, generation.tempo_bpm)
        self.accompanist = self._accompanist(generation) if generation.enabled else None  # a click needs no network
        self.follows = bool(session.setup.score_file)
        self.x = np.zeros(session.features.vectors.shape[1], np.float32)
        self.agenda = Agenda(session, "performer")
        self.reader = HopReader(session, "performer")
        self.forgotten = -1  # positions of audio up to this frame are of before the last reset
        self.clock_from = "" if self.follows else session.config.midi.clock_from
        self.clicking = Clicking(session, self.transport, free=not self.follows and not self.clock_from)
        self.sends_clock = any(port.clock for port in ports_of(session.config).values())
        self.state = ""  # of the follower
        self.entered = False
        self.told = (0, 0.0, 0.0, False)  # the line that midi knows: frame, quarter, tempo, running
        self.waker = session.waker("performer")

    def _accompanist(self, generation: Generation) -> Accompanist:
        performer = Performer(generation.model, generation.seed, temperature=generation.temperature, top_p=generation.top_p)
        return Accompanist(
            performer,
            self.transport,
            generation.mode,
            constraints=constraints_of(generation),
            channel=generation.channel - 1,
            level=float(generation.velocity),
        )

    def turn(self) -> bool:
        self.waker.wait(TURN_S)
        self.step()
        return True

    def step(self) -> None:
        """Play whatever has become due. Waits for nothing."""
        until = self.reader.written  # before the events: what was said before a hop was written is known when it is read
        if self.reader.early(until):
            return
        for event in self.session.receive("performer"):
            self.agenda.add(event)
        for frame, missing in self.reader.hops(until, self.x):
            if not self.entered:
                self.entered = True
                if self.accompanist is not None:
                    self.accompanist.first_note_id = first_note_id(frame, self.session.deck)
            for event in self.agenda.due(frame):
                self._take(event, frame)
            if missing and self.accompanist is not None:  # nobody knows what sounded meanwhile: let what was heard fade
                self.accompanist.hear_chroma(frame - missing, np.zeros(N_CHROMA, np.float32))
            self._tick(frame)

    def _take(self, event: Event, frame: int) -> None:
        if isinstance(event, Position) or (isinstance(event, Beat) and event.source == self.clock_from):
            self._move(event, frame)
        elif isinstance(event, MidiIn):
            if self.accompanist is not None:
                self.accompanist.hear_midi(event)
        elif isinstance(event, Param) and event.name.startswith("click."):
            self.clicking.set(event.name.removeprefix("click."), event.value)
        elif isinstance(event, Param):
            self._set(event.name.removeprefix("generation."), event.value)
        elif isinstance(event, Command) and event.name in ("reset", "panic"):
            self.transport.stop(frame)
            self.clicking.reset()
            if self.accompanist is not None:
                self.accompanist.reset()
            self.forgotten = frame
        elif isinstance(event, Command) and event.name == COUNT_IN:
            self.clicking.obey(event, frame)

    def _tick(self, frame: int) -> None:
        self.session.count("performer", "events")
        if not self.follows and not self.clock_from and not self.transport.running:
            self.clicking.start(frame)
        self.clicking.advance(frame)
        if self.sends_clock:
            self._tell_clock(frame)
        if self.accompanist is None:
            return
        share = np.clip((float(self.x[LEVEL]) - SOFT_DB) / (LOUD_DB - SOFT_DB), 0.0, 1.0)
        heard = self.x[:N_CHROMA] if share > 0 else np.zeros(N_CHROMA, np.float32)
        self.accompanist.hear_chroma(frame, heard, 40.0 + 60.0 * float(share) if share > 0 else None)
        if self.enabled and self.transport.quarter_at(frame) >= self.clicking.starts_at:  # else it is counted in
            start = time.perf_counter_ns()
            self.accompanist.advance(frame, self.horizon, self._emit)
            self.session.count_max("performer", "query_ns_max", time.perf_counter_ns() - start)

    def _move(self, fix: Position | Beat, frame: int) -> None:
        """Where the musical clock goes, from the hop that ends at `frame` on."""
        if fix.frame <= self.forgotten:
            return
        if isinstance(fix, Position):
            self.clicking.hear(fix)
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

    def _emit(self, event: Event) -> None:
        self.session.emit("performer", event, "midi", *(["follower"] if self.follows else []), "gateway")
        if isinstance(event, Note):
            self.session.count("performer", "notes")
            if event.frame < self.session.frame:
                self.session.count("performer", "late_notes")

    def _set(self, name: str, value: float | str | bool) -> None:
        accompanist = self.accompanist
        if accompanist is None:
            return
        if name == "enabled":
            self.enabled = bool(value)
        elif name == "mode":
            accompanist.mode = str(value)
        elif name == "scale":
            c = accompanist.constraints
            accompanist.constrain(Constraints(scale=str(value), low=c.low, high=c.high, polyphony=c.polyphony, grid=c.grid))
        elif name == "temperature":
            accompanist.performer.set_sampling(float(value), accompanist.performer.top_p)
        elif name == "top_p":
            accompanist.performer.set_sampling(accompanist.performer.temperature, float(value))

    def close(self) -> None:
        return None
