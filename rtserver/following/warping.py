"""Following by on-line time warping, with repeats that may be left out: the method ``dixon``.

A warping path never turns back from a wrong way, so the ways are followed side by side. As the path nears the place from where a repeat
could be left out, it is copied; the copy expects what comes after the repeat. From there on each pays for what it hears, and the one
that has been clearly cheaper for a while speaks. A copy that has been clearly dearer for long is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from rtserver.dsp.layout import LEVEL, N_CHROMA
from rtserver.errors import SpecError
from rtserver.following.oltw import HALF_SQUARE, OnlineTimeWarping
from rtserver.following.reference import HOP_S, N_MATCH, Reference, build_reference, to_match
from rtserver.following.score import Score
from rtserver.following.tempo import TempoModel
from rtserver.kernels import jit

if TYPE_CHECKING:  # it brings all features with it, and most who warp need none of them
    from rtserver.following.embedding import FrameEmbedding

Floats32 = npt.NDArray[np.float32]
Int32s = npt.NDArray[np.int32]

PEAK_DECAY = 0.9985  # of the recent peak of the spectral difference, a hop: a factor of e in 7 s
LEAST_PEAK = 0.5  # a tenth of the peak of a medium piano note; below, it is noise that rises
RATE_GAIN = 0.005  # of the rate at which the reference is read towards the tempo, a hop: two seconds. The path itself feeds the tempo
SLOWEST, FASTEST = 0.3, 3.0  # limits of that rate
COST_GAIN = 0.01  # of the recent cost, a hop: one second of memory
CERTAIN, HOPELESS = 0.4, 0.9  # match of a followed human performance, and of a lost one: medians over real pieces
DOUBT = 0.75  # of what chance costs: under the confidence at which a follower locks
ONSET = 0.3  # of the recent peak: a difference that is an onset
ONSET_HOPS = 10  # for so long after it the end of a rest is believed; the path may be 100 ms late
CLEARLY = 0.08  # of centred chroma distance; the right place costs about 0.35, a wrong one 0.75
SWITCH_HOPS = 30  # for so long must another way be clearly cheaper
DROP_HOPS = 300  # for so long must a way be twice as clearly dearer before it is dropped


@jit("float32(float32[::1], float32[:,::1], int64)")
def chroma_distance(x: Floats32, match: Floats32, frame: int) -> float:
    """Half the squared distance of the chroma alone: it tells places apart at any time, the difference only at onsets."""
    total = np.float32(0.0)
    for i in range(N_CHROMA):
        total += (x[i] - match[frame, i]) * (x[i] - match[frame, i])
    return float(np.float32(0.5) * total)


class Path(Protocol):
    """What finds its way through the cost matrix, one input hop a call; see `OnlineTimeWarping`."""

    order: Int32s

    @property
    def front(self) -> float: ...

    def reset(self, place: float = 0.0) -> None: ...

    def process(self, x: Floats32, rate: float = 1.0) -> float: ...

    def copy_from(self, other: Any) -> None: ...


@dataclass(slots=True, eq=False)
class Way:
    """One way through the score: its path, the frames of the reference in its order, the forks still ahead, and what it pays."""

    path: Path
    buffer: Int32s
    forks: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])  # (index into the order, frame gone on with)
    alive: bool = False
    place: float = 0.0
    cost: float = 0.0
    dear: int = 0


class Warping:
    """The method ``dixon``: features in, a place in the score out.

    With an `embedding` of the feature ``features`` the paths compare embeddings; how well a place fits is still told by the chroma.

    Attributes
    ----------
    quarter, beat, tempo_bpm : float
        Where the player is, on the axis of the maximal unfolding.
    match : float
        Recent cost of the best way relative to what unrelated places of this piece cost each other: 0 is perfect, 1 is chance.
    n_ways : int
        Ways followed at present.

    Parameters
    ----------
    reference : Reference, optional
        What the input is compared with; written down from the score if omitted.
    """

    name = "dixon"
    # Frames: more than the front of a path can advance in one hop, (max_run + 2) columns of FASTEST frames, and some.
    fork_ahead = 24

    def __init__(
        self, reference: Reference | None = None, max_ways: int = 8, window: int = 500, embedding: FrameEmbedding | None = None
    ) -> None:
        if embedding is not None and embedding.feature != "features":
            raise SpecError(f"Warping hears 'features', the embedding wants {embedding.feature!r} — a score alone has no other features")
        self._given = reference
        self._max_ways = max_ways
        self._window = window
        self._embedding = embedding

    def _new_path(self, buffer: Int32s) -> Path:
        """A path over the reference in the order of `buffer`."""
        path = OnlineTimeWarping(self._window, distance=self._distance)
        path.prepare(self._compared, buffer)
        return path

    def prepare(self, score: Score) -> None:
        """Build the reference, allocate all ways."""
        self.reference: Reference = build_reference(score) if self._given is None else self._given
        self._compared, self._distance = self.reference.match, HALF_SQUARE
        if self._embedding is not None:
            self._compared, self._distance = self._embedding.embed(self.reference.features), self._embedding.local_distance
        n = len(self.reference)
        skips = [(self.reference.frame_of(source), self.reference.frame_of(target)) for source, target in score.skips]
        self._skips = [(source, target) for source, target in skips if target > source]
        buffers = [np.zeros(n, np.int32) for _ in range(self._max_ways if self._skips else 1)]
        self._ways = [Way(self._new_path(buffer), buffer) for buffer in buffers]
        self._x = np.zeros(N_MATCH, np.float32)
        self._tempo = TempoModel()
        self._chance = _chance(self.reference.match)
        self.seek(0.0)

    def seek(self, quarter: float) -> None:
        """Forget the past and go on from `quarter`."""
        if self._embedding is not None:
            self._embedding.reset()
        self._go(quarter)

    def _go(self, quarter: float) -> None:
        frame = self.reference.frame_of(quarter) if quarter > 0.0 else 0
        for way in self._ways:
            way.alive = False
        self._leader = self._ways[0]
        self._enter(
            self._leader, np.arange(len(self.reference), dtype=np.int32), [f for f in self._skips if f[0] > frame + self.fork_ahead]
        )
        self._leader.path.reset(float(frame))
        self._leader.place = float(frame)
        self._leader.cost = 0.5 * self._chance
        self._challenge = 0
        self._peak = LEAST_PEAK
        self._since_onset = 0
        self._spoken = frame
        self._rate = 1.0
        self._tempo.reset(float(frame))
        self.quarter = 0.0
        self._speak()

    def anchor(self, quarter: float) -> None:
        """Be at `quarter` now; the tempo stays."""
        rate, read, peak = self._tempo.rate, self._rate, self._peak
        self._go(quarter)
        self._tempo.reset(self._leader.place, rate)
        self._rate, self._peak = read, peak
        self._speak()

    def doubt(self) -> None:
        """Let every way cost as much as one that fits badly; a second of sound that fits makes up for it."""
        for way in self._ways:
            way.cost = max(way.cost, DOUBT * self._chance)

    @property
    def n_ways(self) -> int:
        return sum(way.alive for way in self._ways)

    @property
    def match(self) -> float:
        return self._leader.cost / self._chance

    @property
    def confidence(self) -> float:
        """``(HOPELESS - match) / (HOPELESS - CERTAIN)`` within 0 to 1."""
        return min(max((HOPELESS - self.match) / (HOPELESS - CERTAIN), 0.0), 1.0)

    def process_keys(self, pitches: Iterable[int]) -> None:
        """Raises `SpecError`: this method listens to sound."""
        raise SpecError(f"the method {self.name!r} listens to sound and takes no keys — use 'semimarkov', or turn the keys into features")

    def process(self, features: Floats32) -> None:
        """Take one hop of sound, float32 (208,), finite."""
        rise = float(np.linalg.norm(features[N_CHROMA:LEVEL]))
        self._peak = max(LEAST_PEAK, self._peak * PEAK_DECAY, rise)
        self._since_onset = 0 if rise > ONSET * self._peak else self._since_onset + 1
        to_match(features, self._peak, self._x)
        x = self._x
        if self._embedding is not None:
            self._embedding.process(features)
            x = self._embedding.embedding
        for way in self._ways:
            if way.alive:
                way.place = way.path.process(x, self._rate)
                d = chroma_distance(self._x, self.reference.match, way.path.order[int(way.place + 0.5)])
                way.cost += COST_GAIN * (d - way.cost)
        if self._skips:
            self._fork()
            self._choose()
        self._steer()
        self._speak()

    def _steer(self) -> None:
        """Smooth the place, and tell from the path how fast the reference is to be read."""
        self._tempo.process(self._leader.place)
        self._rate += RATE_GAIN * (min(max(self._tempo.rate, SLOWEST), FASTEST) - self._rate)

    def hold(self) -> None:
        """A hop of silence: stand still, or, in a notated rest, run on with the tempo up to the next onset."""
        end = float(self.reference.rest_end[self._spoken])
        if not math.isnan(end):
            moved = self.tempo_bpm / 60.0 * HOP_S
            before = self.quarter
            self.quarter = max(before, min(before + moved, end - moved))
            per_quarter = (self.reference.beat[-1] - self.reference.beat[0]) / max(
                self.reference.quarter[-1] - self.reference.quarter[0], 1e-9
            )
            self.beat += (self.quarter - before) * per_quarter

    def _frame(self) -> int:
        order = self._leader.path.order
        return int(order[min(max(int(self._tempo.place), 0), len(order) - 1)])

    def _speak(self) -> None:
        """Set what is reported from the smoothed place of the leader.

        A rest was cut out of the reference, so that one frame too far would be a whole rest too far: only an onset ends it.
        """
        reference = self.reference
        frame = self._frame()
        if frame > reference.last_before_rest[self._spoken] and self._since_onset > ONSET_HOPS:
            self.hold()
            return
        self._spoken = frame
        after = min(frame + 1, int(reference.last_before_rest[frame]))  # no way leads through what was cut out
        part = min(max(self._tempo.place, 0.0) % 1.0, 1.0)
        quarter = float(reference.quarter[frame] + part * (reference.quarter[after] - reference.quarter[frame]))
        beat = float(reference.beat[frame] + part * (reference.beat[after] - reference.beat[frame]))
        self.tempo_bpm = float(reference.tempo_bpm[frame]) * self._tempo.rate
        if reference.rest_end[frame] > self.quarter > quarter:
            return  # it has run on in a rest; stay there until the path has caught up
        self.quarter, self.beat = quarter, beat

    def _enter(self, way: Way, order: Int32s, forks: list[tuple[int, int]]) -> None:
        way.buffer[: len(order)] = order
        way.path.order = way.buffer[: len(order)]
        way.forks = forks
        way.alive = True
        way.dear = 0

    def _fork(self) -> None:
        """Copy every path that nears a place from where a repeat could be left out."""
        for way in self._ways:
            while way.alive and way.forks and way.path.front >= way.forks[0][0] - self.fork_ahead:
                index, target = way.forks.pop(0)
                child = self._free_way(way)
                order = np.concatenate((way.path.order[:index], np.arange(target, len(self.reference), dtype=np.int32)))
                self._enter(child, order, [(index + s - target, t) for s, t in self._skips if s >= target])
                child.path.copy_from(way.path)
                child.place, child.cost = way.place, way.cost

    def _free_way(self, parent: Way) -> Way:
        free = next((way for way in self._ways if not way.alive), None)
        return free or max((way for way in self._ways if way is not self._leader and way is not parent), key=lambda way: way.cost)

    def _choose(self) -> None:
        """Let the way speak that has been clearly cheaper for a while; drop what has been clearly dearer for long."""
        best = min((way for way in self._ways if way.alive), key=lambda way: way.cost)
        self._challenge = self._challenge + 1 if best.cost < self._leader.cost - CLEARLY else 0
        if self._challenge >= SWITCH_HOPS:
            self._leader, self._challenge = best, 0
            self._tempo.reset(best.place, self._tempo.rate)
            self._spoken = self._frame()
        for way in self._ways:
            if way.alive and way is not self._leader:
                way.dear = way.dear + 1 if way.cost > self._leader.cost + 2 * CLEARLY else 0
                way.alive = way.dear < DROP_HOPS


def _chance(match: Floats32) -> float:
    """Mean chroma distance of unrelated places: of each frame and the one a third of the piece on."""
    away = np.roll(match[:, :N_CHROMA], len(match) // 3, axis=0)
    difference = match[:, :N_CHROMA] - away
    return max(0.5 * float(np.vdot(difference, difference)) / len(match), 0.1)
