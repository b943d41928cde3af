"""Every hard constraint holds, by rules that know nothing of the masks: the benchmark with few notes."""

from typing import Any

import numpy as np
import pytest
from constraints import ANYTHING, LIMITS, RULES, measure  # type: ignore[import-not-found]  # benchmarks/constraints.py

from rtserver.generation.constraints import Constraints
from rtserver.generation.performer import Performer


@pytest.fixture(scope="module")
def performer() -> Performer:
    return Performer()


@pytest.fixture(scope="module")
def found(performer: Performer) -> dict[str, Any]:
    return {name: measure(performer, Constraints(**ANYTHING | row), 300, stretch=150) for name, row in LIMITS.items()}


@pytest.mark.parametrize("name", LIMITS)
def test_no_limit_is_ever_broken(found: dict[str, Any], name: str) -> None:
    assert found[name]["notes"] == 300
    assert found[name]["broken"] == dict.fromkeys(RULES, 0)


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_has_its_price(found: dict[str, Any], name: str) -> None:
    """The network by itself would break each of them: the rows do forbid something."""
    assert (found[name]["price"]["note"] > 0.0) == bool(LIMITS[name])


def test_the_price_is_paid_where_the_limit_bites_and_nowhere_else(found: dict[str, Any]) -> None:
    price = found["scale: C major"]["price"]
    assert price["pitch"] > 0.0
    assert price["dt"] == price["duration"] == 0.0


def test_a_seed_gives_the_same_figures(performer: Performer) -> None:
    limits = Constraints(**ANYTHING | {"polyphony": 2})
    assert measure(performer, limits, 100, seed=3) == measure(performer, limits, 100, seed=3) != measure(performer, limits, 100, seed=4)


@pytest.mark.parametrize(
    ("rule", "limits", "notes"),
    [
        ("scale", {"scale": "C major"}, [(0, 61, 6)]),
        ("chord", {"chord": "Am7"}, [(0, 62, 6)]),
        ("range", {"low": 60}, [(0, 59, 6)]),
        ("range", {"high": 72}, [(0, 73, 6)]),
        ("polyphony", {"polyphony": 1}, [(0, 60, 7), (6, 62, 6)]),
        ("polyphony", {"polyphony": 2}, [(0, 60, 96), (0, 64, 96), (48, 67, 6)]),
        ("a key that is down", {}, [(0, 60, 12), (6, 60, 6)]),
        ("grid", {"grid": 6}, [(0, 60, 3), (3, 62, 3)]),
        ("min_dt", {"min_dt": 1}, [(1, 60, 6), (1, 64, 6)]),
        ("max_dt", {"max_dt": 24}, [(25, 60, 6)]),
        ("min_duration", {"min_duration": 6}, [(0, 60, 5)]),
        ("max_duration", {"max_duration": 6}, [(0, 60, 7)]),
    ],
)
def test_the_rules_see_what_breaks_them(rule: str, limits: dict[str, int], notes: list[tuple[int, int, int]]) -> None:
    allowed = Constraints(**ANYTHING | limits)
    assert {name for name, broken in RULES.items() if broken(np.array(notes), allowed)} == {rule}
