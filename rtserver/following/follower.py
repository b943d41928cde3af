"""Where the player is in the score: features in, `Position` events out.

What is common to every method lives here: waiting for the first sound, standing still in silence, saying how sure it is. A method knows the
music. Its states: `rtserver.following.states`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np

from rtserver.dsp.layout import LEVEL, N_FEATURES
from rtserver.errors import SpecError
from rtserver.events import Position
from rtserver.following.arzt import Arzt
from rtserver.following.bleed import Bleed, OwnNote
from rtserver.following.reference import HOP_S, Reference
from rtserver.following.score import Score
from rtserver.following.semimarkov import SemiMarkov
from rtserver.following.states import FOLLOWING, JUMPED, LOCKED, LOST, UNSURE, WAITING, leaps
from rtserver.following.warping import Warping
from rtserver.node import Array, Emit, Spec

LARGEST = 1e6  # no feature comes near; beyond, squares overflow
JUMPED_HOPS = 50  # a leap is shown for half a second: whoever turns a page without animation has seen it by then


class Method(Protocol):
    """How a position is found. Reports on the axis of the maximal unfolding."""

    quarter: float
    beat: float
    tempo_bpm: float

    @property
    def confidence(self) -> float:
        """0: as good as chance; 1: all that is heard is expected."""
        ...

    def prepare(self, score: Score) -> None:
        """Allocate and compile everything; be at the beginning."""
        ...

    def process(self, features: Array) -> None:
        """One hop with sound in it."""
        ...

    def process_keys(self, pitches: Iterable[int]) -> None:
        """One hop of a MIDI instrument: the keys struck within it. Raises `SpecError` if the method listens to sound only."""
        ...

    def hold(self) -> None:
        """One hop of silence."""
        ...

    def seek(self, quarter: float) -> None:
        """Forget the past and go on from `quarter`."""
        ...

    def anchor(self, quarter: float) -> None:
        """Be at `quarter` at the end of this hop, as exactly as a hand says it, at the present tempo; wait for nothing."""
        ...

    def doubt(self) -> None:
        """Believe less in the present place, as if what was heard of late had fitted it badly."""
        ...


METHODS: dict[str, Callable[[], Method]] = {
    "semimarkov": SemiMarkov,
    "semimarkov-templates": lambda: SemiMarkov(learned=False),
    "dixon": Warping,
    "arzt": Arzt,
}
# Methods that compare the input with a reference, which need not be written down from the score.
REFERENCED: dict[str, Callable[[Reference], Method]] = {"dixon": Warping, "arzt": Arzt}
HEARS_KEYS = ("semimarkov", "semimarkov-templates")  # methods that take the keys of a MIDI instrument


class Gate:
    """Tells sound from silence by level above an adaptive noise floor, in dB re full scale.

    The floor follows the quietest level heard. While nothing has been played it also rises, so that a hum or a fan becomes the floor; once
    the player has begun it only falls, or a long fortissimo would raise it.
    """

    HIGHEST_FLOOR = -45.0  # where it starts; louder than this is not a floor: a take may begin in the middle of a chord
    RISE = 6.0 * HOP_S  # dB a hop
    START_ABOVE, LOWEST_START = 12.0, -60.0  # a first sound is 12 dB above the floor
    SILENT_BELOW, LOWEST_SILENT = 6.0, -66.0  # what rings stays sound down to 6 dB above the floor
    START_HOPS = 3  # 30 ms: a click in a cable is shorter

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.floor = self.HIGHEST_FLOOR
        self.started = False
        self._run = 0

    def process(self, level: float) -> bool:
        """Whether a hop at `level` is sound."""
        if self.started:
            self.floor = min(self.floor, level)
            return level > max(self.floor + self.SILENT_BELOW, self.LOWEST_SILENT)
        self.floor = min(self.floor + self.RISE, level, self.HIGHEST_FLOOR)
        self._run = self._run + 1 if level > max(self.floor + self.START_ABOVE, self.LOWEST_START) else 0
        self.started = self._run >= self.START_HOPS
        return self.started


class Follower:
    """Follows one score.

    Input    features (208,) float32 of `rtserver.dsp.features`, one vector every 10 ms
    Output   `Position` events: one a hop from the first sound on, also while the player pauses; before it only where something changed.
             `frame` and `available_frame` are the session frame at the end of the hop that it was known from
    Latency  0 frames

    Parameters
    ----------
    score : Score
    method : str
        A name in `METHODS`.
    reference : Reference, optional
        For a method in `REFERENCED`: what the input is compared with. Written down from the score if omitted.

    Notes
    -----
    Confidence is the method's. It says how well the notes fit, not how exact the timing is, and a passage that sounds like another fits
    both.
    """

    LOCK, UNLOCK = 0.4, 0.3  # confidence from which on it is LOCKED, and below which no longer
    LOST_BELOW = 0.2  # LOST while the mean of the confidence is under this
    TRUST_GAIN, KEY_TRUST_GAIN = 0.002, 0.03  # the mean of the last five seconds, and of the last thirty keys

    def __init__(self, score: Score, method: str = "semimarkov", reference: Reference | None = None) -> None:
        if method not in METHODS:
            near = difflib.get_close_matches(method, METHODS, 1, 0.0)
            raise SpecError(f"Follower: unknown method {method!r}; known are {', '.join(METHODS)} — did you mean {near[0]!r}?")
        self.score = score
        self.method_name = method
        if reference is not None and method not in REFERENCED:
            raise SpecError(f"Follower: the method {method!r} takes no reference; those that do are {', '.join(REFERENCED)}")
        self.method = METHODS[method]() if reference is None else REFERENCED[method](reference)
        self._gate = Gate()
        self._bleed = Bleed()

    @property
    def latency(self) -> int:
        return 0

    def prepare(self, spec: Spec) -> None:
        """Build the reference and compile everything: a second or two for a long score.

        Raises `SpecError` for anything but features every 10 ms.
        """
        if spec.shape != (N_FEATURES,) or spec.dtype != np.float32:
            raise SpecError(
                f"Follower expects features ({N_FEATURES},) float32, got {spec.shape} {spec.dtype} — connect it after Features?"
            )
        if abs(spec.hop_s - HOP_S) > 0.01 * HOP_S:  # half a frame in 220 at 22.05 kHz is well within
            raise SpecError(f"Follower expects a hop of {HOP_S} s, got {spec.hop_s:.4f} s — is the hop of Features another?")
        self.method.prepare(self.score)
        self.method.process(np.zeros(N_FEATURES, np.float32))  # whatever is compiled on first use is compiled now
        self.reset()

    def reset(self) -> None:
        """As new: at the beginning, waiting for the first sound."""
        self._bleed.reset()
        self.seek(0.0)

    def seek(self, quarter: float) -> None:
        """Forget the past; wait for the next sound and take it to be at `quarter`."""
        self.method.seek(quarter)
        self._gate.reset()
        self._played = False
        self._state = WAITING
        self._trust = 0.5
        self._last: tuple[float, float, str] | None = None
        self._trusted: float | None = None  # the last position that was to be trusted
        self._jumped = 0  # hops for which it is still said that it has leapt

    def anchor(self, quarter: float) -> None:
        """Somebody says that the player is at `quarter` now. Tempo and all that is known of the sound stay; it waits for nothing."""
        self.method.anchor(quarter)
        self._gate.started = self._played = True
        if self._state in (WAITING, LOST):
            self._state = UNSURE
        self._trust = max(self._trust, 0.5)

    def gap(self) -> None:
        """Some input never came, and the player went on meanwhile: keep the place, but be sure of it only after some hops that fit."""
        self.method.doubt()
        if self._state == LOCKED:
            self._state = UNSURE

    def own_note(self, note: OwnNote) -> None:
        """Know of a note that is not the player's, before the hop that it is counted from: what it adds to the sound is taken away."""
        self._bleed.note(note)

    def process(self, x: Array, frame: int, emit: Emit) -> None:
        """Take one hop (208,) that ends just before session frame `frame`. A vector that is not finite, or absurd, counts as silence."""
        sane = bool(np.abs(x).max() <= LARGEST)  # NaN compares false
        x = self._bleed.process(x) if sane else x
        if sane and self._gate.process(float(x[LEVEL])):
            self.method.process(x)
            self._judge(self.TRUST_GAIN)
        elif self._gate.started:
            self.method.hold()
        self._tell(self._gate.started, frame, emit)

    def process_keys(self, pitches: Iterable[int], frame: int, emit: Emit) -> None:
        """Take the keys of a MIDI instrument, struck within the hop that ends just before session frame `frame`. Raises `SpecError`."""
        struck = tuple(pitches)
        self._played = self._played or bool(struck)
        self.method.process_keys(struck)
        for _ in struck:
            self._judge(self.KEY_TRUST_GAIN)
        self._tell(self._played, frame, emit)

    def _tell(self, begun: bool, frame: int, emit: Emit) -> None:
        method, state = self.method, self._show()
        now = (method.quarter, method.tempo_bpm, state)
        # Once it has begun, a position that stands still is news as well: whoever plays along must wait.
        if begun or now != self._last:
            self._last = now
            emit(Position(frame, frame, method.quarter, method.beat, method.tempo_bpm, self.confidence, state))

    def _show(self) -> str:
        """The state that is told: for a while after a leap from one place that could be trusted to another, that it has leapt."""
        if self._state not in FOLLOWING:
            return self._state
        quarter = self.method.quarter
        if self._trusted is not None and leaps(self._trusted, quarter, self.method.tempo_bpm):
            self._jumped = JUMPED_HOPS + 1
        self._trusted = quarter
        self._jumped = max(self._jumped - 1, 0)
        return JUMPED if self._jumped else self._state

    @property
    def confidence(self) -> float:
        """0..1, as of the last hop; 0 while waiting."""
        if self._state == WAITING:
            return 0.0
        return self.method.confidence

    def _judge(self, gain: float) -> None:
        if self._state == WAITING:
            self._state = UNSURE
        confidence = self.confidence
        self._trust += gain * (confidence - self._trust)
        if confidence >= self.LOCK:
            self._state = LOCKED
        elif self._trust < self.LOST_BELOW:
            self._state = LOST
        elif confidence < self.UNLOCK and self._state == LOCKED:
            self._state = UNSURE
