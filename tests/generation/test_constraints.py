"""Scales by name, and limits that contradict each other."""

import numpy as np
import pytest

from rtserver.errors import ConfigError
from rtserver.generation.constraints import Constraints, parse_scale


@pytest.mark.parametrize(
    ("scale", "classes"),
    [
        ("C major", {0, 2, 4, 5, 7, 9, 11}),
        ("a minor", {0, 2, 4, 5, 7, 9, 11}),
        ("F# dorian", {6, 8, 9, 11, 1, 3, 4}),
        ("Bb major pentatonic", {10, 0, 2, 5, 7}),
        ("b minor pentatonic", {11, 2, 4, 6, 9}),
        ("chromatic", set(range(12))),
        ([0, 4, 7], {0, 4, 7}),
        (None, set(range(12))),
    ],
)
def test_scales(scale: object, classes: set[int]) -> None:
    assert parse_scale(scale) == classes  # type: ignore[arg-type]


@pytest.mark.parametrize(("scale", "nearest"), [("C mayor", "C major"), ("a minro", "A minor"), ("D dorain", "D dorian")])
def test_an_unknown_scale_is_refused_with_the_nearest_name(scale: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean {nearest}"):
        parse_scale(scale)


@pytest.mark.parametrize("scale", ["", "H major", "major", "C", [12], [], [-1]])
def test_what_is_no_scale_is_refused(scale: object) -> None:
    with pytest.raises(ConfigError, match=r"^scale: "):
        parse_scale(scale)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"low": 80, "high": 60}, "range"),
        ({"low": 61, "high": 61, "scale": "C major"}, "range"),
        ({"polyphony": 0}, "polyphony"),
        ({"grid": 5}, "grid"),
        ({"min_dt": 50, "max_dt": 40}, "max_dt"),
        ({"min_dt": 7, "max_dt": 11, "grid": 6}, "max_dt"),
        ({"max_dt": 0}, "max_dt"),
        ({"min_duration": 0}, "max_duration"),
        ({"min_duration": 30, "max_dt": 24}, "min_duration"),
    ],
)
def test_contradictions_are_refused_by_field(limits: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Constraints(**limits)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_the_mask_of_pitches_is_scale_and_range() -> None:
    assert np.flatnonzero(Constraints("C major", 60, 67).pitches).tolist() == [60, 62, 64, 65, 67]


def test_onsets_lie_on_the_grid_and_wait_for_a_voice() -> None:
    mask, _ = Constraints(grid=6, max_dt=24).onsets(tick=4, earliest=15, chord=True)
    assert np.flatnonzero(mask).tolist() == [14, 20]


def test_where_no_onset_is_left_the_wait_is_the_shortest_on_the_grid() -> None:
    mask, wait = Constraints(grid=6, max_dt=24).onsets(tick=0, earliest=31, chord=True)
    assert not mask.any()
    assert wait == 36
