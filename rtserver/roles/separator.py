"""The separator role: runs the networks of a deck's inputs, hop by hop, for an engine that does not wait for them."""

from __future__ import annotations

import time

import numpy as np

from rtserver.roles.role import TURN_S
from rtserver.separation.model import N_BINS, NETWORK_HOP, read_model
from rtserver.separation.network import Heard, Slots
from rtserver.shared.maskring import MaskRing
from rtserver.shared.session import Session

WORK_S = 0.1  # a role that is behind shows all the same that it lives


class Desk:
    """The networks of one input, and how far they have come."""

    def __init__(self, session: Session, name: str, ring: MaskRing) -> None:
        self._session, self._ring = session, ring
        options = session.config.separation_of(name)
        models = [read_model(model) for model in options.models]
        self._slots = Slots(models, max(NETWORK_HOP // hop for hop in models[0].hops), 1)  # as many phases as any preset has
        self._heard = Heard()
        self._masks = np.zeros((len(models[0].stems) - 1, N_BINS), np.float32)
        self._next = ring.count + 1  # a role that comes back goes on at the present
        self._begun = 0

    def work(self) -> bool:
        """Run the hops that have come, for `WORK_S` at most. Whether there are more."""
        until = time.perf_counter_ns() + round(1e9 * WORK_S)
        while self._next <= self._ring.count:
            start = time.perf_counter_ns()
            if start > until:
                return True
            told = self._ring.take(self._next, self._heard)
            if told is None:  # overwritten: we are too far behind
                skipped = self._ring.count - self._next
                self._session.count("separator", "skipped_hops", skipped)
                self._next += skipped
                continue
            begun, phase, chosen, self._slots.fade_hops = told
            if begun != self._begun:
                self._begun = begun
                self._slots.reset(chosen)
            self._slots.select(chosen)
            good = self._slots.run(phase, self._heard, self._masks)
            self._ring.give(self._next, self._masks, good)
            self._next += 1
            self._session.count("separator", "hops")
            self._session.count("separator", "nonfinite", int(not good))
            self._session.count_max("separator", "run_ns_max", time.perf_counter_ns() - start)
        return False


class SeparatorRole:
    """Runs the networks of its deck."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def prepare(self) -> None:
        session = self.session
        self.desks = [
            Desk(session, name, MaskRing(session.block, session.deck, k)) for k, name in enumerate(session.config.deferred_inputs)
        ]
        self.waker = session.waker("separator")
        self._busy = False

    def turn(self) -> bool:
        if not self._busy:
            self.waker.wait(TURN_S)
        more = [desk.work() for desk in self.desks]
        self._busy = any(more)
        return True

    def close(self) -> None:
        """Nothing is left behind."""
