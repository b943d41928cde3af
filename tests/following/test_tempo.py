"""The tempo model on paths that are known."""

from __future__ import annotations

import numpy as np
import pytest

from rtserver.following.tempo import TempoModel


@pytest.mark.parametrize("rate", [0.5, 1.0, 1.7])
def test_a_straight_path_has_its_slope_for_rate(rate: float) -> None:
    model = TempoModel()
    for n in range(600):
        model.process(rate * n)
    assert model.rate == pytest.approx(rate, rel=0.01)
    assert model.place == pytest.approx(rate * 599, abs=0.5)


def test_stray_places_do_not_move_the_tempo() -> None:
    model, random = TempoModel(), np.random.default_rng(1)
    for n in range(600):
        model.process(n + (60.0 if random.random() < 0.1 else 0.0))
    assert model.rate == pytest.approx(1.0, abs=0.05)


def test_a_pause_is_no_tempo() -> None:
    model = TempoModel()
    for place in (*np.arange(0, 800, 1.25), *np.full(300, 800.0), *np.arange(800, 1000, 1.25)):
        model.process(float(place))
        assert model.rate > 0.95  # 1.25 less what creeps in until the pause is known for one
    assert model.rate == pytest.approx(1.25, rel=0.05)


def test_a_jump_is_taken_at_once() -> None:
    model = TempoModel()
    for n in range(300):
        model.process(float(n))
    model.process(1000.0)
    assert model.place == pytest.approx(1001.0, abs=1.0)
    assert model.rate == pytest.approx(1.0, rel=0.02)
