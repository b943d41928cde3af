"""Law 4: a deferred node is the same node some hops later."""

import numpy as np

from rtserver.deferred import Deferred, Inline
from rtserver.dsp.stft import Stft
from rtserver.node import Spec

SPEC = Spec.signal(48000, 1, 64)


def run(node, n_hops=20, seed=0):
    rng = np.random.default_rng(seed)
    outs = []
    for _ in range(n_hops):
        out = spec.empty() if (spec := node.spec) else None
        node.process(rng.standard_normal((1, 64)).astype(np.float32), out)
        outs.append(out)
    return outs


def prepared(node):
    node.spec = node.prepare(SPEC)
    return node


class Forgetful(Inline):
    """Loses every third result."""

    def collect(self, generation, hop, out):
        return hop % 3 != 0 and super().collect(generation, hop, out)


def test_it_is_the_node_delayed():
    plain = run(prepared(Stft(256, 64)))
    later = run(prepared(Deferred(Stft(256, 64), 3)))
    np.testing.assert_array_equal(later[3:], plain[:-3])


def test_its_latency_counts_the_hops():
    assert prepared(Deferred(Stft(256, 64), 3)).latency == 3 * 64


def test_a_miss_is_silence_and_a_count():
    node = prepared(Deferred(Stft(256, 64), 2, Forgetful(2)))
    outs = run(node)
    missed = [hop for hop in range(18) if hop % 3 == 0]
    assert node.misses == len(missed)
    assert all(not outs[hop + 2].any() for hop in missed)


def test_after_reset_it_is_as_fresh():
    node = prepared(Deferred(Stft(256, 64), 2))
    first = run(node)
    node.reset()
    np.testing.assert_array_equal(run(node), first)
