"""The performer's notes: what is heard of the player, wished for by parameters, and told to whoever plays notes or shows the plan."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np

from rtserver.config.lookahead import lookahead_s
from rtserver.dsp.layout import HARMONIC_CHROMA, HARMONIC_LEVEL, LEVEL, N_CHROMA, N_FEATURES
from rtserver.errors import ConfigError
from rtserver.events import Event, MidiIn, Note, Param, Plan
from rtserver.following.bleed import Bleed, OwnNote
from rtserver.following.score import Score
from rtserver.generation.settings import accompanist_of, change, with_value
from rtserver.generation.vocabulary import TICKS_PER_QUARTER
from rtserver.node import Array
from rtserver.roles.hops import HOPS_A_SECOND
from rtserver.roles.ownnotes import OwnKeys
from rtserver.roles.refusing import refuse
from rtserver.shared.session import Session
from rtserver.transport import Transport
from rtserver.verdict import WHOLE_FILE

# Notes are committed so far ahead of their due frames, beside what their sinks ask for: a tick, the worker's lateness, the way to the port.
COMMIT_S = 0.03
PLAN_EVERY_S = 0.1  # the plan is told at most so often
SOFT_DB, LOUD_DB = -50.0, -10.0  # levels of the player that mean velocities 40 and 100
HARMONY_DB = 12.0  # the harmonic part so much softer than the whole is what drums leave in it, not somebody who plays chords
OWN_DB = 6.0  # so much less without our own notes: what is left is what we cannot tell from them, and nobody plays
NOTES, NOTE_ON = 0x80, 0x90  # MIDI status bytes, without channel: of both kinds of note messages, of note-on


def first_note_id(frame: int, deck: int) -> int:
    """Where the notes of a performer that enters at `frame` begin to count: no other performer of the session comes near.

    Below 2**53, for JSON; above what clients' notes have.
    """
    return (1 << 52) + ((2 * frame + deck) << 12)


class Playing:
    """An `Accompanist` in a session.

    Parameters
    ----------
    session : Session
    transport : Transport
        The performer's.
    score : Score, optional
        The one that is followed.
    waits : bool
        Whether the clock is to wait for the player's first key.

    Attributes
    ----------
    horizon : int
        So many frames before they are due notes are committed.
    waiting : bool
        Whether it waits now.
    """

    def __init__(self, session: Session, transport: Transport, score: Score | None, waits: bool) -> None:
        self._session, self._transport = session, transport
        self._generation = session.config.generation
        self.accompanist = accompanist_of(self._generation, transport, score, _whole(session), session.config.score.parts)
        self._own = OwnKeys(session.config)
        self._bleed = Bleed() if session.config.following.own_notes == "ignore" else None
        self._hop_size = round(transport.sample_rate / HOPS_A_SECOND)
        self._frame = 0  # at the end of the last hop
        self._follows = score is not None
        self.horizon = round((COMMIT_S + lookahead_s(session.config)) * transport.sample_rate)
        self._waits = self.waiting = waits
        self._shown = (0, 0, False)  # the draft's revision as told last, when, and whether there was anything in it
        self._n_plans = 0
        self._counted = (0, 0, 0, 0)

    def begin(self, frame: int) -> None:
        """The first hop of the session, or of this performer, ends at `frame`."""
        self.accompanist.hands.note_id = first_note_id(frame, self._session.deck)

    def hear(self, event: MidiIn) -> None:
        """A MIDI message of the player's; with the first key the clock begins."""
        if is_key(event) and self._own.is_own(event):
            return
        if self.waiting and strikes(event):
            self.waiting = False
            self._transport.start(event.frame)
            self.accompanist.enter()
        self.accompanist.hear_midi(event)

    def answer(self, event: MidiIn) -> None:
        """Hear a key and play at once, between two hops."""
        self.hear(event)
        self.accompanist.advance(event.frame, self.horizon, self._emit, grow=False)  # whoever hears of the note comes first

    def miss(self, frame: int) -> None:
        """Nobody knows what sounded from `frame` on: let what was heard fade."""
        self.accompanist.hear_chroma(frame, np.zeros(N_CHROMA, np.float32))

    def advance(self, frame: int, heard: Array) -> None:
        """Hear the hop that ends at `frame`, a vector (N_HEARD,) of `rtserver.dsp.layout`, and play what is due soon after it."""
        session, accompanist = self._session, self.accompanist
        self._frame = frame
        self._own.advance(frame)
        self._listen(frame, heard)
        if self.waiting:
            accompanist.foresee()
        start = time.perf_counter_ns()
        accompanist.advance(frame, self.horizon, self._emit)
        session.count_max("performer", "query_ns_max", time.perf_counter_ns() - start)
        self._count()
        self._show(frame)

    def _listen(self, frame: int, heard: Array) -> None:
        """Whether somebody plays and how loud, from all of the sound; what is in harmony with it, from that or from its harmonic part."""
        features = heard[:N_FEATURES]
        theirs = features if self._bleed is None else self._bleed.process(features)
        level = float(theirs[LEVEL])
        if level <= SOFT_DB or float(features[LEVEL]) - level >= OWN_DB:
            self.miss(frame)
            return
        chroma = theirs[:N_CHROMA]
        if self._generation.harmony == "harmonic":
            chroma = chroma_of(heard) * (self._bleed.left if self._bleed is not None else 1.0)
        share = min((level - SOFT_DB) / (LOUD_DB - SOFT_DB), 1.0)
        self.accompanist.hear_chroma(frame, chroma, 40.0 + 60.0 * share)

    def set(self, param: Param, frame: int) -> None:
        """A parameter has another value from the hop that ends at `frame` on."""
        name, value = param.name.removeprefix("generation."), param.value
        try:
            if name == "enabled":
                self.accompanist.silent = not value
            elif name == "mode":
                self.accompanist.set_mode(str(value), frame)
            else:
                wanted = with_value(self._generation, name, value)
                change(self.accompanist, self._generation, wanted)
                self._generation = wanted
        except ConfigError as error:
            refuse(self._session, "performer", frame, param, error)

    def reset(self) -> None:
        """Forget the past; the transport stands."""
        self.accompanist.reset()
        self.waiting = self._waits

    def _count(self) -> None:
        """What was left out, as totals since the role's start: the accompanist's own counts begin anew with it."""
        accompanist = self.accompanist
        now = (accompanist.n_late, accompanist.n_blocked, accompanist.n_replans, accompanist.performer.n_nan)
        for name, n, seen in zip(("left_late", "left_blocked", "replans", "nonfinite"), now, self._counted, strict=True):
            self._session.count("performer", name, n - seen if n >= seen else n)
        self._counted = now

    def _show(self, frame: int) -> None:
        """Tell the plan where it has become another, not too often."""
        draft = self.accompanist.draft
        revision, told, any_notes = self._shown
        ended = any_notes and not draft
        if (draft.revision == revision and not ended) or frame - told < PLAN_EVERY_S * self._transport.sample_rate:
            return
        self._shown = draft.revision, frame, bool(draft)
        self._n_plans += 1
        quarter = math.floor(self._transport.quarter_at(frame))
        before, notes = quarter * TICKS_PER_QUARTER, list[tuple[int, int, int]]()
        for tick, pitch, duration in self.accompanist.plan:
            notes.append((max(0, tick - before), pitch, duration))
            before = max(tick, before)
        self._session.emit("performer", Plan(frame, frame, self._n_plans, float(quarter), notes), "gateway")

    def _expect(self, note: Note) -> None:
        """What is going to be played may be heard, too."""
        dues = self._own.dues(note)
        if self._bleed is not None and dues:
            hops = (min(dues.values()) + self._own.latency - self._frame) // self._hop_size
            self._bleed.note(OwnNote(note.pitch, note.velocity, note.channel, hops))

    def _emit(self, event: Event) -> None:
        self._session.emit("performer", event, "midi", *(["follower"] if self._follows else []), "gateway")
        if isinstance(event, Note):
            self._own.note(event)
            self._expect(event)
            self._session.count("performer", "notes")
            if event.frame < self._session.frame:
                self._session.count("performer", "late_notes")


def chroma_of(heard: Array) -> Array:
    """Chroma (12,) of the harmonic part in a vector (N_HEARD,), or silence where that is what drums leave in it."""
    if heard[HARMONIC_LEVEL] < max(SOFT_DB, heard[LEVEL] - HARMONY_DB):
        return np.zeros(N_CHROMA, np.float32)
    return heard[HARMONIC_CHROMA:HARMONIC_LEVEL]


def is_key(event: Event) -> bool:
    """Whether it is a note-on or note-off."""
    return isinstance(event, MidiIn) and len(event.data) == 3 and event.data[0] & 0xE0 == NOTES


def strikes(event: Event) -> bool:
    """Whether somebody strikes a key."""
    return isinstance(event, MidiIn) and is_key(event) and event.data[0] & NOTE_ON == NOTE_ON and event.data[2] > 0


def _whole(session: Session) -> Score | None:
    """The score with all parts, where the one that is followed has not."""
    file = Path(session.setup.score_file).with_name(WHOLE_FILE) if session.setup.score_file else None
    return Score.from_npz(file) if file is not None and file.exists() else None
