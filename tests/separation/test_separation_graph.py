"""The graph of each method, as it runs live."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtserver.config import Separation, parse
from rtserver.dsp.hpss import Hpss
from rtserver.dsp.kam import Kam
from rtserver.errors import SpecError
from rtserver.graph import Graph
from rtserver.node import Spec
from rtserver.render import Stepper
from rtserver.separation.graph import preset, separation

RATE = 48000


def prepared(options: Separation, n_channels: int = 2) -> Graph:
    graph = separation(options, RATE)
    graph.prepare(Spec.signal(RATE, n_channels, preset(options.preset, RATE).hop_size))
    return graph


def noise(n_channels: int = 2) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (n_channels, 12000)).astype(np.float32)


@pytest.mark.parametrize("margin", [1.0, 2.0])
def test_the_parts_of_kam_sum_to_the_input(margin: float) -> None:
    graph = prepared(Separation("stage", method="kam", iterations=3, margin_harmonic=margin))
    parts = graph.freewheel(noise())
    assert len(parts) == (2 if margin == 1.0 else 3)
    np.testing.assert_allclose(sum(parts.values()), noise(), atol=3e-6)


def test_once_without_places_the_method_changes_no_bit() -> None:
    """The node, its latency and its place in the graph are those of hpss."""
    plain, kam = prepared(Separation("stage")), prepared(Separation("stage", method="kam", iterations=1, spatial="off"))
    assert {name: plain.latency(name) for name in plain.outputs} == {name: kam.latency(name) for name in kam.outputs}
    a, b = plain.freewheel(noise()), kam.freewheel(noise())
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_places_in_more_than_two_channels_are_refused_with_the_remedy() -> None:
    with pytest.raises(SpecError, match=r"hpss: Kam expects one or two channels with places, got 3 — spatial = 'off'"):
        prepared(Separation("stage", method="kam"), 3)
    prepared(Separation("stage", method="kam", spatial="off"), 3)


@pytest.mark.parametrize(("method", "node"), [("hpss", Hpss), ("kam", Kam)])
def test_a_show_plays_with_the_method_that_it_names(method: str, node: type, tmp_path: Path) -> None:
    show = parse(
        {
            "separation": {"preset": "stage", "method": method, "iterations": 3},
            "inputs": {"main": {"channels": [1, 2]}},
            "outputs": {"harmonic": {"source": "harmonic", "channels": [1, 2]}},
            "generation": {"enabled": False},
        }
    )
    stepper = Stepper(show, tmp_path)
    (lane,) = stepper.lanes
    assert type(lane.graph._edges["hpss"].node) is node
    lane.schedule(0, "mask", "hard")
    x = np.ascontiguousarray(noise().T[: stepper.plan.block_size])
    for _ in range(40):
        stepper.exchange(x, np.zeros_like(x))
        stepper.work()
    assert lane.position > 0
    assert [(name, value) for _, name, value in lane.applied] == [("mask", "hard")]
