"""What the player does, as the performer hears it: harmony that fades, and the notes of a phrase. Pure; time comes in ticks."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rtserver.errors import ConfigError
from rtserver.generation import vocabulary as v
from rtserver.generation.vocabulary import NoteEvent

SOURCES = ("auto", "keys", "sound")
MOST_HEARD = 128  # notes of a phrase: taken up in some 20 ms, before the next note is due


class Listener:
    """What has been heard, fading by 1/e a quarter: `vocabulary.chroma_heard` taken step by step. Ticks may be fractional.

    Parameters
    ----------
    source : str
        Who is listened to: the player's ``keys``, the ``sound``, or ``auto``: the keys, once one has been struck, and the sound until then.

    Attributes
    ----------
    sounding : bool
        Whether the player plays now: a key is down, or there is sound.
    quiet_since : float
        Tick at which that ended, where it is not so; -inf if nobody has played.
    by_keys : bool
        Whether it is the keys that are listened to.
    """

    def __init__(self, source: str = "auto") -> None:
        if source not in SOURCES:
            raise ConfigError("listen", f"expected one of {', '.join(SOURCES)}, got {source!r}")
        self.source = source
        self.reset()

    def reset(self) -> None:
        """As new: nobody has played."""
        self.heard = np.zeros(12)
        self.active = np.zeros(12)  # what sounds now, per pitch class
        self.keys: set[int] = set()
        self.tick = 0.0
        self.anything = False
        self.by_keys = self.source == "keys"
        self.sounding = False
        self.quiet_since = -math.inf

    def advance(self, tick: float) -> None:
        """Let the clock go to `tick`; while it runs backwards, as a new fix may make it, nothing fades."""
        fade = math.exp(-max(tick - self.tick, 0.0) / v.CHROMA_DECAY)
        self.heard *= fade
        self.heard += self.active * (v.CHROMA_DECAY * (1.0 - fade))
        self.tick = max(tick, self.tick)

    def shift(self, ticks: int) -> None:
        """The clock has jumped by so much."""
        self.tick += ticks
        self.quiet_since += ticks

    def key(self, pitch: int, down: bool) -> bool:
        """A key goes down or up, now. False for what changes nothing: the end of what did not sound, or where only the sound counts."""
        if self.source == "sound" or not (down or pitch in self.keys):
            return False
        self.by_keys = self.anything = True
        (self.keys.add if down else self.keys.discard)(pitch)
        self.active[:] = 0.0
        for p in self.keys:
            self.active[p % 12] += 1.0
        self._is(bool(self.keys))
        return True

    def chroma(self, chroma: npt.ArrayLike, loud: bool = True) -> None:
        """What sounds from now on, as chroma (12,) from audio, and whether that is loud enough for somebody to play.

        What stands above the mean counts: overtones and drums lie under all classes, and notes, as the model knows them, do not.
        """
        if self.by_keys:
            return
        found = np.nan_to_num(np.asarray(chroma, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        np.maximum(found - found.mean(), 0.0, out=self.active)
        self.anything = True
        self._is(loud)

    def condition(self) -> npt.NDArray[np.float32]:
        """The model's condition; absent until something has been heard."""
        return v.condition(self.heard) if self.anything else v.condition(None)

    def _is(self, sounding: bool) -> None:
        if self.sounding and not sounding:
            self.quiet_since = self.tick
        self.sounding = sounding


@dataclass(slots=True)
class _Heard:
    """A note of the player, in ticks; off is None while the key is down."""

    on: int
    pitch: int
    off: int | None = None


class Phrase:
    """The notes that the player has played since it was taken last; of more than MOST_HEARD, the last ones."""

    def __init__(self) -> None:
        self.notes: deque[_Heard] = deque(maxlen=MOST_HEARD)
        self._down: dict[int, _Heard] = {}  # by pitch

    def __bool__(self) -> bool:
        return bool(self.notes)

    def key(self, tick: int, pitch: int, down: bool) -> None:
        """A key goes down or up."""
        note = self._down.pop(pitch, None)
        if note is not None:
            note.off = tick
        if down:
            self._down[pitch] = _Heard(tick, pitch)
            self.notes.append(self._down[pitch])

    def shift(self, ticks: int) -> None:
        """The clock has jumped by so much."""
        for note in self.notes:
            note.on += ticks
            note.off = None if note.off is None else note.off + ticks

    def take(self, now: int) -> tuple[int, list[NoteEvent]]:
        """The phrase until tick `now`, which is then forgotten: the tick of its first onset, and the notes, whose first `dt` is 0."""
        if not self.notes:
            return now, []
        rows = [(n.on, n.pitch, now if n.off is None else n.off) for n in self.notes]
        self.notes.clear()
        self._down.clear()
        on, pitch, off = (np.array(c, np.int64) for c in zip(*rows, strict=True))
        onset, _, pitch, duration = v.encode(on, pitch, np.maximum(off - on, 1))
        steps = np.diff(onset, prepend=onset[:1])
        return int(onset[0]), [NoteEvent(*note) for note in zip(steps.tolist(), pitch.tolist(), duration.tolist(), strict=True)]
