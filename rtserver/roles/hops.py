"""How a worker reads the feature ring: hop by hop, and aware of what is missing."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from rtserver.audio.table import FOREVER
from rtserver.events import Entry
from rtserver.node import Array
from rtserver.shared.session import Session

HOPS_A_SECOND = 100  # of `rtserver.dsp.features`
PATIENCE_S = 0.25  # without a hop for so long, a worker takes its messages all the same


class HopReader:
    """Reads from where the ring is when it is made.

    Parameters
    ----------
    session : Session
    role : str
        Tells of its first hop by an `Entry` event, and counts ``lost_hops``.

    Attributes
    ----------
    first_frame, last_frame : int
        Hops that end before or after these are left out: a replay begins and ends where the recorded worker did.
    """

    def __init__(self, session: Session, role: str) -> None:
        self.session, self.role = session, role
        self.first_frame, self.last_frame = 0, FOREVER
        self._ring = session.features
        self._hop_size = round(session.config.audio.sample_rate / HOPS_A_SECOND)
        self._index = self.written
        self._last: int | None = None
        self._read_s = -math.inf

    @property
    def written(self) -> int:
        """Hops written so far."""
        return int(self._ring.count[0])

    def early(self, until: int) -> bool:
        """Whether the next hop is still to come, as it soon will: until then messages stay in their rings, where an heir finds them."""
        if until > self._index:
            self._read_s = time.monotonic()
        return until <= self._index and time.monotonic() - self._read_s < PATIENCE_S

    def go_on_from(self, other: HopReader) -> None:
        """Read on where another reader of the ring has got to."""
        self._index = other._index

    def hops(self, until: int, out: Array) -> Iterator[tuple[int, int]]:
        """Read hop after hop into `out`, up to number `until`: (frame at its end, frames of audio missing before it)."""
        while self._index < until:
            try:
                frame = self._ring.read(self._index, out)
            except IndexError:  # we were away for longer than the ring lasts
                self.session.count(self.role, "lost_hops", self.written - self._index)
                self._index = self.written
                continue
            if frame is not None and frame > self.last_frame:
                return
            self._index += 1
            if frame is None or frame < self.first_frame:
                continue
            if self._last is None:
                self.session.emit(self.role, Entry(frame, frame, self.session.own(self.role)), "gateway")
                missing = 0
            else:
                missing = frame - self._last - self._hop_size
            self._last = frame
            yield frame, missing if missing >= self._hop_size else 0  # less: the graph was reset and cuts its hops anew
            self.session.count_set(self.role, "last_hop", frame)
