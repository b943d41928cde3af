"""The note that comes with the player's first key: chosen beforehand, it is the one that would have been chosen then."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rtserver.events import MidiIn, Note
from rtserver.generation.constraints import Constraints
from rtserver.generation.modes import Accompanist
from rtserver.generation.performer import Performer
from rtserver.transport import Transport

RATE, BLOCK, HORIZON, KEY_FRAME = 48000, 480, 2400, 4811


@pytest.fixture(scope="module")
def performer() -> Performer:
    return Performer(seed=11)


def play(
    performer: Performer, foresees: bool, meanwhile: Callable[[Accompanist], None] = lambda _: None, mode: str = "accompany"
) -> list[Note]:
    """Wait for a key with or without foresight; `meanwhile` something is changed. Two seconds of notes from the key on."""
    performer.set_sampling(0.9, 0.95)
    performer.steer()
    transport = Transport(RATE, 120.0)
    accompanist = Accompanist(performer, transport, mode, constraints=Constraints("C major", 48, 84, 3, grid=6))
    notes: list[Note] = []

    def take(event: object) -> None:
        assert isinstance(event, Note)
        notes.append(event)

    for n, frame in enumerate(range(0, KEY_FRAME, BLOCK)):
        accompanist.hear_chroma(frame, np.zeros(12))
        if foresees:
            accompanist.foresee()
        if n == 4:
            meanwhile(accompanist)
        accompanist.advance(frame, HORIZON, take)
    assert not notes, "the clock stands"
    transport.start(KEY_FRAME)
    accompanist.enter()
    accompanist.hear_midi(MidiIn(KEY_FRAME, KEY_FRAME, "midi_in", b"\x90\x3c\x50"))
    accompanist.advance(KEY_FRAME, HORIZON, take)
    for frame in range(5280, 2 * RATE, BLOCK):
        accompanist.advance(frame, HORIZON, take)
    return notes


@pytest.mark.parametrize("mode", ["accompany", "free"])
def test_it_comes_with_the_key_and_is_the_same_as_without_foresight(performer: Performer, mode: str) -> None:
    notes = play(performer, True, mode=mode)
    assert notes[0].frame == KEY_FRAME
    assert len(notes) > 3
    assert notes == play(performer, False, mode=mode)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.constrain(Constraints("C# major", 60, 84, 2, grid=12)),
        lambda a: a.set_sampling(0.3, 0.5),
        lambda a: a.steer(2.0, 0.0),
        lambda a: a.set_mode("free", 2000),
    ],
)
def test_what_changes_meanwhile_counts(performer: Performer, change: Callable[[Accompanist], None]) -> None:
    assert play(performer, True, change) == play(performer, False, change)


def test_who_takes_turns_foresees_nothing(performer: Performer) -> None:
    assert play(performer, True, mode="continue") == []
