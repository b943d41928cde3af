"""Ways to play: what turns the musical clock, what is heard, and the performer into notes with due frames.

Pure logic: the present is passed in, nothing is read from a wall clock, nothing is sent. The same calls in the same order make the
same notes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rtserver.errors import ConfigError
from rtserver.events import MidiIn, Note
from rtserver.generation import vocabulary as v
from rtserver.generation.constraints import Constraints
from rtserver.generation.performer import Performer
from rtserver.generation.vocabulary import NoteEvent
from rtserver.node import Emit
from rtserver.transport import Transport

MODES = ("accompany", "continue")
SHORTEST_S = 0.01  # a synthesiser needs that much to speak
LONGEST_S = 4.0  # what a tempo that collapses may make of a long note
LATE_S = 0.05  # a note this late is still a note; later ones are left out
GATE = 0.95  # part of its length for which a key is down: leaves the finger time to strike again, and a tempo that rises 5 % room
LOUDER = 0.3  # how fast `level` follows the loudness of the player: three notes for two thirds of the way


def velocity(level: float, tick: int) -> int:
    """MIDI velocity of a note of that level (0..127): first of four quarters +8, other quarters +3, between them -4."""
    accent = 8 if tick % v.N_PHASE == 0 else 3 if tick % v.TICKS_PER_QUARTER == 0 else -4
    return max(1, min(127, round(level + accent)))


class Listener:
    """What has been heard, fading by 1/e a quarter: `vocabulary.chroma_heard` taken step by step. Ticks may be fractional."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As new: nobody has played."""
        self.heard = np.zeros(12)
        self.active = np.zeros(12)  # what sounds now, per pitch class
        self.keys: dict[int, int] = {}
        self.tick = 0.0
        self.anything = False

    def advance(self, tick: float) -> None:
        """Let the clock go to `tick`; while it runs backwards, as a new fix may make it, nothing fades."""
        fade = math.exp(-max(tick - self.tick, 0.0) / v.CHROMA_DECAY)
        self.heard *= fade
        self.heard += self.active * (v.CHROMA_DECAY * (1.0 - fade))
        self.tick = max(tick, self.tick)

    def key(self, pitch: int, down: bool) -> None:
        """A key goes down or up, now."""
        self.keys[pitch] = int(down)
        if not down:
            del self.keys[pitch]
        self.active[:] = 0.0
        for p in self.keys:
            self.active[p % 12] += 1.0
        self.anything = True

    def chroma(self, chroma: npt.ArrayLike) -> None:
        """What sounds from now on, as chroma (12,) from audio; replaces what the keys say."""
        self.active[:] = np.nan_to_num(np.asarray(chroma, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        self.anything = True

    def condition(self) -> npt.NDArray[np.float32]:
        """The model's condition; absent until something has been heard."""
        return v.condition(self.heard) if self.anything else v.condition(None)


@dataclass(slots=True)
class _Heard:
    """A note of the player, in ticks; off is None while the key is down."""

    on: int
    pitch: int
    off: int | None = None


class Accompanist:
    """Plays with somebody: "accompany" plays along and listens, "continue" waits for the end of a phrase and goes on from it.

    Both follow the transport: notes lie on its beat, at its tempo, and none is committed while it stands still. A note is planned in
    quarters and committed once, when it falls due within the horizon; until then a jump of the transport, new constraints or (accompany)
    new harmony change it. It does not hear itself: only what comes through `hear`, `hear_midi` and `hear_chroma` counts.

    Parameters
    ----------
    performer : Performer
        Owned by this object from here on.
    transport : Transport
        The musical clock; driven by somebody else.
    mode : str
        "accompany" or "continue".
    constraints : Constraints
        Kept by every note. May be replaced at any time through `constrain`.
    channel : int
        MIDI channel 0..15 of the notes.
    level : float
        Loudness as a MIDI velocity; accents are added by rule.
    follow_level : bool
        Whether `level` follows the velocity of the player's notes.
    patience : float
        "continue": quarters of silence of the player before the performer goes on; 0 never waits.
    first_note_id : int
        Ids count up from here.

    Attributes
    ----------
    n_committed, n_late, n_blocked, n_replans : int
        Notes emitted; left out because they came too late; left out because their key or voice was still in use; plans dropped.
    """

    def __init__(
        self,
        performer: Performer,
        transport: Transport,
        mode: str = "accompany",
        *,
        constraints: Constraints | None = None,
        channel: int = 0,
        level: float = 72.0,
        follow_level: bool = True,
        patience: float = 1.0,
        first_note_id: int = 0,
    ) -> None:
        if mode not in MODES:
            raise ConfigError("mode", f"expected {' or '.join(MODES)}, got {mode!r}")
        if channel not in range(16):
            raise ConfigError("channel", f"expected 0..15, got {channel}")
        self.performer, self.transport, self.mode = performer, transport, mode
        self.constraints = constraints or Constraints()
        self.channel, self.level, self.follow_level, self.patience = channel, level, follow_level, patience
        self.first_note_id = first_note_id
        self.initial_level = level
        self.listener = Listener()
        self.reset()

    def reset(self) -> None:
        """As new. Ids go on, for an id is never used twice."""
        self.n_committed = self.n_late = self.n_blocked = self.n_replans = 0
        self.level = self.initial_level
        self.performer.reset()
        self.listener.reset()
        self.epoch = self.transport.epoch
        self.now = self.transport.quarter  # where the running transport was last seen: a jump is counted from here
        self._plan: NoteEvent | None = None
        self._plan_condition = v.condition(None)
        self._phrase: list[_Heard] = []
        self._quiet_since = -math.inf  # tick at which the player's last key came up
        self._down: list[tuple[int, int]] = []  # (release frame, pitch) of committed notes
        self._prompted = False

    def prompt(self, events: list[NoteEvent]) -> None:
        """History before the first note, for example a phrase to continue; its steps are counted back from where the transport is."""
        for event in events:
            self.performer.feed(event, sounding=False)
        last = self.performer.last
        # The phrase ends now: the next onset is counted from its last one, a whole number of quarters before the present beat.
        self.performer.seek(math.ceil(self.now) * v.TICKS_PER_QUARTER - max(1, last.duration))
        self._prompted = bool(events)
        self._plan = None

    def constrain(self, constraints: Constraints) -> None:
        """Other limits, from the next note that is not yet committed on."""
        self.constraints = constraints
        self._drop_plan()

    def hear(self, frame: int, pitch: int, velocity: int) -> None:
        """A key of the player goes down at session frame `frame`, or up (velocity 0)."""
        tick = self._sync(frame)
        was_down = pitch in self.listener.keys
        if velocity > 0 or was_down:
            self.listener.key(pitch, velocity > 0)
        if velocity > 0 and self.follow_level:
            self.level += LOUDER * (velocity - self.level)
        if self.mode == "continue":
            for note in self._phrase:
                if note.pitch == pitch and note.off is None:
                    note.off = round(tick)
            if velocity > 0:
                self._phrase.append(_Heard(round(tick), pitch))
                self._drop_plan()
        self._quiet_since = tick

    def hear_midi(self, event: MidiIn) -> None:
        """A raw MIDI message of the player: note-on and note-off count, the rest is ignored."""
        if len(event.data) == 3 and event.data[0] & 0xE0 == 0x80 and max(event.data[1:]) < 128:
            self.hear(event.frame, event.data[1], event.data[2] if event.data[0] & 0xF0 == 0x90 else 0)

    def hear_chroma(self, frame: int, chroma: npt.ArrayLike, level: float | None = None) -> None:
        """Chroma (12,), any scale, of the player's sound from `frame` on; `level` as a velocity where the loudness is known."""
        before = self.listener.tick
        self._sync(frame)
        self.listener.chroma(chroma)
        if level is not None and self.follow_level:
            self.level += (1.0 - math.exp((before - self.listener.tick) / v.CHROMA_DECAY)) * (level - self.level)

    def advance(self, frame: int, horizon_frames: int, emit: Emit) -> None:
        """Commit every note due in [frame, frame + horizon_frames). Call it at least once a horizon.

        What is heard between two calls counts from the later one on: whoever wants the same notes twice calls at the same frames, for
        example once a hop.

        Parameters
        ----------
        frame : int
            The present session frame; becomes `available_frame` of the notes.
        horizon_frames : int
            How far ahead of their due frames notes are committed: the latency of what plays them, and some room.
        emit : callable
            Takes each `Note`.
        """
        transport = self.transport
        self._sync(frame)
        if not transport.running:
            return
        self.now = transport.quarter_at(frame)
        if self.mode == "continue" and not self._turn(frame):
            return
        late = round(LATE_S * transport.sample_rate)
        self._down = [d for d in self._down if d[0] > frame]
        while True:
            plan = self._plan or self._ask(frame)
            tick = self.performer.tick + plan.dt
            due = transport.frame_of(tick / v.TICKS_PER_QUARTER)
            if due >= frame + horizon_frames:
                return
            if self.mode == "accompany" and not np.array_equal(self._plan_condition, self._condition()):
                plan = self._ask(frame, plan.dt)  # its turn has come: choose the pitch by the latest harmony
            start = max(due, frame)
            while not self._free(start, plan.pitch):
                start = min(r for r, _ in self._down if r > start)
            if frame - due > late:
                self.n_late += 1
            elif start - due > late:
                self.n_blocked += 1
            elif start >= frame + horizon_frames:
                return
            else:
                self._commit(plan, tick, start, frame, emit)
            self.performer.feed(plan)
            self._plan = None

    def _commit(self, plan: NoteEvent, tick: int, start: int, frame: int, emit: Emit) -> None:
        transport = self.transport
        length_s = GATE * plan.duration / v.TICKS_PER_QUARTER * transport.frames_per_quarter / transport.sample_rate
        duration = round(min(max(length_s, SHORTEST_S), LONGEST_S) * transport.sample_rate)
        self._down.append((start + duration, plan.pitch))
        note_id = self.first_note_id
        self.first_note_id += 1
        self.n_committed += 1
        emit(Note(start, frame, note_id, plan.pitch, velocity(self.level, tick), duration, self.channel))

    def _ask(self, frame: int, dt: int | None = None) -> NoteEvent:
        """Plan the next note, not before the present."""
        self._plan_condition = self._condition()
        earliest = math.ceil(self.transport.quarter_at(frame) * v.TICKS_PER_QUARTER - 1e-6)
        self._plan = self.performer.query(self.constraints, self._plan_condition, earliest, dt)
        return self._plan

    def _condition(self) -> npt.NDArray[np.float32]:
        if self.mode != "accompany":
            return v.condition(None)
        return self.listener.condition()

    def _free(self, start: int, pitch: int) -> bool:
        """Whether the key is up and a voice is free at frame `start`, in real time: the tempo may have moved since the plan."""
        down = [p for release, p in self._down if release > start]
        return pitch not in down and len(down) < self.constraints.polyphony

    def _drop_plan(self) -> None:
        if self._plan is not None:
            self.n_replans += 1
        self._plan = None

    def _jump(self, frame: int) -> None:
        """The transport has started or jumped: shift what is known to the new axis and plan anew."""
        transport = self.transport
        quarter = transport.quarter_at(frame)
        shift = round((quarter - self.now) * v.TICKS_PER_QUARTER)
        self.epoch, self.now = transport.epoch, quarter
        self._drop_plan()
        tick = self.performer.tick + shift
        if self.performer.last.pitch == v.START:
            tick = math.floor(quarter * v.TICKS_PER_QUARTER)
        down = [(math.ceil(self._tick_at(release)), pitch) for release, pitch in self._down if release > frame]
        self.performer.seek(tick, down)
        self.listener.tick += shift
        self._quiet_since += shift
        for note in self._phrase:
            note.on += shift
            note.off = None if note.off is None else note.off + shift

    def _turn(self, frame: int) -> bool:
        """Whether it is the performer's turn to continue; takes the player's phrase into the history when it becomes so."""
        tick = self._tick_at(frame)
        if not self._phrase:
            return self._prompted
        if self.patience > 0 and (self.listener.keys or tick - self._quiet_since < self.patience * v.TICKS_PER_QUARTER):
            return False
        rows = [(n.on, n.pitch, round(tick) if n.off is None else n.off) for n in self._phrase]
        on, pitch, off = (np.array(c, np.int64) for c in zip(*rows, strict=True))
        onset, _, pitch, duration = v.encode(on, pitch, off - on)
        for o, p, d in zip(onset.tolist(), pitch.tolist(), duration.tolist(), strict=True):
            if self.performer.last.pitch == v.START:
                self.performer.seek(o)
            self.performer.feed(NoteEvent(max(0, o - self.performer.tick), p, d), sounding=False)
        self._phrase.clear()
        self._prompted = True
        return True

    def _sync(self, frame: int) -> float:
        """Take note of a jump, let the listener's clock go on; returns the tick at `frame`."""
        if self.transport.epoch != self.epoch:
            self._jump(frame)
        tick = self._tick_at(frame)
        self.listener.advance(tick)
        return tick

    def _tick_at(self, frame: int) -> float:
        return self.transport.quarter_at(frame) * v.TICKS_PER_QUARTER
