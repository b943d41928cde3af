"""Rings: what was written is read, what is not there is said to be missing, what is lost is counted."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.shared.memory import Block, Layout
from rtserver.shared.ring import MessageRing, SampleRing, VectorRing, statistics

CAPACITY = 64


def sample_ring() -> SampleRing:
    layout = Layout()
    SampleRing.declare(layout, "ring", 2, CAPACITY)
    return SampleRing.of(Block.create(layout), "ring")


def message_ring(n_slots: int = 8) -> MessageRing:
    layout = Layout()
    MessageRing.declare(layout, "ring", n_slots, 32)
    return MessageRing(Block.create(layout), "ring")


def vector_ring() -> VectorRing:
    layout = Layout()
    VectorRing.declare(layout, "ring", 3, 8)
    return VectorRing(Block.create(layout), "ring")


def ramp(frame: int, n: int) -> np.ndarray:
    return np.stack([np.arange(frame, frame + n), -np.arange(frame, frame + n)]).astype(np.float32)


@given(st.lists(st.integers(1, CAPACITY // 2), min_size=1, max_size=40), st.data())
def test_samples_are_found_at_their_frames(sizes: list[int], data: st.DataObject) -> None:
    ring = sample_ring()
    for n in sizes:
        ring.write(ramp(ring.written_to, n), ring.written_to)
    end = ring.written_to
    n = data.draw(st.integers(1, min(end, CAPACITY - 1)))
    frame = data.draw(st.integers(max(0, end - CAPACITY + 1), end - n))
    out = np.empty((2, n), np.float32)
    assert ring.read(frame, out)
    np.testing.assert_array_equal(out, ramp(frame, n))


@given(st.integers(1, 200), st.integers(-10, 220), st.integers(1, 32))
def test_what_is_not_there_is_refused(n_written: int, frame: int, n: int) -> None:
    ring = sample_ring()
    for start in range(n_written):
        ring.write(ramp(start, 1), start)
    there = frame >= 0 and frame + n <= n_written and frame > n_written - CAPACITY
    assert ring.read(frame, np.empty((2, n), np.float32)) == there


def test_a_restarted_ring_forgets() -> None:
    ring = sample_ring()
    ring.write(ramp(0, 32), 0)
    ring.restart(100)
    out = np.empty((2, 8), np.float32)
    assert not ring.read(8, out)
    ring.write(ramp(100, 8), 100)
    assert ring.read(100, out)
    assert not ring.read(96, out)


def test_a_capacity_must_be_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="power of two, got 48"):
        SampleRing.declare(Layout(), "ring", 1, 48)


@given(st.lists(st.binary(max_size=30) | st.none(), max_size=60))
def test_messages_come_in_order_and_losses_are_counted(actions: list[bytes | None]) -> None:
    """None takes a message; a full ring keeps the old ones."""
    ring, model, dropped = message_ring(), list[bytes](), 0
    for action in actions:
        if action is None:
            assert ring.get() == (model.pop(0) if model else None)
        elif len(model) < 8:
            assert ring.put(action)
            model.append(action)
        else:
            assert not ring.put(action)
            dropped += 1
    assert statistics(ring) == {"waiting": len(model), "written": int(ring.written[0]), "dropped": dropped}
    assert ring.drain() == model


def test_a_message_that_is_too_long_is_dropped_and_counted() -> None:
    ring = message_ring()
    assert ring.put(b"x" * 30)
    assert not ring.put(b"x" * 31)
    assert statistics(ring)["dropped"] == 1


def test_vectors_keep_their_frames() -> None:
    ring = vector_ring()
    ring.write(np.array([1.0, 2.0, 3.0], np.float32), 480)
    out = np.empty(3, np.float32)
    assert ring.read(0, out) == 480
    assert out.tolist() == [1.0, 2.0, 3.0]


def test_a_vector_that_is_not_there_yet_is_none() -> None:
    assert vector_ring().read(0, np.empty(3, np.float32)) is None


def test_a_vector_that_is_gone_is_an_error() -> None:
    ring = vector_ring()
    for i in range(20):
        ring.write(np.full(3, i, np.float32), i)
    out = np.empty(3, np.float32)
    with pytest.raises(IndexError, match="vector 5 is gone"):
        ring.read(5, out)
    assert ring.read(19, out) == 19


def test_messages_cross_between_processes_while_both_run() -> None:
    layout = Layout()
    MessageRing.declare(layout, "there", 16)
    MessageRing.declare(layout, "back", 16)
    block = Block.create(layout)
    code = """if True:
        import sys, time
        from rtserver.shared.memory import Block
        from rtserver.shared.ring import MessageRing
        block = Block.attach(int(sys.argv[1]))
        there, back = MessageRing(block, "there"), MessageRing(block, "back")
        while (message := there.get()) != b"end":
            if message is None:
                time.sleep(0.0002)
            elif not back.put(message[::-1]):
                sys.exit(1)
    """
    there, back = MessageRing(block, "there"), MessageRing(block, "back")
    child = subprocess.Popen([sys.executable, "-c", code, str(block.fd)], pass_fds=[block.fd])
    sent = [str(i).encode() for i in range(2000)]
    received: list[bytes] = []
    todo = [*sent, b"end"]
    while todo or child.poll() is None:
        if todo and there.written[0] - there.taken[0] < 8 and back.written[0] - back.taken[0] < 8 and there.put(todo[0]):
            todo.pop(0)
        received += back.drain()
    received += back.drain()
    assert child.returncode == 0
    assert received == [message[::-1] for message in sent]
