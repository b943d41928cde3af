"""Places as people write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rtserver.errors import ScoreError
from rtserver.following.naming import Named, check_command, check_places, end_of, named, quarter_of, stretch_of
from rtserver.following.score import Score, load_score

from .conftest import FORWARD, REPEAT, attributes, note

FOUR = note(60, 1) + note(62, 1) + note(64, 1) + note(65, 1)


@pytest.fixture
def repeated(write: Callable[..., Path]) -> Score:
    """Bars 1, 2 (marked A, twice), 3."""
    mark = "<direction><direction-type><rehearsal>A</rehearsal></direction-type></direction>"
    return load_score(write(attributes(1) + FOUR, FORWARD + mark + FOUR + REPEAT, FOUR))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bar 12", Named(None, "12", None, "", 1)),
        (" bar 12a  beat 2.5 time 3 ", Named(None, "12a", 2.5, "", 3)),
        ("mark Da Capo time 2", Named(None, "", None, "Da Capo", 2)),
        ("quarter -1.5", Named(-1.5, "", None, "", 1)),
    ],
)
def test_a_place_is_read(text: str, expected: Named) -> None:
    assert named(text) == expected


@pytest.mark.parametrize("text", ["", "12", "bar", "bar 1 beat x", "mark ", "quarter x", "bar 1 time 0x", "bar " + 70 * "1", "beat 3"])
def test_what_is_no_place_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ScoreError, match="expected for example 'bar 12'"):
        named(text)


@pytest.mark.parametrize(
    ("text", "begins", "ends"),
    [
        ("bar 2", 4, 8),
        ("bar 2 time 2", 8, 12),
        ("bar 3", 12, 16),
        ("bar 2 beat 3", 6, 6),
        ("mark A time 2", 8, 8),
        ("quarter 2.5", 2.5, 2.5),
    ],
)
def test_a_place_has_a_quarter_and_a_bar_has_an_end(repeated: Score, text: str, begins: float, ends: float) -> None:
    assert (quarter_of(repeated, text), end_of(repeated, text)) == (begins, ends)


def test_a_stretch_reaches_to_the_end_of_its_last_bar(repeated: Score) -> None:
    assert stretch_of(repeated, "bar 1 to bar 2 time 2") == (0, 12)


@pytest.mark.parametrize("text", ["bar 3 to bar 1", "quarter 2 to quarter 2.2"])
def test_a_stretch_goes_forward(repeated: Score, text: str) -> None:
    with pytest.raises(ScoreError, match="half a quarter at least"):
        stretch_of(repeated, text)


GOOD = [
    ("seek", 3.0), ("seek", "bar 2"), ("start_at", "mark A"), ("tap", None), ("tap", "beat"), ("tap", "bar 2 time 2"), ("untap", None),
    ("loop", "off"), ("loop", "bar 1 to bar 2"), ("cue", "go"), ("cue", "arm the lights"), ("cue", "disarm"),
]  # fmt: skip
BAD = [
    ("seek", None), ("seek", True), ("start_at", "somewhere"), ("tap", 3.0), ("tap", "soon"), ("untap", 1.0), ("loop", None),
    ("loop", "bar 1"), ("cue", None), ("cue", "dance"), ("cue", "go lights"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_a_right_value_passes(repeated: Score, name: str, value: object) -> None:
    check_command(name, value)
    check_places(repeated, name, value)


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_wrong_value_is_refused(name: str, value: object) -> None:
    with pytest.raises(ScoreError):
        check_command(name, value)


@pytest.mark.parametrize(("name", "value"), [("seek", "bar 9"), ("loop", "bar 1 to bar 9"), ("tap", "mark Z")])
def test_a_place_that_the_score_has_not_is_refused(repeated: Score, name: str, value: str) -> None:
    with pytest.raises(ScoreError, match=r"no bar '9'|no rehearsal mark 'Z'"):
        check_places(repeated, name, value)
