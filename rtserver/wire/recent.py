"""How long hops have taken of late. The engine's histograms hold everything since its start, in which a bad minute drowns after an hour."""

from __future__ import annotations

import time
from collections import deque

from rtserver.audio import table as t
from rtserver.shared.histogram import Histogram, HopTimes
from rtserver.shared.session import N_DECKS, Session

WINDOW_S = 10  # what is told: the last ten seconds, by copies taken once a second


class RecentTimes:
    """The histograms of the deck that plays, and their copies of the last `WINDOW_S` seconds."""

    def __init__(self, session: Session) -> None:
        self._block = session.block
        self._decks = [HopTimes(session.block, deck) for deck in range(N_DECKS)]
        self._copies: deque[tuple[float, int, dict[str, Histogram]]] = deque()

    def _playing(self) -> int:
        return int(self._block["audio.table"][t.PLAYING]) if "audio.table" in self._block else 0

    def tick(self, now_s: float | None = None) -> None:
        """Take a copy; once a second or so."""
        now_s = time.monotonic() if now_s is None else now_s
        deck = self._playing()
        self._copies.append((now_s, deck, {name: times.copy() for name, times in self._decks[deck].all().items()}))
        while len(self._copies) > 1 and self._copies[1][0] <= now_s - WINDOW_S:
            self._copies.popleft()

    def summaries(self) -> dict[str, dict[str, float | int]]:
        """By node: count and maximum since the engine's start, median and 99th percentile of late."""
        deck = self._playing()
        earlier = next((copies for _, of, copies in self._copies if of == deck), dict[str, Histogram]())
        found: dict[str, dict[str, float | int]] = {}
        for name, times in self._decks[deck].all().items():
            before = earlier.get(name)
            # A count that is lower than before is a new engine's.
            late = times.since(before) if before is not None and before.count < times.count else times
            found[name] = times.summary() | {"p50_s": late.quantile(0.5), "p99_s": late.quantile(0.99)}
        return found
