"""The follower role: features in, positions out. A worker: what it says takes effect a declared time later."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np

from rtserver.dsp.layout import N_FEATURES
from rtserver.errors import ScoreError
from rtserver.events import Command, Event, MidiIn, Note, Position, encode
from rtserver.following.follower import Follower
from rtserver.following.hand import Hand
from rtserver.following.news import News
from rtserver.following.reference import Reference
from rtserver.following.score import Score
from rtserver.node import Spec
from rtserver.roles.agenda import EFFECT_S, Agenda
from rtserver.roles.cueing import Cueing
from rtserver.roles.hops import HopReader
from rtserver.roles.ownnotes import OwnNotes
from rtserver.roles.refusing import refuse
from rtserver.roles.role import TURN_S
from rtserver.separation.model import prompted
from rtserver.shared.session import POSITION, Session
from rtserver.verdict import REFERENCE_FILE

NOTE_ON = 0x90  # the MIDI status, without its channel


class FollowerRole:
    """Runs the tracker over the feature ring."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def prepare(self) -> None:
        session = self.session
        config = session.config
        sample_rate = config.audio.sample_rate
        self.effect = round(EFFECT_S * sample_rate)
        score_file, reference = Path(session.setup.score_file), None
        if config.following.reference != "score":
            reference = Reference.from_npz(score_file.with_name(REFERENCE_FILE))
        self.follower = Follower(Score.from_npz(score_file), config.following.method, reference)
        self.follower.prepare(Spec(sample_rate, round(sample_rate / 100), (N_FEATURES,)))
        self.position = session.block[f"deck{session.deck}.position"]
        self.x = np.zeros(N_FEATURES, np.float32)
        self.keys = config.following.keys
        self.agenda = Agenda(session, "follower")
        self.own = OwnNotes(config, self.follower)
        self.hand = Hand(self.follower, sample_rate)
        self.news = News(self.follower.score)
        self.cueing = Cueing(session, self.follower.score, self.agenda)
        self.reader = HopReader(session, "follower")
        self.waker = session.waker("follower")
        self.prompts = any(prompted(config, name) is not None for name in config.inputs)  # whether the engine wants to know
        self.engine = session.ring(session.own("follower"), session.own("engine"))

    def turn(self) -> bool:
        self.waker.wait(TURN_S)
        self.step()
        return True

    def step(self) -> None:
        """Follow whatever has come. Waits for nothing."""
        until = self.reader.written  # before the events: what was said before a hop was written is known when it is read
        if self.reader.early(until):
            return
        for event in self.session.receive("follower"):
            if self.own.ignores(event) if isinstance(event, Note) else not isinstance(event, MidiIn) or self._is_key(event):
                self.agenda.add(event)
        for frame, missing in self.reader.hops(until, self.x):
            start = time.perf_counter_ns()
            struck: list[int] = []
            for event in self.agenda.due(frame):
                if isinstance(event, Command):
                    self._obey(event, frame)
                elif isinstance(event, Note):
                    self.session.count("follower", "own_notes", int(self.own.take(event, frame)))
                elif isinstance(event, MidiIn) and self.own.is_own(event):
                    self.session.count("follower", "own_keys")
                elif isinstance(event, MidiIn):
                    struck.append(event.data[1])
            self.own.advance(frame)
            if missing:
                self.follower.gap()
            if self.keys:
                self.follower.process_keys(struck, frame, self._emit)
            else:
                self.follower.process(self.x, frame, self._emit)
            self.session.count_max("follower", "hop_ns_max", time.perf_counter_ns() - start)
            self.session.count("follower", "hops")
            if self.session.frame > frame + self.effect:
                self.session.count("follower", "late_hops")

    def _emit(self, event: Event) -> None:
        if not isinstance(event, Position):
            return
        position = msgspec.structs.replace(self.hand.take(event), available_frame=event.frame + self.effect)
        if self.prompts:
            self.engine.put(encode(position))  # and nobody is woken: the next block is as soon as it can be of use
        self.session.emit("follower", position, "performer", "gateway")
        self.session.count("follower", "positions")
        self.position[:] = [getattr(position, name) for name in POSITION]
        for new in self.news.take(position):
            self.session.emit("follower", new, "gateway")
        self.cueing.take(position)

    def _is_key(self, event: MidiIn) -> bool:
        """Whether somebody struck a key that is to be followed."""
        data = event.data
        return event.port == self.keys and len(data) == 3 and data[0] & 0xF0 == NOTE_ON and data[2] > 0

    def _obey(self, command: Command, frame: int) -> None:
        """Do what `command` says before the hop that ends at `frame`, or tell why not."""
        try:
            self.hand.obey(command)
            self.cueing.obey(command, self.follower.method.quarter, frame, frame + self.effect)
        except ScoreError as error:
            refuse(self.session, "follower", frame, command, error)

    def close(self) -> None:
        return None
