"""The click as sound: how the performer tells the callback of clicks, and what one sounds like. No numba here.

The callback plays a click itself, from its due frame on, once it has been told of it: nobody has to be in time any more.
"""

from __future__ import annotations

import numpy as np

from rtserver.audio import table as t
from rtserver.node import Array
from rtserver.shared.memory import Block

LOW_HZ, HIGH_HZ = 1200.0, 1800.0  # of a beat and of a bar line: a fifth apart, where a click is heard through an orchestra
DECAY_S, BURST_S = 0.005, 0.03  # by 1/e; until it is silent


class ClickRing:
    """Where a deck's performer tells of clicks. A session without an audio callback takes none.

    Parameters
    ----------
    block : Block
    deck : int
    """

    def __init__(self, block: Block, deck: int) -> None:
        self._there = "audio.table" in block
        if self._there:
            self._rows, self._count = block["audio.clicks"][deck], block["audio.clicks.count"][deck : deck + 1]
            self._scripted = block["audio.table"][t.DECKS + deck * t.DECK_WIDTH + t.SCRIPTED :][:1]

    def put(self, frame: int, velocity: int, accent: bool) -> None:
        """A click at session frame `frame`, later than the one before it, which is heard if the frame is still to come."""
        if self._there and not self._scripted[0]:
            self.script(frame, velocity, accent)

    def script(self, frame: int, velocity: int, accent: bool) -> None:
        """The same, although clicks come from a log: by whoever reads it."""
        n = int(self._count[0])
        self._rows[n % t.CLICK_RING] = (frame, velocity + t.ACCENT * accent)
        self._count[0] = n + 1


def bursts(sample_rate: int) -> Array:
    """A beat and a bar line at full velocity, float32 (2, n_frames): a decaying cosine, loudest at its first frame, silent at its end."""
    n_frames = round(BURST_S * sample_rate)
    at_s = np.arange(n_frames) / sample_rate
    envelope = np.exp(-at_s / DECAY_S) * (1.0 - np.arange(n_frames) / n_frames)
    return np.stack([envelope * np.cos(2.0 * np.pi * hz * at_s) for hz in (LOW_HZ, HIGH_HZ)]).astype(np.float32)


def fill_bursts(room: Array, sample_rate: int) -> int:
    """Lay the bursts out in `room`, float32 (2, BURST_ROOM); returns their length in frames."""
    found = bursts(sample_rate)
    room[:, : found.shape[1]] = found
    return found.shape[1]
