"""The player's swing, taken over: how late off-beat quavers come, by rule, for the scores that the network learnt from say nothing of it.

In swing the second of two quavers comes later than half a beat, up to two thirds of it or more (A. Friberg and A. Sundström, "Swing ratios
and ensemble timing in jazz performance", Music Perception 19(3), 2002). Pure; time comes in ticks of 1/24 quarter.
"""

from __future__ import annotations

from rtserver.generation.vocabulary import TICKS_PER_QUARTER

HALF = TICKS_PER_QUARTER // 2
WINDOW = 5.5  # ticks around a beat or its half in which a key is taken for it; what lies between belongs to neither
LEARNS = 0.25  # how fast: four notes for two thirds of the way
ENOUGH = 4  # off-beats before it is believed
EARLIEST, LATEST = -2.0, 5.0  # ticks: beyond that it is no swing
SEMIQUAVER = 6


class Swing:
    """Hears where keys fall within the beat, and moves notes as the player does.

    Attributes
    ----------
    late : float
        Ticks by which off-beat quavers come later than written, against those on the beat; 0 until some have been heard.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As new: straight."""
        self._on = self._off = 0.0
        self._n_off = 0

    def hear(self, tick: float) -> None:
        """The player strikes a key at `tick`."""
        place = tick % TICKS_PER_QUARTER
        if abs(place - HALF) <= WINDOW:
            self._off += LEARNS * (place - HALF - self._off)
            self._n_off += 1
        else:
            beside = place - TICKS_PER_QUARTER if place > HALF else place
            if abs(beside) <= WINDOW:
                self._on += LEARNS * (beside - self._on)

    @property
    def late(self) -> float:
        if self._n_off < ENOUGH:
            return 0.0
        return min(max(self._off - self._on, EARLIEST), LATEST)

    def place(self, tick: int) -> float:
        """Where a note that is written at `tick` is played: beats and triplets stay, halves of beats move, quarters in proportion."""
        within = tick % TICKS_PER_QUARTER
        if within % SEMIQUAVER:
            return float(tick)
        return tick + self.late * (1.0 - abs(within - HALF) / HALF)
