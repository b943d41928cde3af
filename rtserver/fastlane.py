"""The fast lane of one input: input ring → graph → track rings, hop by hop. Driven by the engine role when live and by `render` offline.

It knows nothing of processes, devices or wall time: what it does depends on the rings alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from rtserver.dsp.layout import HARMONIC_CHROMA, HARMONIC_LEVEL, LEVEL, N_CHROMA, N_FEATURES, N_HEARD
from rtserver.errors import SpecError
from rtserver.events import Position, decode
from rtserver.graph import Graph
from rtserver.node import Array
from rtserver.separation.graph import SEPARATOR, separating_node
from rtserver.separation.prompter import Prompter
from rtserver.separation.separator import Separator
from rtserver.shared.ring import SampleRing
from rtserver.shared.session import IN_RING_SIZE, Session

RESET = "reset"  # why a graph forgot its past at a client's wish: its tracks go on
# Input replayed into a restarted graph: longer than any `Hpss` remembers, so that its state is the lost one's, bit for bit.
REPLAY_S = 0.75  # of `Kam` docs/kam.md tells
TELLS_SCORE = "score"  # the setting that is the prompter's and not the separating node's


class FastLane:
    """Runs a prepared graph over what has arrived.

    Parameters
    ----------
    session : Session
    name : str
        Of the input.
    graph : Graph
        Prepared for blocks of the lane's hop.
    channels : sequence of int
        Device channels of the input, from 0.
    tracks : list of SampleRing
        Where the graph's outputs go, in its order.
    prompter : Prompter, optional
        Tells the network what the score expects. Hops from which a state is rebuilt are heard without a score.
    """

    def __init__(  # noqa: PLR0917
        self,
        session: Session,
        name: str,
        graph: Graph,
        channels: Sequence[int],
        tracks: list[SampleRing],
        prompter: Prompter | None = None,
    ) -> None:
        self.session = session
        self.name = name
        self.graph = graph
        self.hop_size = graph.block.hop_size
        self.input = session.input_ring
        self.channels = tuple(channels)
        self.tracks = tracks
        n_channels = graph.block.shape[0]
        self._x = np.zeros((n_channels, self.hop_size), np.float32)
        self._out = np.zeros((len(graph.outputs), n_channels, self.hop_size), np.float32)
        self._heard = np.zeros(N_HEARD, np.float32)
        self.position = 0  # session frame of the next hop
        self.window: tuple[int, int] = (-(1 << 62), 1 << 62)  # features that end in these frames are published: while its song plays
        self._publishing = True
        self._settings: list[tuple[int, int, str, float | str]] = []
        self._serial = 0
        self.applied: list[tuple[int, str, float | str]] = []  # settings and the hops from which they hold, for whoever tells of them
        self.unmasked: list[tuple[int, int, str]] = []  # the same of stretches without a network's masks: frame, hops, why
        self._separator: Separator | None = graph.node(SEPARATOR) if SEPARATOR in graph else None
        self.prompter = prompter
        self._seen = (0, 0)
        self._stretch: tuple[int, int, str] | None = None

    def schedule(self, frame: int, name: str, value: float | str) -> None:
        """Set a parameter of the separation from the first hop at or after `frame` on."""
        self._serial += 1
        heapq.heappush(self._settings, (frame, self._serial, name, value))

    def set(self, name: str, value: float | str) -> None:
        """Set a parameter of the separation from the next hop on."""
        if name == TELLS_SCORE:
            if self.prompter is not None:
                self.prompter.shown = bool(value)
            return
        self.graph.set(separating_node(self.graph), name, value)

    def hear(self, position: Position) -> None:
        """Where the player is, for the network."""
        if self.prompter is not None:
            self.prompter.hear(position)

    def reset(self) -> None:
        """Forget the past; its tracks go on."""
        self.graph.reset()
        if self.prompter is not None:
            self.prompter.forget(self.position)

    def keep_harmonic(self, x: Array, _frame: int) -> None:
        """A tap: features of the harmonic track, to be published with those of the input that end at the same frame."""
        self._heard[HARMONIC_CHROMA:HARMONIC_LEVEL] = x[:N_CHROMA]
        self._heard[HARMONIC_LEVEL] = x[LEVEL]

    def publish_features(self, x: Array, frame: int) -> None:
        """A tap: append a feature vector, and what was kept of the harmonic track, to the shared ring."""
        if self._publishing and self.window[0] <= frame < self.window[1]:
            self._heard[:N_FEATURES] = x
            self.session.features.write(self._heard, frame)

    def resume(self) -> tuple[int, int]:
        """Take up a running session, or go on after a loss: rebuild the state from past input, as far as there is some, and go on at the
        present. Without it the first window would come out as silence.

        Returns the first frame served, and the frame from which the state was rebuilt: all that `resume_at` needs to do it again.
        """
        start, end = (int(v) for v in self.input.span)
        now = max(-(-start // self.hop_size) * self.hop_size, end // self.hop_size * self.hop_size)
        replay = round(REPLAY_S * self.graph.block.sample_rate) // self.hop_size * self.hop_size
        oldest = max(start, end - IN_RING_SIZE // 2, 0)
        begin = min(max(now - replay, -(-oldest // self.hop_size) * self.hop_size), now)
        self.resume_at(now, begin)
        return now, begin

    def resume_at(self, now: int, begin: int) -> None:
        """Rebuild the state from the input in [begin, now), and serve from `now` on."""
        self.graph.reset()
        self.position = begin
        self._publishing, settings, self._settings = False, self._settings, []
        while self.position < now:
            self._run_hop(None)
        if self._separator is not None:  # nobody heard these, and they came faster than a network in a worker runs
            self._separator.n_missing, self._separator.n_bad = self._seen
        self._publishing, self._settings = True, settings
        self.position = now
        if self.prompter is not None:
            self.prompter.forget(now)
        for ring in self.tracks:
            ring.restart(now)

    def lost_frames(self) -> int:
        """Frames of input that can no longer be had: the stream started anew, or the lane fell too far behind. 0 when all is well."""
        start, end = (int(v) for v in self.input.span)
        if start > self.position:
            return start - self.position
        behind = end - self.position
        return behind if behind > IN_RING_SIZE // 2 else 0

    def run_hop(self) -> bool:
        """Process one hop if it has arrived."""
        if self.input.written_to < self.position + self.hop_size:
            return False
        self._run_hop(self.tracks)
        if self._separator is not None:
            self._look_at_masks(self._separator)
        return True

    def _look_at_masks(self, separator: Separator) -> None:
        """Note each stretch of hops without masks when it has ended, or has lasted for a second."""
        before, self._seen = self._seen, (separator.n_missing, separator.n_bad)
        if self._seen != before:
            if self._stretch is None:
                reason = "late" if self._seen[0] > before[0] else "nonfinite"
                self._stretch = self.position - (1 + separator.n_hops) * self.hop_size, 0, reason
            frame, n_hops, reason = self._stretch
            self._stretch = frame, n_hops + 1, reason
            if (n_hops + 1) * self.hop_size < self.graph.block.sample_rate:
                return
        if self._stretch is not None:
            self.unmasked.append(self._stretch)
            self._stretch = None

    def _run_hop(self, tracks: list[SampleRing] | None) -> None:
        while self._settings and self._settings[0][0] <= self.position:
            _, _, name, value = heapq.heappop(self._settings)
            self.set(name, value)
            self.applied.append((self.position, name, value))
        if not self.input.read(self.position, self._x, self.channels):
            raise SpecError(f"frame {self.position} is not in the input ring {self.input.span.tolist()}")
        if self.prompter is not None and self._separator is not None and tracks is not None:
            self.prompter.tell(self.position, self._separator.score)
        self.graph.process(self._x, self.position, self._out)
        self.position += self.hop_size
        for i, ring in enumerate(tracks or ()):
            ring.write(self._out[i], self.position - self.hop_size)


def pass_positions(session: Session, lanes: Sequence[FastLane]) -> None:
    """Hand on what the follower has said since the last call, where there is no engine role to do so."""
    for message in session.ring(session.own("follower"), session.own("engine")).drain():
        event = decode(message)
        if isinstance(event, Position):
            for lane in lanes:
                lane.hear(event)
