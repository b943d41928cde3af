"""The seven laws of `rtserver.node`, held over every registered node."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry import NODES, RATE, SEPARATORS, SIGNAL, Entry

import rtserver
from rtserver.deferred import Deferred
from rtserver.errors import SpecError
from rtserver.following.follower import Follower
from rtserver.graph import Graph
from rtserver.node import Spec


def nodes(which=lambda entry: True):
    """Parametrises a test by the entries that it speaks of."""
    return pytest.mark.parametrize("entry", [entry for entry in NODES if which(entry)], ids=lambda e: e.name)


every_node = nodes()
few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def noise(n_hops: int, spec: Spec, seed: int = 0) -> np.ndarray:
    """Signal for `n_hops` hops, (n_channels, frames)."""
    n_channels = spec.shape[0]
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (n_channels, n_hops * spec.hop_size)).astype(np.float32)


HOSTILE = {
    "silence": np.zeros_like,
    "impulses": lambda x: np.where(np.arange(x.shape[1]) % 97 == 0, 1.0, 0.0) + 0 * x,
    "noise": lambda x: x,
    "nan": lambda x: np.where(np.abs(x) > 0.45, np.nan, x),
    "inf": lambda x: np.where(x > 0.45, np.inf, np.where(x < -0.45, -np.inf, x)),
    "denormal": lambda x: x * 1e-42,
    "huge": lambda x: np.sign(x) * 1e30,
    "dc": np.ones_like,
}


def run(entry: Entry, signal: np.ndarray, node=None) -> list[np.ndarray]:
    """Every output of a node (a fresh one by default) over a signal."""
    node = node or prepared(entry)
    hop = entry.spec.hop_size
    source = None
    if entry.feed is not None:
        source = entry.feed()
        spectrum = source.prepare(Spec.signal(RATE, signal.shape[0], hop)).empty()
    outs = []
    for start in range(0, signal.shape[1] // hop * hop, hop):
        x = np.ascontiguousarray(signal[:, start : start + hop], np.float32)
        if source is not None:
            source.process(x, spectrum)
            x = spectrum
        out = node.out_spec.empty()
        node.process(x, out)
        outs.append(out)
    return outs


def prepared(entry: Entry):
    node = entry.make()
    node.out_spec = node.prepare(entry.spec)
    return node


@nodes(lambda entry: entry.sums)
def test_law_1_parts_sum_to_the_input_after_the_declared_latency(entry):
    x = noise(3 * entry.memory, entry.spec)
    y = np.concatenate([out.sum(axis=0) for out in run(entry, x)], axis=-1)
    latency = prepared(entry).latency
    np.testing.assert_allclose(y[:, latency:], x[:, : x.shape[1] - latency], atol=2e-5)


@every_node
def test_law_1_the_newest_input_is_in_the_output_and_no_future_one(entry):
    n_hops, at = entry.memory + 6, entry.memory
    x = noise(n_hops, entry.spec)
    changed = x.copy()
    changed[:, at * entry.spec.hop_size : (at + 1) * entry.spec.hop_size] += 0.3
    differs = [not np.array_equal(a, b) for a, b in zip(run(entry, x), run(entry, changed), strict=True)]
    node = prepared(entry)
    late = getattr(node, "n_hops", 0)  # where it is computed elsewhere
    assert not any(differs[:at])
    assert any(differs[at : at + late + 2])


@nodes(lambda entry: entry.feed is None and hasattr(entry.make(), "hop_size"))
@few
@given(data=st.data())
def test_law_2_cutting_changes_no_bit(entry, data):
    """A node behind a graph of any block size makes the same hops. (What takes spectra is cut as their source is: see the presets.)"""
    node = entry.make()
    n_hops = 6
    x = noise(n_hops, entry.spec)
    expected = run(entry, x)
    graph, seen = Graph(), []
    graph.add("node", node)
    graph.tap("node", lambda out, frame: seen.append(out.copy()))
    block = data.draw(st.integers(1, 3 * entry.spec.hop_size), label="block")
    graph.prepare(Spec.signal(RATE, entry.spec.shape[0], block))
    for start in range(0, x.shape[1] - block + 1, block):
        graph.process(np.ascontiguousarray(x[:, start : start + block]), start, np.zeros((0, entry.spec.shape[0], block), np.float32))
    for a, b in zip(seen, expected, strict=False):
        np.testing.assert_array_equal(a, b)
    assert len(seen) == x.shape[1] // block * block // entry.spec.hop_size


@every_node
@few
@given(before=st.sampled_from(sorted(HOSTILE)), n_hops=st.integers(1, 30), seed=st.integers(0, 99))
def test_law_3_reset_equals_fresh(entry, before, n_hops, seed):
    node = prepared(entry)
    with np.errstate(all="ignore"):
        run(entry, HOSTILE[before](noise(n_hops, entry.spec, seed)), node)
    node.reset()
    x = noise(12, entry.spec, seed + 1)
    for a, b in zip(run(entry, x, node), run(entry, x), strict=True):
        np.testing.assert_array_equal(a, b)


@every_node
def test_law_4_deferred_is_the_same_some_hops_later(entry):
    n_hops = 3
    x = noise(15, entry.spec)
    later = Deferred(entry.make(), n_hops)
    later.out_spec = later.prepare(entry.spec)
    plain, delayed = run(entry, x), run(entry, x, later)
    assert later.latency == prepared(entry).latency + n_hops * entry.spec.hop_size
    for a, b in zip(plain[:-n_hops], delayed[n_hops:], strict=True):
        np.testing.assert_array_equal(a, b)


@every_node
def test_law_5_process_keeps_nothing_and_borrows_little(entry):
    node = prepared(entry)
    x = noise(1, entry.spec) if entry.feed is None else run(Entry("", entry.feed, SIGNAL, 0), noise(8, SIGNAL))[-1]
    out = node.out_spec.empty()
    for _ in range(20):
        node.process(x, out)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(300):
            node.process(x, out)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 512, "something grows with time"
    assert peak - before < entry.scratch, "more is borrowed than the registry says"


@every_node
def test_law_6_same_input_same_output(entry):
    x = noise(12, entry.spec)
    for a, b in zip(run(entry, x), run(entry, x), strict=True):
        np.testing.assert_array_equal(a, b)


@every_node
@pytest.mark.parametrize(
    "wrong",
    [
        Spec(RATE, 128, (2, 128), np.dtype(np.float64)),
        Spec(RATE, 128, (2, 257), np.dtype(np.complex128)),
        Spec(RATE, 128, (3,)),
    ],
    ids=["float64", "complex128", "features"],
)
def test_law_7_prepare_refuses_what_does_not_fit(entry, wrong):
    with pytest.raises(SpecError):
        entry.make().prepare(wrong)


@every_node
def test_law_7_no_kernel_compiles_after_prepare(entry):
    node = prepared(entry)
    kernels = [n.kernel for n in getattr(node, "nodes", (node,)) if getattr(n, "kernel", None) is not None]
    before = [len(k.signatures) for k in kernels]
    with np.errstate(all="ignore"):
        for shape in HOSTILE.values():
            run(entry, shape(noise(4, entry.spec)), node)
    assert [len(k.signatures) for k in kernels] == before


@every_node
@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_whatever_comes_in_what_goes_out_is_finite(entry, kind):
    with np.errstate(all="ignore"):
        outs = run(entry, HOSTILE[kind](noise(entry.memory + 4, entry.spec)))
    assert all(np.isfinite(out).all() for out in outs)


@every_node
@pytest.mark.parametrize("kind", ["nan", "inf"])
def test_what_is_not_finite_is_forgotten(entry, kind):
    """After its memory has passed, a node plays as one that never saw the fault."""
    n_bad = 5
    clean = noise(entry.memory + 20, entry.spec, seed=1)
    bad = clean.copy()
    n = n_bad * entry.spec.hop_size
    with np.errstate(all="ignore"):
        bad[:, :n] = HOSTILE[kind](bad[:, :n])
    after = n_bad + entry.memory
    for a, b in zip(run(entry, bad)[after:], run(entry, clean)[after:], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_no_node_escapes_the_registry():
    """Whatever in rtserver has prepare, process, reset and latency is covered by an entry, here or among the trackers."""
    covered = {cls for entry in (*NODES, *SEPARATORS) for cls in entry.covers}
    found = set()
    for module in pkgutil.walk_packages(rtserver.__path__, "rtserver."):
        if ".roles." in module.name or module.name.endswith("__main__"):
            continue
        for _, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            is_node = all(hasattr(cls, a) for a in ("prepare", "process", "reset", "latency"))
            if cls.__module__.startswith("rtserver.") and is_node and isinstance(inspect.getattr_static(cls, "latency"), property):
                found.add(cls)
    protocols = {c for c in found if c.__module__ == "rtserver.node"}
    assert found - protocols - covered == {Follower}, "nodes belong into registry.py; the tracker has its own test_tracker_laws.py"
