"""How a worker reads the feature ring: hop by hop, and aware of what is missing."""

from __future__ import annotations

from collections.abc import Iterator

from rtserver.events import Entry
from rtserver.node import Array
from rtserver.shared.session import Session

HOPS_A_SECOND = 100  # of `rtserver.dsp.features`


class HopReader:
    """Reads from where the ring is when it is made.

    Parameters
    ----------
    session : Session
    role : str
        Tells of its first hop by an `Entry` event, and counts ``lost_hops``.

    Attributes
    ----------
    first_frame : int
        Hops that end before this frame are left out: a replay begins where the recorded worker began.
    """

    def __init__(self, session: Session, role: str) -> None:
        self.session, self.role = session, role
        self.first_frame = 0
        self._ring = session.features
        self._hop_size = round(session.config.audio.sample_rate / HOPS_A_SECOND)
        self._index = self.written
        self._last: int | None = None

    @property
    def written(self) -> int:
        """Hops written so far."""
        return int(self._ring.count[0])

    def hops(self, until: int, out: Array) -> Iterator[tuple[int, int]]:
        """Read hop after hop into `out`, up to number `until`: (frame at its end, frames of audio missing before it)."""
        while self._index < until:
            try:
                frame = self._ring.read(self._index, out)
            except IndexError:  # we were away for longer than the ring lasts
                self.session.count(self.role, "lost_hops", self.written - self._index)
                self._index = self.written
                continue
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
