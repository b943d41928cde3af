"""Facts about the graph."""

import numpy as np
import pytest

from rtserver.dsp.hpss import Hpss
from rtserver.dsp.stft import Istft, Stft
from rtserver.errors import SpecError
from rtserver.graph import Graph
from rtserver.node import Spec


def chain(block, hop=128):
    stft = Stft(512, hop, 256)
    graph = Graph()
    graph.add("stft", stft)
    graph.add("hpss", Hpss(5, 5), after="stft")
    graph.add("istft", Istft(stft), after="hpss")
    graph.output("harmonic", "istft", "harmonic")
    graph.output("percussive", "istft", "percussive")
    graph.prepare(Spec.signal(48000, 1, block))
    return graph


@pytest.fixture
def signal():
    return np.random.default_rng(1).standard_normal((1, 4000)).astype(np.float32)


def test_outputs_of_a_separation_sum_to_the_input(signal):
    parts = chain(128).freewheel(signal)
    np.testing.assert_allclose(parts["harmonic"] + parts["percussive"], signal, atol=2e-5)


@pytest.mark.parametrize("block", [1, 64, 100, 128, 480, 1024])
def test_the_block_size_changes_no_bit(signal, block):
    expected = chain(128).freewheel(signal)["harmonic"]
    np.testing.assert_array_equal(chain(block).freewheel(signal)["harmonic"], expected)


@pytest.mark.parametrize(("block", "latency"), [(128, 128), (64, 128 + 64), (100, 128 + 124), (256, 128)])
def test_latency_is_the_nodes_plus_the_reblocking(block, latency):
    assert chain(block).latency("harmonic") == latency


def test_reset_equals_fresh(signal):
    graph = chain(100)
    first = graph.freewheel(signal)["percussive"]
    graph.reset()
    np.testing.assert_array_equal(graph.freewheel(signal)["percussive"], first)


def test_a_tap_sees_every_hop_with_the_frame_at_its_end():
    graph = Graph()
    graph.add("stft", Stft(512, 128, 256))
    frames = []
    graph.tap("stft", lambda x, frame: frames.append(frame))
    graph.prepare(Spec.signal(48000, 1, 100))
    for start in range(0, 1000, 100):
        graph.process(np.zeros((1, 100), np.float32), start, np.zeros((0, 1, 100), np.float32))
    assert frames == [128 * k for k in range(1, 8)]


class Sum:
    """Sums of hops of 100 frames."""

    hop_size = 100
    latency = 0

    def prepare(self, spec):
        return Spec(spec.sample_rate, spec.hop_size, (1,))

    def process(self, x, out):
        out[0] = x.sum(dtype=np.float64)

    def reset(self):
        pass


def parted(block):
    graph = chain(block)
    graph.add("sum", Sum(), after="istft", label="harmonic")
    sums = []
    graph.tap("sum", lambda x, frame: sums.append((frame, float(x[0]))))
    graph.prepare(Spec.signal(48000, 1, block))
    return graph, sums


@pytest.mark.parametrize("block", [128, 100])
def test_a_node_may_read_a_part_of_an_edge_cut_into_hops_of_its_own(signal, block):
    graph, sums = parted(block)
    track = []
    graph.tap("istft", lambda x, frame: track.append(x[0].copy()))
    graph.freewheel(signal)
    harmonic = np.concatenate(track, axis=1)
    assert [frame for frame, _ in sums[:30]] == [100 * (k + 1) for k in range(30)]
    expected = [harmonic[:, 100 * k : 100 * (k + 1)].sum(dtype=np.float64) for k in range(30)]
    np.testing.assert_allclose([value for _, value in sums[:30]], expected, atol=1e-5)


def test_a_spectrum_cannot_be_cut_anew():
    graph = Graph()
    graph.add("stft", Stft(512, 128, 256))
    graph.add("sum", Sum(), after="stft")
    with pytest.raises(SpecError, match="only signals can be cut anew"):
        graph.prepare(Spec.signal(48000, 1, 128))


def test_a_node_behind_an_unknown_part_is_refused():
    graph = chain(128)
    graph.add("sum", Sum(), after="istft", label="drums")
    with pytest.raises(SpecError, match="sum: no part 'drums' in 'istft'"):
        graph.prepare(Spec.signal(48000, 1, 128))


def test_an_unknown_edge_is_named_with_those_that_exist():
    with pytest.raises(SpecError, match="after 'stfd', which is not there; known: input"):
        Graph().add("hpss", Hpss(), after="stfd")


def test_an_unknown_part_is_refused():
    stft = Stft(512, 128, 256)
    graph = Graph()
    graph.add("stft", stft)
    graph.add("istft", Istft(stft), after="stft")
    graph.output("drums", "istft", "drums")
    with pytest.raises(SpecError, match="no part 'drums'"):
        graph.prepare(Spec.signal(48000, 1, 128))


def test_a_misfit_names_the_node():
    graph = Graph()
    graph.add("median", Hpss())
    with pytest.raises(SpecError, match=r"^median: "):
        graph.prepare(Spec.signal(48000, 1, 128))


def test_a_watched_graph_makes_the_same_and_every_node_is_seen_once_a_hop(signal):
    expected = chain(128).freewheel(signal)["harmonic"]
    graph, seen = chain(128), []

    def wrap(name, process):
        def run(x, out):
            process(x, out)
            seen.append(name)

        return run

    graph.watch(wrap)
    np.testing.assert_array_equal(graph.freewheel(signal)["harmonic"], expected)
    n_hops = -(-(signal.shape[1] + graph.latency("harmonic")) // 128)
    assert seen == ["stft", "hpss", "istft"] * n_hops
