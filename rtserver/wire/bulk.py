"""Audio and features from the shared rings, cut into chunks for whoever subscribes. Nobody subscribed: nothing is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rtserver.dsp.layout import N_FEATURES
from rtserver.node import Array
from rtserver.shared.ring import SampleRing, VectorRing
from rtserver.shared.session import Session
from rtserver.wire.protocol import AUDIO_AXES, AUDIO_TOPIC, FEATURE_AXES

CHUNK = 512  # frames a message: 10.7 ms at 48 kHz, 2 kB a channel
MAX_VECTORS = 64  # feature vectors a message: 26 kB


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive values, two axes.

    frame : session frame of the first sample, or at the end of the first feature vector. step : frames between neighbours on the time
    axis; 0 for a single vector.
    """

    values: Array
    frame: int
    step: int
    axes: str


class AudioTap:
    """Follows one track from the moment it is wanted. What is overwritten before it is read is skipped and counted in `lost` (chunks)."""

    def __init__(self, name: str, ring: SampleRing) -> None:
        self.topic = AUDIO_TOPIC + name
        self._ring = ring
        self._position: int | None = None
        self.lost = 0

    def stop(self) -> None:
        """Nobody listens any more; the next listener begins at the present."""
        self._position = None

    def chunks(self) -> Iterator[Chunk]:
        """Every whole chunk that is there."""
        ring = self._ring
        if self._position is None or self._position > ring.written_to:
            self._position = ring.written_to
        while True:
            self._position = max(self._position, int(ring.span[0]))  # where a track begins anew, go on there
            if ring.written_to < self._position + CHUNK:
                return
            out = np.empty((ring.samples.shape[0], CHUNK), np.float32)
            if ring.read(self._position, out):
                yield Chunk(out, self._position, 1, AUDIO_AXES)
                self._position += CHUNK
            else:
                self.lost += max((ring.written_to - self._position) // CHUNK, 1)
                self._position = ring.written_to


class FeatureTap:
    """Follows the feature ring from the moment it is wanted."""

    def __init__(self, ring: VectorRing) -> None:
        self._ring = ring
        self._index: int | None = None
        self.lost = 0

    def stop(self) -> None:
        """Nobody listens any more; the next listener begins at the present."""
        self._index = None

    def chunks(self) -> Iterator[Chunk]:
        """What is there, cut where the vectors' frames do not advance evenly."""
        ring = self._ring
        written = int(ring.count[0])
        if self._index is None or self._index > written:
            self._index = written
        vectors: list[Array] = []
        frames: list[int] = []
        while self._index < written:
            out = np.empty(N_FEATURES, np.float32)
            try:
                frame = ring.read(self._index, out)
            except IndexError:
                self.lost += 1
                self._index = written
                break
            self._index += 1
            if frame is None:
                break
            if vectors and (len(vectors) == MAX_VECTORS or (len(frames) > 1 and frame - frames[-1] != frames[1] - frames[0])):
                yield _chunk(vectors, frames)
                vectors, frames = [], []
            vectors.append(out)
            frames.append(frame)
        if vectors:
            yield _chunk(vectors, frames)


def _chunk(vectors: list[Array], frames: list[int]) -> Chunk:
    return Chunk(np.stack(vectors), frames[0], frames[1] - frames[0] if len(frames) > 1 else 0, FEATURE_AXES)


def audio_taps(session: Session) -> list[AudioTap]:
    """One tap for every track of the song."""
    return [AudioTap(track.name, session.track(track, i)) for i, track in enumerate(session.setup.tracks)]
