"""Facts about cutting streams into hops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.errors import SpecError
from rtserver.node import Spec
from rtserver.reblock import Fifo, Reblock, burst_latency, handoff_latency, reblock_latency


class Gain:
    """A node that doubles its input."""

    latency = 0

    def prepare(self, spec):
        return spec

    def process(self, x, out):
        np.multiply(x, 2.0, out=out)

    def reset(self):
        pass


@given(st.integers(1, 96), st.integers(1, 96))
def test_latency_is_the_least_that_never_runs_dry(block, hop):
    def runs_dry(prefill):
        made, asked = prefill, 0
        for k in range(1, 2 * math.lcm(block, hop) // block + 2):
            made, asked = prefill + k * block // hop * hop, asked + block
            if made < asked:
                return True
        return False

    latency = reblock_latency(block, hop)
    assert not runs_dry(latency)
    assert latency == 0 or runs_dry(latency - 1)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(0, 3))
def test_handoff_latency_is_the_least_across_two_processes(block, hop, spare):
    """At callback k the engine has served what had come `spare` + 1 blocks before its end."""

    def lacks(delay):
        for k in range(spare, spare + 2 * hop + 2):
            served = (k - spare) * block // hop * hop
            if (k + 1) * block - delay > served:
                return True
        return False

    delay = handoff_latency(block, hop, spare)
    assert not lacks(delay)
    assert lacks(delay - 1)


@given(st.integers(1, 96), st.integers(1, 96), st.integers(1, 48))
def test_blocks_that_come_in_bursts_never_run_dry_with_the_burst_latency(period, block, hop):
    """A period of the device brings as many whole blocks as it can; the engine runs after each burst."""
    delay = handoff_latency(block, hop, 0) + burst_latency(period, block)
    done = 0
    for k in range(1, 4 * hop + 8):
        served = done * block // hop * hop
        while (done + 1) * block <= k * period:
            done += 1
            assert done * block - delay <= served


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200))
def test_reblocked_node_is_the_node_delayed(block, hop):
    node = Reblock(Gain(), hop)
    node.prepare(Spec.signal(48000, 1, block))
    x = np.random.default_rng(0).standard_normal((1, 8 * max(block, hop) // block * block)).astype(np.float32)
    out = np.zeros_like(x)
    for start in range(0, x.shape[1], block):
        node.process(x[:, start : start + block], out[:, start : start + block])
    latency = node.latency
    assert latency == reblock_latency(block, hop)
    np.testing.assert_array_equal(out[:, latency:], 2 * x[:, : x.shape[1] - latency])


def test_fifo_keeps_the_order():
    fifo = Fifo((1,), 16)
    got = []
    for start in range(0, 30, 5):
        fifo.push(np.arange(start, start + 5, dtype=np.float32)[None])
        while fifo.count >= 3:
            out = np.zeros((1, 3), np.float32)
            fifo.pop(out)
            got.extend(out[0])
    assert got == list(range(len(got)))


def test_refuses_a_node_of_another_hop():
    class Halving(Gain):
        def prepare(self, spec):
            return Spec.signal(spec.sample_rate, 1, spec.hop_size // 2)

    with pytest.raises(SpecError, match="returns signals of 8 frames"):
        Reblock(Halving(), 8).prepare(Spec.signal(48000, 1, 4))
