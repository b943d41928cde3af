"""Changes of the mixer on their way to its kernel: none waits behind a later one, none is too many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.audio import table as t
from rtserver.config import parse
from rtserver.events import Param
from rtserver.plan import Branch, open_session, plan
from rtserver.roles.engine import Changes
from rtserver.shared.session import Session, Setup

BLOCK = 64
GAIN, BYPASS = "outputs.a.gain_db", "outputs.a.bypass"


class Kernel:
    """The part of the mixer's kernel that takes what is due."""

    def __init__(self) -> None:
        config = parse({"audio": {"block_size": BLOCK}, "outputs": {"a": {"source": "harmonic", "channels": [1]}}})
        made = plan(config, [Branch("main", 32, {"harmonic": 100})], 1)
        self.session: Session = open_session(Setup(config, "", "", made.tracks), made)
        self.changes = Changes(self.session)
        self.taken: list[tuple[int, float]] = []

    def set(self, frame: int, value: float, name: str = GAIN) -> None:
        self.changes.add(Param(frame, self.session.frame, name, value))

    def block(self) -> None:
        """One block goes by: the engine arms, the kernel takes."""
        self.changes.arm()
        self.session.input_ring.span[1] += BLOCK
        pending = self.session.block["audio.pending"]
        for column in range(2):
            if pending[0, column] < self.session.frame:
                self.taken.append((int(pending[0, column]), float(self.session.block["audio.values"][0, column])))
                pending[0, column] = t.NOTHING

    def blocks(self, until_frame: int) -> None:
        while self.session.frame < until_frame:
            self.block()


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def test_a_change_of_now_does_not_wait_for_one_of_later(kernel: Kernel) -> None:
    kernel.set(480_000, -20.0)
    kernel.block()
    kernel.set(kernel.session.frame, 0.0)
    kernel.block()
    assert [value for _, value in kernel.taken] == [1.0]


def test_a_change_of_later_is_taken_at_its_frame(kernel: Kernel) -> None:
    kernel.set(48_010, 0.0)
    kernel.blocks(48_000)
    assert kernel.taken == []
    kernel.block()
    assert kernel.taken == [(48_010, 1.0)]


def test_of_many_changes_at_one_frame_the_last_one_holds(kernel: Kernel) -> None:
    for gain_db in range(-1000, 1):
        kernel.set(0, gain_db / 10)
    kernel.blocks(BLOCK * 3)
    assert kernel.taken == [(0, 1.0)]


@given(st.lists(st.integers(0, 2000), max_size=30))
def test_every_frame_gets_its_change_in_order(frames: list[int]) -> None:
    kernel = Kernel()
    for frame in frames:
        kernel.set(frame, 0.0)
    kernel.blocks(2000 + BLOCK * (len(frames) + 2))
    assert [frame for frame, _ in kernel.taken] == sorted(set(frames))


def test_gain_and_bypass_do_not_wait_for_each_other(kernel: Kernel) -> None:
    kernel.set(0, 0.0)
    kernel.set(0, 1.0, BYPASS)
    kernel.block()
    assert len(kernel.taken) == 2
