"""How far the server's clock is ahead of ours. Pure."""

from __future__ import annotations


class Clock:
    """How far the server's CLOCK_MONOTONIC is ahead of ours: an interval that every ping narrows and that drift widens.

    A ping's offset lies within half its round trip, however unequal the two ways are; all intervals hold the truth, so their intersection
    does (Marzullo & Owicki 1983).
    """

    DRIFT = 500e-6  # seconds a second by which two clocks may part: what NTP may slew, and more than quartz does

    def __init__(self) -> None:
        self._low_ns = self._high_ns = 0.0
        self._at_ns: int | None = None

    def ping(self, sent_ns: int, server_ns: int, received_ns: int) -> None:
        """A ping that left and was answered at these times of our clock."""
        meanwhile = self.DRIFT * (received_ns - sent_ns)
        low, high = server_ns - received_ns - meanwhile, server_ns - sent_ns + meanwhile
        if self._at_ns is not None:
            wider = self.DRIFT * (received_ns - self._at_ns)
            both = max(low, self._low_ns - wider), min(high, self._high_ns + wider)
            if both[0] <= both[1]:  # else a clock has jumped: begin anew
                low, high = both
        self._low_ns, self._high_ns, self._at_ns = low, high, received_ns

    def offset_ns(self, now_ns: int) -> tuple[float, float]:
        """(offset, its greatest error) now. The error is infinite before the first ping."""
        if self._at_ns is None:
            return 0.0, float("inf")
        return (self._low_ns + self._high_ns) / 2, (self._high_ns - self._low_ns) / 2 + self.DRIFT * (now_ns - self._at_ns)

    def latest_ns(self, server_ns: int, now_ns: int) -> float:
        """The latest that our clock can have shown when the server's showed `server_ns`."""
        offset, error = self.offset_ns(now_ns)
        return server_ns - offset + error
