"""Which deck is heard."""

from __future__ import annotations

import numpy as np
import pytest

from rtserver.audio import table as t
from rtserver.shared.memory import Block, Layout


@pytest.fixture
def block() -> Block:
    layout = Layout()
    t.declare(layout)
    return Block.create(layout, b"")


@pytest.mark.parametrize(
    ("playing", "starts", "frame", "heard"),
    [
        (0, (t.FOREVER, t.FOREVER), 0, 0),  # nothing has begun
        (0, (0, t.FOREVER), 500, 0),
        (1, (0, 1000), 999, 0),  # the next song is about to begin
        (1, (0, 1000), 1000, 1),
        (1, (t.FOREVER, 1000), 5000, 1),  # a third one is loaded
        (0, (9000, 1000), 5000, 1),
    ],
)
def test_a_deck_is_heard_from_its_first_frame_on(block: Block, playing: int, starts: tuple[int, int], frame: int, heard: int) -> None:
    table: np.ndarray = block["audio.table"]
    table[t.PLAYING], table[t.FRAME] = playing, frame
    for deck, start in enumerate(starts):
        table[t.DECKS + deck * t.DECK_WIDTH + t.START] = start
    assert t.heard(block) == heard
