"""`Graph`: wires nodes, owns every buffer between them, sums their latencies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rtserver.errors import SpecError
from rtserver.node import Array, Emit, Node, Spec, Tracker
from rtserver.reblock import Fifo, reblock_latency

Tap = Callable[[Array, int], None]
Process = Callable[[Array, Array], None]


def _ignore(_event: object) -> None:
    return None


def _is_signal(spec: Spec) -> bool:
    return spec.dtype == np.float32 and spec.shape[-1] == spec.hop_size


def _index(spec: Spec, label: str, after: str, who: str) -> int:
    """Which part of an edge is called `label`; -1 for all of it."""
    if label and label not in spec.labels:
        raise SpecError(f"{who}: no part {label!r} in {after!r}, which has {spec.labels or 'no parts'}")
    return spec.labels.index(label) if label else -1


@dataclass
class _Edge:
    """A node and the buffer it writes. `children` are the edges that read it."""

    node: Node | None
    after: str
    label: str = ""  # the part of that edge which it reads; all of it where empty
    index: int = -1  # of that part
    process: Process | None = None  # the node's own, or what `Graph.watch` put in its place
    spec: Spec | None = None
    out: Array | None = None
    latency: int = 0
    children: list[str] = field(default_factory=list[str])
    taps: list[Tap] = field(default_factory=list[Tap])
    trackers: list[Tracker] = field(default_factory=list[Tracker])
    fifo: Fifo | None = None  # in front of a node that wants another hop than the graph's block
    hop: Array | None = None  # what the queue's hops are popped into


@dataclass
class _Output:
    after: str
    label: str
    index: int = 0
    latency: int = 0
    fifo: Fifo | None = None


class Graph:
    """A tree of nodes behind one input, processed hop by hop.

    Nodes with a `hop_size` of their own that differs from the block's are fed through a queue; their outputs, if any, come back
    through another, ``hop − gcd(hop, block)`` frames later.
    """

    def __init__(self) -> None:
        self._edges: dict[str, _Edge] = {"input": _Edge(None, "")}
        self._outputs: dict[str, _Output] = {}
        self._emit: Emit = _ignore
        self._end_frame = 0

    def add(self, name: str, node: Node, after: str = "input", label: str = "") -> None:
        """Connect `node` behind the edge `after`, or behind the part of it called `label`."""
        self._connect(after, name)
        self._edges[name] = _Edge(node, after, label)
        self._edges[after].children.append(name)

    def track(self, tracker: Tracker, after: str) -> None:
        """Let a tracker listen to an edge; its events go to the `emit` given to `prepare`."""
        self._connect(after, "tracker")
        self._edges[after].trackers.append(tracker)

    def tap(self, after: str, tap: Tap) -> None:
        """Call ``tap(array, frame)`` with every array on an edge and the session frame at its end. The array is not the tap's to keep."""
        self._connect(after, "tap")
        self._edges[after].taps.append(tap)

    def output(self, name: str, after: str, label: str = "") -> None:
        """Declare that a signal edge (or the part of it called `label`) leaves the graph."""
        self._connect(after, name)
        if name in self._outputs:
            raise SpecError(f"output {name!r} is declared twice")
        self._outputs[name] = _Output(after, label)

    def _connect(self, after: str, name: str) -> None:
        if after not in self._edges:
            raise SpecError(f"{name!r} is to be connected after {after!r}, which is not there; known: {', '.join(self._edges)}")
        if name in self._edges:
            raise SpecError(f"the name {name!r} is taken")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in the order of the array that `process` fills."""
        return tuple(self._outputs)

    def latency(self, output: str) -> int:
        """Frames by which an output lags the input."""
        return self._outputs[output].latency

    def spec(self, edge: str) -> Spec:
        """What flows along an edge, once prepared."""
        spec = self._edges[edge].spec
        assert spec is not None, "prepare first"
        return spec

    def prepare(self, spec: Spec, emit: Emit = _ignore) -> None:
        """Prepare every node for blocks of `spec`. Raises `SpecError`, naming the node."""
        self.block = spec
        self._emit = emit
        self._edges["input"].spec = spec
        for name, edge in self._edges.items():
            if edge.node is not None:
                self._prepare_edge(name, edge)
            for tracker in edge.trackers:
                assert edge.spec is not None
                tracker.prepare(edge.spec)
        for index, (name, output) in enumerate(self._outputs.items()):
            self._prepare_output(name, output, index)

    def watch(self, wrap: Callable[[str, Process], Process]) -> None:
        """Put ``wrap(name, process)`` in the place of each node's `process`, to time it for example. Call it after `prepare`."""
        for name, edge in self._edges.items():
            if edge.node is not None:
                edge.process = wrap(name, edge.node.process)

    def __contains__(self, name: str) -> bool:
        """Whether there is an edge of this name."""
        return name in self._edges

    def node(self, name: str) -> Any:
        """The node of this name."""
        return self._edges[name].node

    def set(self, name: str, key: str, value: float | str) -> None:
        """Change a parameter of the node `name` between two blocks, if it has any. Raises `SpecError` if it makes no sense."""
        self.node(name).set(key, value)

    def _prepare_edge(self, name: str, edge: _Edge) -> None:
        node, source = edge.node, self._edges[edge.after]
        assert node is not None and source.spec is not None
        spec = source.spec
        if edge.label:
            edge.index = _index(spec, edge.label, edge.after, name)
            spec = replace(spec, shape=spec.shape[1:], labels=())
        wanted: Any = getattr(node, "hop_size", spec.hop_size)
        if wanted != spec.hop_size:
            if not _is_signal(spec):
                raise SpecError(
                    f"{name} wants hops of {wanted} frames, {edge.after!r} gives one {spec.shape} every {spec.hop_size}: only signals can"
                    " be cut anew — connect it to the input?"
                )
            edge.fifo = Fifo(spec.shape[:-1], spec.hop_size + wanted)
            spec = Spec(spec.sample_rate, wanted, (*spec.shape[:-1], wanted))
            edge.hop = spec.empty()
        try:
            edge.spec = node.prepare(spec)
        except SpecError as error:
            raise SpecError(f"{name}: {error}") from None
        edge.process = node.process
        edge.out = edge.spec.empty()
        edge.latency = source.latency + node.latency

    def _prepare_output(self, name: str, output: _Output, index: int) -> None:
        edge = self._edges[output.after]
        assert edge.spec is not None
        output.index = _index(edge.spec, output.label, output.after, f"output {name!r}")
        if not _is_signal(edge.spec):
            raise SpecError(f"output {name!r}: {output.after!r} is not a signal but {edge.spec.shape} {edge.spec.dtype}")
        added = reblock_latency(self.block.hop_size, edge.spec.hop_size)
        if edge.spec.hop_size != self.block.hop_size:
            output.fifo = Fifo(self.block.shape[:-1], self.block.hop_size + 2 * edge.spec.hop_size)
            output.fifo.clear(added)
        output.latency = edge.latency + added

    def process(self, x: Array, frame: int, out: Array) -> None:
        """Run one block.

        Parameters
        ----------
        x : (n_channels, block_size) float32
        frame : session frame of its first frame
        out : (n_outputs, n_channels, block_size) float32, overwritten
        """
        self._run("input", self._edges["input"], x, frame + x.shape[-1])
        for i, output in enumerate(self._outputs.values()):
            if output.fifo is not None:
                output.fifo.pop(out[i])
            else:
                source = x if output.after == "input" else self._edges[output.after].out
                assert source is not None
                out[i] = source if output.index < 0 else source[output.index]

    def _run(self, name: str, edge: _Edge, x: Array, end: int) -> None:
        """Hand what is on an edge to all who read it. `end` is the session frame at its end."""
        for tap in edge.taps:
            tap(x, end)
        for tracker in edge.trackers:
            tracker.process(x, end, self._emit)
        for output in self._outputs.values():
            if output.after == name and output.fifo is not None:
                output.fifo.push(x if output.index < 0 else x[output.index])
        for child_name in edge.children:
            child = self._edges[child_name]
            assert child.process is not None and child.out is not None
            part = x if child.index < 0 else x[child.index]
            if child.fifo is None:
                child.process(part, child.out)
                self._run(child_name, child, child.out, end)
                continue
            assert child.hop is not None
            child.fifo.push(part)
            size = child.hop.shape[-1]
            while child.fifo.count >= size:
                child.fifo.pop(child.hop)
                child.process(child.hop, child.out)
                self._run(child_name, child, child.out, end - child.fifo.count)

    def reset(self) -> None:
        """Forget the past in every node, queue and tracker."""
        for edge in self._edges.values():
            if edge.node is not None:
                edge.node.reset()
            if edge.fifo is not None:
                edge.fifo.clear()
            for tracker in edge.trackers:
                tracker.reset()
        for output in self._outputs.values():
            if output.fifo is not None:
                output.fifo.clear(reblock_latency(self.block.hop_size, self.spec(output.after).hop_size))

    def freewheel(self, signal: Array) -> dict[str, Array]:
        """Run a whole signal through, without a device.

        Parameters
        ----------
        signal : (n_channels, n_frames) float32

        Returns
        -------
        dict of (n_channels, n_frames) float32
            One entry an output, aligned to the input: latency is trimmed, the end is padded for it.
        """
        n_channels, n_frames = signal.shape
        block = self.block.hop_size
        longest = max((o.latency for o in self._outputs.values()), default=0)
        n_blocks = -(-(n_frames + longest) // block)
        padded = np.zeros((n_channels, n_blocks * block), np.float32)
        padded[:, :n_frames] = signal
        out = np.zeros((len(self._outputs), n_channels, block), np.float32)
        results = {name: np.zeros_like(padded) for name in self._outputs}
        for start in range(0, padded.shape[1], block):
            self.process(np.ascontiguousarray(padded[:, start : start + block]), start, out)
            for i, result in enumerate(results.values()):
                result[:, start : start + block] = out[i]
        return {name: results[name][:, o.latency : o.latency + n_frames] for name, o in self._outputs.items()}
