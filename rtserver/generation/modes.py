"""Ways to play: what turns the musical clock, what is heard, and the performer into notes with due frames.

Pure logic: the present is passed in, nothing is read from a wall clock, nothing is sent. The same calls in the same order make the
same notes.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rtserver.errors import ConfigError
from rtserver.events import MidiIn
from rtserver.generation import vocabulary as v
from rtserver.generation.constraints import Constraints
from rtserver.generation.draft import FAR
from rtserver.generation.hands import Hands
from rtserver.generation.listener import Listener
from rtserver.generation.metre import Metre
from rtserver.generation.performer import Performer
from rtserver.generation.planner import NOTHING, Planner
from rtserver.generation.swing import Swing
from rtserver.generation.turns import TAKING, Turns
from rtserver.generation.vocabulary import NoteEvent
from rtserver.generation.written import Harmony, WrittenPart
from rtserver.node import Emit
from rtserver.transport import Transport

MODES = ("accompany", "continue", "call_response", "along", "free")
LISTENING = ("accompany", "along")  # modes that hear harmony all the time
LATE_S = 0.05  # a note this late is still a note; later ones are left out
LOUDER = 0.3  # how fast `level` follows the loudness of the player: three notes for two thirds of the way
PLAN_QUARTERS = 8.0  # how far ahead is planned: two bars of four
MOST_PLANNED = 24  # notes; as many as one message tells
A_CALL = 2  # notes by which the plan grows a call: less than half a millisecond
SAME_PLACE = 0.5  # quarters: a clock that starts again so near to where it stood goes on


class Accompanist:
    """Plays with somebody, in one of MODES; see `docs/generation.md` for what each does.

    All follow the transport: notes lie on its beat, at its tempo, and none is committed while it stands still. Two bars are planned ahead,
    in quarters; a note is committed once, when it falls due within the horizon. Until then the plan is taken back, the performer's state
    and dice with it, where the transport jumps, a limit or a wish changes or the player strikes a key; and in the modes that hear harmony
    a note's pitch is chosen again by what was heard last. It does not hear itself: only what comes through `hear`, `hear_midi` and
    `hear_chroma` counts.

    Parameters
    ----------
    performer : Performer
        Owned by this object from here on.
    transport : Transport
        The musical clock; driven by somebody else.
    mode : str
        One of MODES.
    constraints : Constraints
        Kept by every note of the performer's own. May be replaced at any time through `constrain`.
    channel : int
        MIDI channel 0..15 of the notes; the parts of a score have those after it.
    level : float
        Loudness as a MIDI velocity; accents are added by rule.
    follow_level : bool
        Whether `level` follows the loudness of the player.
    patience : float
        Where turns are taken: quarters of silence of the player before the performer plays; 0 never waits.
    first_note_id : int
        Ids count up from here.
    metre : Metre
        Where the bar lines are.
    written : WrittenPart
        "along": what is played as written.
    fill : bool
        "along": whether the performer plays in the long rests of that, and everywhere where nothing is written.
    harmony : Harmony
        The score's, for a model that takes what comes.
    listen : str
        What is heard of the player, see `Listener`.

    Attributes
    ----------
    silent : bool
        While it is set no note begins; what sounds ends by itself.
    entry : float
        No note before this quarter: a count-in is going on.
    n_committed, n_late, n_blocked, n_replans : int
        Notes emitted; left out because they came too late; left out because their key or voice was still in use; plans taken back.
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
        metre: Metre | None = None,
        written: WrittenPart | None = None,
        fill: bool = True,
        harmony: Harmony | None = None,
        listen: str = "auto",
    ) -> None:
        if mode not in MODES:
            raise ConfigError("mode", f"expected one of {', '.join(MODES)}, got {mode!r}")
        if channel not in range(16):
            raise ConfigError("channel", f"expected 0..15, got {channel}")
        self.performer, self.transport = performer, transport
        self.initial_mode = mode
        metre, written = metre or Metre.fixed(), WrittenPart() if written is None else written
        self.planner = Planner(performer, constraints or Constraints(), metre, written, fill=fill, harmony=harmony)
        self.draft, self.metre = self.planner.draft, metre
        self.level, self.follow_level = level, follow_level
        self.hands = Hands(transport, channel, first_note_id)
        self.initial_level = level
        self.entry = -math.inf
        self.silent = False
        self.listener = Listener(listen)
        self.turns = Turns(self.listener, patience)
        self.swing = Swing()
        self.reset()

    def reset(self) -> None:
        """As new, in the mode that was set last. Ids go on, for an id is never used twice."""
        self.n_committed = self.n_late = self.n_blocked = self.n_replans = 0
        self.level = self.initial_level
        self.listener.reset()
        self.turns.reset()
        self.swing.reset()
        self.mode = self.initial_mode
        self.next_mode: tuple[str, float] | None = None  # and the quarter of the bar line where it begins
        self.epoch = self.transport.epoch
        self.now = self.transport.quarter  # where the running transport was last seen: a jump is counted from here
        self.planner.reset(self.now)
        self._begin = -math.inf  # tick before which the present mode plays nothing
        self.hands.reset()

    def enter(self) -> None:
        """The next note of its own comes at once, on the present tick: it begins together with the player."""
        self.planner.enters = True

    def foresee(self) -> None:
        """While the clock waits for the player: choose beforehand with which note to enter, at the quarter 0 from which it will run."""
        if self.mode in ("accompany", "free") and not self.silent:
            self.planner.foresee(0, self._condition(), ahead=self.mode != "free")

    def constrain(self, constraints: Constraints) -> None:
        """Other limits, from the next note that is not yet committed on."""
        self.planner.constraints = constraints
        self._drop_plan()

    def ask(self, density: float | None = None, register: float | None = None) -> None:
        """Wish for so many notes a quarter, and around that pitch. Raises `ConfigError` where the model takes no wishes."""
        wanted = None if density is None and register is None else v.controls(density, register)
        if wanted is not None and "controls" not in self.performer.network.takes:
            raise ConfigError("density", f"the model takes neither density nor register: leave them at 0, or steer ({density}, {register})")
        self.planner.controls = wanted
        self._drop_plan()

    def steer(self, higher: float, sooner: float) -> None:
        """See `Performer.steer`; from the next note that is not yet committed on."""
        self.performer.steer(higher, sooner)
        self._drop_plan()

    def set_sampling(self, temperature: float, top_p: float) -> None:
        """See `Performer.set_sampling`; from the next note that is not yet committed on."""
        self.performer.set_sampling(temperature, top_p)
        self._drop_plan()

    def set_mode(self, mode: str, frame: int) -> None:
        """Play otherwise from the next bar line on; at once where the transport stands. Raises `ConfigError`."""
        if mode not in MODES:
            raise ConfigError("mode", f"expected one of {', '.join(MODES)}, got {mode!r}")
        self._sync(frame)
        self.initial_mode = mode
        if self.transport.running:
            self.next_mode = mode, self.metre.next_line(self.transport.quarter_at(frame))
        else:
            self._change_mode(mode)

    def hear(self, frame: int, pitch: int, velocity: int) -> None:
        """A key of the player goes down at session frame `frame`, or up (velocity 0)."""
        tick = self._sync(frame)
        if not self.listener.key(pitch, velocity > 0):
            return
        if velocity > 0 and self.follow_level:
            self.level += LOUDER * (velocity - self.level)
        if velocity > 0 and self.transport.running:
            self.swing.hear(tick)
        if self.mode in TAKING:
            self.turns.phrase.key(round(tick), pitch, velocity > 0)
            self.turns.hear(tick)
        if velocity > 0 and self.mode != "free":
            self._drop_plan()

    def hear_midi(self, event: MidiIn) -> None:
        """A raw MIDI message of the player: note-on and note-off count, the rest is ignored."""
        if len(event.data) == 3 and event.data[0] & 0xE0 == 0x80 and max(event.data[1:]) < 128:
            self.hear(event.frame, event.data[1], event.data[2] if event.data[0] & 0xF0 == 0x90 else 0)

    def hear_chroma(self, frame: int, chroma: npt.ArrayLike, level: float | None = None) -> None:
        """Chroma (12,), any scale, of the player's sound from `frame` on; `level` as a velocity, None where nobody plays."""
        before = self.listener.tick
        tick = self._sync(frame)
        self.listener.chroma(chroma, level is not None)
        if self.listener.by_keys:
            return
        if level is not None and self.follow_level:
            self.level += (1.0 - math.exp((before - self.listener.tick) / v.CHROMA_DECAY)) * (level - self.level)
        if self.mode in TAKING and level is not None:
            self.turns.hear(tick)

    def advance(self, frame: int, horizon_frames: int, emit: Emit, grow: bool = True) -> None:
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
        grow : bool
            Whether to plan on; False where somebody else waits for the processor.
        """
        transport = self.transport
        self._sync(frame)
        if not transport.running:
            return
        self.now = transport.quarter_at(frame)
        self.hands.look(frame)
        end = frame + horizon_frames
        if self.next_mode is not None:
            mode, line = self.next_mode
            self._play(frame, min(end, max(transport.frame_of(line), frame)), emit, grow)
            if transport.frame_of(line) >= end:
                return
            self._change_mode(mode)
            self._begin = line * v.TICKS_PER_QUARTER
        self._play(frame, end, emit, grow)

    @property
    def plan(self) -> list[tuple[int, int, int]]:
        """What is meant to be played: (tick, pitch, ticks), not yet committed."""
        return [(step.tick, step.note.pitch, step.note.duration) for step in self.draft.steps]

    def _play(self, frame: int, end: int, emit: Emit, grow: bool) -> None:
        """Commit what is due before frame `end`, and plan on."""
        if self.silent:
            self._drop_plan()
            return
        turns = self.turns
        if self.mode in TAKING:
            phrase = turns.look(self._tick_at(frame), self.mode, self.metre)
            if phrase is not None:
                self._take(*phrase)
            if not turns.ours:
                self._drop_plan()
                return
            if turns.until < math.inf:
                end = min(end, self.transport.frame_of(turns.until / v.TICKS_PER_QUARTER))
        while self.draft or self._extend(frame):
            if self._due(self.draft.steps[0].tick) >= end:
                break
            if not self._settle(frame, end, emit):
                return
        last = self.now + PLAN_QUARTERS
        for _ in range(A_CALL if grow else 0):
            if len(self.draft) >= MOST_PLANNED or self.performer.tick >= last * v.TICKS_PER_QUARTER or not self._extend(frame):
                break

    def _settle(self, frame: int, end: int, emit: Emit) -> bool:
        """Commit the first note of the plan, or leave it out. False where it has to wait for its key beyond `end`."""
        transport, step = self.transport, self.draft.steps[0]
        late = round(LATE_S * transport.sample_rate)
        due = self._due(step.tick)
        if frame - due > late:
            self.draft.pop()
            self.n_late += 1
            self._drop_plan()  # the rest was planned for then: plan for now
            return True
        if step.part < 0 and not np.array_equal(step.condition, self._condition()):
            self.draft.drop()  # its turn has come: choose the pitch by the latest harmony
            step = self.planner.own(self._earliest(frame), self._condition(), step.note.dt, step.until, self.mode != "free")
        start = self.hands.when(step, max(due, frame), self.planner.constraints.polyphony)
        if start - due > late:
            self.n_blocked += 1
        elif start >= end:
            return False
        else:
            self.hands.strike(step, start, frame, self.level, emit)
            self.n_committed += 1
        self.draft.pop()
        return True

    def _extend(self, frame: int) -> bool:
        """Plan one more note. False where there is nothing more to play."""
        earliest, condition = self._earliest(frame), self._condition()
        if self.mode == "along":
            return self.planner.along(earliest, condition)
        until = round(min(self.turns.until, FAR)) if self.mode in TAKING else FAR
        self.planner.own(earliest, condition, until=until, ahead=self.mode != "free")
        return True

    def _due(self, tick: int) -> int:
        """The frame at which a note written at `tick` is played: as the player swings, unless nobody is listened to."""
        return self.transport.frame_of((float(tick) if self.mode == "free" else self.swing.place(tick)) / v.TICKS_PER_QUARTER)

    def _earliest(self, frame: int) -> int:
        """The first tick at which a note of its own may begin."""
        first = max(self._tick_at(frame), self._begin, self.entry * v.TICKS_PER_QUARTER)
        return math.ceil((max(first, self.turns.start) if self.mode in TAKING else first) - 1e-6)

    def _condition(self) -> npt.NDArray[np.float32]:
        if self.mode in LISTENING or (self.mode in TAKING and not self.listener.by_keys):
            return self.listener.condition()
        return NOTHING

    def _drop_plan(self) -> None:
        if self.draft.drop():
            self.n_replans += 1

    def _change_mode(self, mode: str) -> None:
        quarter = self.now if self.next_mode is None else self.next_mode[1]
        self._drop_plan()
        self.mode, self.next_mode = mode, None
        self._begin = -math.inf
        self.planner.turn_to(quarter)
        self.turns.reset()
        self.turns.hear(self.listener.tick)  # who plays as the bar begins has begun to speak

    def _jump(self, frame: int) -> None:
        """The transport has started or jumped: shift what is known to the new axis and plan anew."""
        transport = self.transport
        quarter = transport.quarter_at(frame)
        shift = round((quarter - self.now) * v.TICKS_PER_QUARTER)
        self._drop_plan()
        if abs(quarter - self.now) > SAME_PLACE:  # else what was played before it stood is not played again
            self.planner.turn_to(quarter)
        self.epoch, self.now = transport.epoch, quarter
        self._begin = -math.inf
        tick = self.performer.tick + shift
        if self.performer.last.pitch == v.START:
            tick = math.floor(quarter * v.TICKS_PER_QUARTER)
        self.performer.seek(tick, self.hands.down(frame))
        self.listener.shift(shift)
        self.turns.shift(shift)
        if self.next_mode is not None:
            self.next_mode = self.next_mode[0], self.metre.next_line(quarter)

    def _take(self, first: int, phrase: list[NoteEvent]) -> None:
        """Take the player's phrase, which began at tick `first`, into the history."""
        self._drop_plan()
        performer = self.performer
        for k, (dt, pitch, duration) in enumerate(phrase):
            if k == 0:
                if performer.last.pitch == v.START:
                    performer.seek(first)
                dt = max(0, first - performer.tick)
            performer.feed(NoteEvent(dt, pitch, duration), sounding=False)

    def _sync(self, frame: int) -> float:
        """Take note of a jump, let the listener's clock go on; returns the tick at `frame`."""
        if self.transport.epoch != self.epoch:
            self._jump(frame)
        tick = self._tick_at(frame)
        self.listener.advance(tick)
        return tick

    def _tick_at(self, frame: int) -> float:
        return self.transport.quarter_at(frame) * v.TICKS_PER_QUARTER
