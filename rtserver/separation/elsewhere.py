"""A network in another process, as a separator sees it: hops are left in shared memory, and masks are found there, or not."""

from __future__ import annotations

from rtserver.separation.model import SeparationModel
from rtserver.separation.network import F32, MISSING, Heard, fade_hops
from rtserver.shared.maskring import MaskRing
from rtserver.shared.waker import Waker


class Elsewhere:
    """The `Source` of a separator whose network runs in the separator role.

    Parameters
    ----------
    ring : MaskRing
    waker : Waker
        Of the separator role: posted with every hop.
    """

    def __init__(self, ring: MaskRing, waker: Waker) -> None:
        self.slow = 0  # what is slow elsewhere is missing here
        self._ring, self._waker = ring, waker

    def prepare(self, models: tuple[SeparationModel, ...], n_phases: int, n_hops: int, hop_s: float) -> None:
        """Loads nothing: the role has its own models, of the same configuration."""
        del models, n_hops
        self._n_phases, self._fade = n_phases, fade_hops(hop_s)

    def submit(self, hop: int, heard: Heard, chosen: int) -> None:
        self._ring.submit(heard, (self._begun, hop % self._n_phases, chosen, self._fade))
        self._waker.post()

    def collect(self, hop: int, out: F32) -> int:
        number = self._begun + hop
        return self._ring.collect(number, out) if number <= self._ring.count else MISSING

    def reset(self, chosen: int) -> None:
        """What is on its way is of no use any more; the role begins anew with the next hop."""
        del chosen  # comes with every hop
        self._begun = self._ring.count + 1  # the number that the next hop will have
