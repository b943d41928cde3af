"""The prompter: tells a network hop by hop what the score expects, from what the follower says of the player's place.

It knows nothing of processes, devices or wall time. A position takes effect at the first hop that begins at its declared frame or later,
so that what a network is told depends on frames alone; one that comes only after that hop is taken at the next one and noted in `late`.
Between positions it goes on at their tempo. What cannot be trusted is not told at all: then the network hears as if there were no score.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from rtserver.config import Config
from rtserver.events import Late, Position
from rtserver.following.score import Score
from rtserver.following.states import FOLLOWING
from rtserver.separation.expected import F32, Expected

# Confidence from which on a place is trusted, and below which no longer. Beside drums the follower is less sure than it is right: LOCKED
# in a quarter of its positions, within 0.1 s in 98 of 100, and in 99 of those above TRUST; in another piece's score 2 of 100 are above.
TRUST, DOUBT = 0.25, 0.15
FADE_S = 0.1  # from no score to the score, and back
STALE_S = 0.5  # without any position for so long the follower is taken to be gone: they come every 10 ms
STANDS_S = 1.0  # so long a place may stand still: beyond it the player pauses, and what was to come does not
POSITION = "position"  # what `Late` says of one, with the input behind it


@dataclass
class Prompter:
    """Positions in, what a network is told out.

    Parameters
    ----------
    notes : Expected
        In quarters.
    sample_rate, hop_size : int
    delay : int
        Frames after their `available_frame` at which positions take effect: a device block, of which all hops are run at once.
    shown : bool
        Whether the score is told at all; may change between two hops.

    Attributes
    ----------
    late : list of (frame, declared frame, frame taken)
        Of positions that came too late, for whoever tells of them.
    n_prompted : int
        Hops of which the network was told something.
    """

    notes: Expected
    sample_rate: int
    hop_size: int
    delay: int
    shown: bool = True
    late: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    n_prompted: int = 0

    def __post_init__(self) -> None:
        self._coming: deque[Position] = deque()
        self._postponed: dict[tuple[int, int], int] = {}
        self._step = self.hop_size / (FADE_S * self.sample_rate)
        self.forget(0)

    @staticmethod
    def of(config: Config, score: Score, hop_size: int, shown: bool) -> Prompter:
        """That of an input with hops of `hop_size` frames."""
        audio = config.audio
        return Prompter(Expected.in_score(score, audio.sample_rate), audio.sample_rate, hop_size, audio.block_size, shown)

    def forget(self, frame: int) -> None:
        """As new at session frame `frame`: positions that speak of it or of what was before are left out, wherever they are now."""
        self._coming = deque(position for position in self._coming if position.frame > frame)
        self._since = frame
        self._last = frame - self.hop_size  # where the hop before began
        self._at: Position | None = None  # the last place that was to be trusted
        self._trusted = False  # whether that is the last one that came
        self._heard_at = self._moved_at = frame
        self._share = 0.0  # of the score in what is told

    def hear(self, position: Position) -> None:
        """A position that is to take effect at its frame; they come in order."""
        if position.frame > self._since:
            self._coming.append(position)

    def postpone(self, late: Iterable[Late]) -> None:
        """Let what was late in another run be late again."""
        self._postponed |= {(event.frame, event.available_frame): event.taken_frame for event in late}

    def tell(self, frame: int, out: F32) -> None:
        """Write what is expected at the end of the hop that begins at `frame` into `out`, ``(177,)``, or zeros."""
        while self._coming and self._due(self._coming[0]) <= frame:
            self._take(self._coming.popleft(), frame)
        self._last, end = frame, frame + self.hop_size
        at, stale = self._at, round(STALE_S * self.sample_rate)
        here = end - self._heard_at < stale and end - self._moved_at < STANDS_S * self.sample_rate
        self._share = min(max(self._share + (self._step if self.shown and self._trusted and here else -self._step), 0.0), 1.0)
        if at is None or self._share == 0.0:
            out.fill(0.0)
            return
        self.n_prompted += 1
        quarter_s = 60.0 / at.tempo_bpm
        since_s = (end - at.frame) / self.sample_rate
        self.notes.tell(at.quarter + since_s / quarter_s, quarter_s * self.sample_rate, out)
        if self._share < 1.0:
            np.multiply(out, np.float32(self._share), out=out)

    def _due(self, position: Position) -> int:
        declared = position.available_frame + self.delay
        return self._postponed.get((position.frame, declared), declared)

    def _take(self, position: Position, frame: int) -> None:
        declared = position.available_frame + self.delay
        if declared <= self._last:
            self.late.append((position.frame, declared, frame))
        self._heard_at = position.frame
        least, before = (DOUBT, self._at) if self._trusted else (TRUST, None)
        trusted = position.state in FOLLOWING and position.confidence >= least and position.tempo_bpm > 0.0
        if trusted:
            if before is None or position.quarter != before.quarter:
                self._moved_at = position.frame
            self._at = position
        self._trusted = trusted
