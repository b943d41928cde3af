"""The performer role: positions and features in, notes out, each with its due frame and its duration.

It advances with the feature ring, one tick every 10 ms of audio, so that what it plays depends on the audio and not on when it was woken:
positions, parameters, commands and MIDI take effect at the tick of their declared frame, and what comes later is told (`agenda`). One thing
is not to wait for a tick: the key with which the music begins, where the clock waits for it.
"""

from __future__ import annotations

import numpy as np

from rtserver.config.click import COUNT_IN
from rtserver.config.midi import ports_of
from rtserver.dsp.layout import N_HEARD
from rtserver.events import Beat, Command, Event, MidiIn, Param, Position
from rtserver.following.score import Score
from rtserver.following.states import FOLLOWING, JUMPED
from rtserver.roles.agenda import Agenda
from rtserver.roles.clicking import Clicking
from rtserver.roles.hops import HopReader
from rtserver.roles.playing import Playing, strikes
from rtserver.roles.role import TURN_S
from rtserver.shared.session import Session
from rtserver.transport import Transport


class PerformerRole:
    """Runs the session's musical clock, and what goes by it: the performer's notes and the click."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def prepare(self) -> None:
        session, generation = self.session, self.session.config.generation
        sample_rate = session.config.audio.sample_rate
        self.transport = Transport(sample_rate, generation.tempo_bpm)
        self.follows = bool(session.setup.score_file)
        self.clock_from = "" if self.follows else session.config.midi.clock_from
        free = not self.follows and not self.clock_from
        self.playing: Playing | None = None  # a click needs no network
        score = Score.from_npz(session.setup.score_file) if self.follows else None
        if generation.enabled:
            self.playing = Playing(session, self.transport, score, waits=free and generation.start == "first_note")
        self.clicking = Clicking(session, self.transport, score, free=free)
        self.x = np.zeros(N_HEARD, np.float32)
        self.agenda = Agenda(session, "performer")
        self.reader = HopReader(session, "performer")
        self.forgotten = -1  # positions of audio up to this frame are of before the last reset
        self.sends_clock = any(port.clock for port in ports_of(session.config).values())
        self.state = ""  # of the follower
        self.entered = False
        self.told = (0, 0.0, 0.0, False)  # the line that midi knows: frame, quarter, tempo, running
        self.waker = session.waker("performer")

    @property
    def waiting(self) -> bool:
        """Whether the clock waits for the player's first key."""
        return self.playing is not None and self.playing.waiting

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
                if self.playing is not None:
                    self.playing.begin(frame)
            self._begin_with_key()
            for event in self.agenda.due(frame):
                self._take(event, frame)
            if missing and self.playing is not None:
                self.playing.miss(frame - missing)
            self._tick(frame)
        self._begin_with_key()

    def _begin_with_key(self) -> None:
        """Where the clock waits for the player's first key: begin with it, between two hops."""
        if self.playing is None or not self.waiting:
            return
        for event in self.agenda.at_once(strikes):
            if isinstance(event, MidiIn):
                self.playing.answer(event)

    def _take(self, event: Event, frame: int) -> None:
        if isinstance(event, Position) or (isinstance(event, Beat) and event.source == self.clock_from):
            self._move(event, frame)
        elif isinstance(event, Param) and event.name.startswith("click."):
            self.clicking.set(event.name.removeprefix("click."), event.value)
        elif isinstance(event, Command) and event.name in ("reset", "panic"):
            self.transport.stop(frame)
            self.clicking.reset()
            self.forgotten = frame
            if self.playing is not None:
                self.playing.reset()
        elif isinstance(event, Command) and event.name == COUNT_IN:
            self.clicking.obey(event, frame)
            if self.playing is not None and self.transport.running:  # who is counted in need not begin it with a key
                self.playing.waiting = False
        elif isinstance(event, MidiIn) and self.playing is not None:
            self.playing.hear(event)
        elif isinstance(event, Param) and self.playing is not None:
            self.playing.set(event, frame)

    def _tick(self, frame: int) -> None:
        self.session.count("performer", "events")
        if not self.follows and not self.clock_from and not self.transport.running and not self.waiting:
            self.clicking.start(frame)
        self.clicking.advance(frame)
        if self.sends_clock:
            self._tell_clock(frame)
        if self.playing is not None:
            self.playing.accompanist.entry = self.clicking.starts_at  # until then it is counted in
            self.playing.advance(frame, self.x)

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

    def close(self) -> None:
        return None
