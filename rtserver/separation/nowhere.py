"""A network that never says anything: its stems as they are when medians stand in for it all the time, to hold it against."""

from __future__ import annotations

from rtserver.separation.model import SeparationModel
from rtserver.separation.network import F32, MISSING, Heard


class Nowhere:
    """The `Source` of a separator whose masks never come."""

    def __init__(self) -> None:
        self.slow = 0

    def prepare(self, models: tuple[SeparationModel, ...], n_phases: int, n_hops: int, hop_s: float) -> None:
        """Loads nothing."""

    def submit(self, hop: int, heard: Heard, chosen: int) -> None:
        """Nobody hears it."""

    def collect(self, hop: int, out: F32) -> int:
        return MISSING

    def reset(self, chosen: int) -> None:
        """There is nothing to forget."""
