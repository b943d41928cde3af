"""Between the engine and the separator: what a network is told, hop by hop, and the masks that it gives, in shared memory.

One ring for each input whose network runs in the worker. The engine numbers the hops that it hands over; a number is never used twice
while the block lives, so masks of another hop, or of an engine that is gone, are never taken for those that are asked for. Whoever reads
what is overwritten meanwhile sees the number change. Nobody waits.
"""

from __future__ import annotations

import numpy as np

from rtserver.config.separation import MAX_DEFERRED
from rtserver.node import Array
from rtserver.separation.model import MAX_STEMS, N_BINS, N_FEATURES, N_SCORE
from rtserver.separation.network import BAD, GOOD, MISSING, Heard
from rtserver.shared.memory import Block, Layout

N_HEARD = 32  # hops that the worker may be behind: beyond it skips
N_MASKS = 16  # results that are kept: more than the most hops that masks may be late by design
# Of a hop: its number; that of the first hop since the last reset; its phase; the model that is heard; hops that a change of models takes
NUMBER, BEGUN, PHASE, CHOSEN, FADE = range(5)
Told = tuple[int, int, int, int]  # all of these but the number
_PARTS = (slice(0, N_FEATURES), slice(N_FEATURES, N_FEATURES + N_BINS), slice(N_FEATURES + N_BINS, None))


class MaskRing:
    """The ring number `index` of a deck.

    Fields: ``heard`` float32 and ``heads`` int64, writer: the engine; ``masks`` float32 and ``states`` int64, writer: the separator;
    ``count`` int64: hops handed over so far, writer: the engine.
    """

    def __init__(self, block: Block, deck: int, index: int) -> None:
        name = f"deck{deck}.masks{index}"
        self._heard, self._heads = block[f"{name}.heard"], block[f"{name}.heads"]
        self._masks, self._states = block[f"{name}.masks"], block[f"{name}.states"]
        self._count = block[f"{name}.count"]

    @staticmethod
    def declare(layout: Layout, deck: int) -> None:
        """Reserve the rings of a deck."""
        for index in range(MAX_DEFERRED):
            name = f"deck{deck}.masks{index}"
            layout.add(f"{name}.heard", "<f4", (N_HEARD, N_FEATURES + N_BINS + N_SCORE))
            layout.add(f"{name}.heads", "<i8", (N_HEARD, 5))
            layout.add(f"{name}.masks", "<f4", (N_MASKS, MAX_STEMS - 1, N_BINS))
            layout.add(f"{name}.states", "<i8", (N_MASKS, 2))
            layout.add(f"{name}.count", "<i8", (1,))

    @property
    def count(self) -> int:
        """Hops handed over so far; numbers count from 1."""
        return int(self._count[0])

    def submit(self, heard: Heard, told: Told) -> int:
        """Hand over a hop; its number. Only the engine does."""
        number = self.count + 1
        head, row = self._heads[number % N_HEARD], self._heard[number % N_HEARD]
        head[NUMBER] = 0  # whoever reads it now, reads nothing
        for part, x in zip(_PARTS, (heard.features, heard.prior, heard.score), strict=True):
            row[part] = x
        head[BEGUN:] = told
        head[NUMBER] = number
        self._count[0] = number
        return number

    def take(self, number: int, heard: Heard) -> Told | None:
        """Copy what hop `number` hears, and what else is told of it; None if it is gone. Only the separator does."""
        head, row = self._heads[number % N_HEARD], self._heard[number % N_HEARD]
        if int(head[NUMBER]) != number:
            return None
        told = int(head[BEGUN]), int(head[PHASE]), int(head[CHOSEN]), int(head[FADE])
        for part, x in zip(_PARTS, (heard.features, heard.prior, heard.score), strict=True):
            np.copyto(x, row[part])
        return told if int(head[NUMBER]) == number else None

    def give(self, number: int, masks: Array, good: bool) -> None:
        """Leave the masks of hop `number`, ``(n_masks, n_bins)``. Only the separator does."""
        k = number % N_MASKS
        self._states[k, 0] = 0
        self._masks[k, : len(masks)] = masks
        self._states[k, 1] = GOOD if good else BAD
        self._states[k, 0] = number

    def collect(self, number: int, out: Array) -> int:
        """Copy the masks of hop `number` if they have come and are good; else whether they are missing or bad. Only the engine does."""
        k = number % N_MASKS
        if int(self._states[k, 0]) != number:
            return MISSING
        state = int(self._states[k, 1])
        np.copyto(out, self._masks[k, : len(out)])
        return state if int(self._states[k, 0]) == number else MISSING
