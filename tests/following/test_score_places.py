"""Places as musicians name them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.demo import SCORE
from rtserver.errors import ScoreError
from rtserver.following.score import Score, load_score

from .conftest import FORWARD, REPEAT, attributes, document, note, rest

Write = Callable[..., Path]
FOUR = note(60, 1) + note(62, 1) + note(64, 1) + note(65, 1)
DEMO = load_score(SCORE)


def mark(text: str) -> str:
    return f"<direction><direction-type><rehearsal>{text}</rehearsal></direction-type></direction>"


@pytest.fixture
def repeated(write: Write) -> Score:
    """Bars 1, 2 (marked A, twice), 3 (marked B)."""
    return load_score(write(attributes(1) + FOUR, FORWARD + mark("A") + FOUR + REPEAT, mark("B") + FOUR))


@pytest.mark.parametrize(
    ("quarter", "expected"),
    [
        (0, ("1", 1, 1, "")),
        (3.5, ("1", 4.5, 1, "")),
        (4, ("2", 1, 1, "A")),
        (9, ("2", 2, 2, "A")),
        (12, ("3", 1, 1, "B")),
        (17, ("3", 6, 1, "B")),
    ],
)
def test_a_place_has_bar_beat_mark_and_time(repeated: Score, quarter: float, expected: tuple[str, float, int, str]) -> None:
    place = repeated.place_at(quarter)
    assert (place.bar, place.beat, place.time, place.mark) == expected


def test_a_place_has_its_written_quarter(repeated: Score) -> None:
    assert [repeated.place_at(q).written_quarter for q in (3, 5, 9, 13)] == [3, 5, 5, 9]


def test_a_bar_is_found_the_first_and_the_second_time(repeated: Score) -> None:
    assert [repeated.quarter_of_bar(2, 3, time) for time in (1, 2)] == [6, 10]
    assert repeated.quarter_of_bar("3") == 12


def test_a_mark_is_found_the_first_and_the_second_time(repeated: Score) -> None:
    assert [repeated.quarter_of_mark("A"), repeated.quarter_of_mark("a", 2), repeated.quarter_of_mark("B")] == [4, 8, 12]


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda s: s.quarter_of_bar(4), "no bar '4': the bars are numbered 1, 2, 3"),
        (lambda s: s.quarter_of_bar(2, 5), "no beat 5 in bar '2': its beats go from 1 to below 5"),
        (lambda s: s.quarter_of_bar(2, 0), "no beat 0"),
        (lambda s: s.quarter_of_bar(2, 1, 3), "bar '2' beat 1 is played 2 times, there is no time 3"),
        (lambda s: s.quarter_of_bar(1, 1, 2), "is played once"),
        (lambda s: s.quarter_of_mark("C"), "no rehearsal mark 'C': the score has 'A', 'B'"),
        (lambda s: s.quarter_of_mark("B", 0), "there is no time 0"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(repeated: Score, ask: Callable[[Score], float], says: str) -> None:
    with pytest.raises(ScoreError, match=says):
        ask(repeated)


def test_a_score_without_marks_says_so(write: Write) -> None:
    with pytest.raises(ScoreError, match="the score has none; name a bar"):
        load_score(write(attributes(1) + FOUR)).quarter_of_mark("A")


def test_a_pick_up_is_the_end_of_a_bar(write: Write) -> None:
    score = load_score(write(attributes(1) + note(60, 1), FOUR, first=0))
    assert (score.place_at(0.0).bar, score.place_at(0.0).beat) == ("0", 4)
    assert (score.place_at(1.0).bar, score.place_at(1.0).beat) == ("1", 1)
    assert score.quarter_of_bar(0, 4) == 0.0
    with pytest.raises(ScoreError, match="its beats go from 4 to below 5"):
        score.quarter_of_bar(0, 1)


def test_beats_are_those_of_the_metre(write: Write) -> None:
    eighths = "".join(note(60, 1) for _ in range(6))
    score = load_score(write(attributes(2, 6, 8) + eighths, attributes(1, 2, 2) + FOUR))
    assert score.quarter_of_bar(1, 4) == 1.5
    assert score.quarter_of_bar(2, 2) == 5.0
    assert score.place_at(4.0).beat == 1.5


def test_rests_at_the_start_lie_before_quarter_0(write: Write) -> None:
    score = load_score(write(attributes(1) + rest(4), rest(1) + note(60, 1) + note(62, 2)))
    assert (score.quarter_of_bar(1), score.quarter_of_bar(2), score.quarter_of_bar(2, 2)) == (-5, -1, 0)
    assert score.place_at(-5.0).bar == "1"


def test_a_repeat_within_a_bar_divides_its_times(write: Write) -> None:
    """Bar 2 is played to its third beat, then 1 and 2 again, then on: its fourth beat once."""
    middle = '<barline location="middle"><repeat direction="backward"/></barline>'
    score = load_score(write(attributes(1) + FOUR, note(60, 1) + note(62, 2) + middle + note(64, 1), FOUR))
    assert [score.quarter_of_bar(2, 1, t) for t in (1, 2)] == [4, 11]
    assert score.quarter_of_bar(2, 4) == 14
    assert score.place_at(14.0).beat == 4


def test_a_bar_in_two_measures_is_one_bar(tmp_path: Path) -> None:
    text = document(attributes(1) + FOUR, note(60, 3), note(62, 1), FOUR)
    text = text.replace('<measure number="3">', '<measure number="2" implicit="yes">').replace('number="4"', 'number="3"')
    (tmp_path / "s.musicxml").write_text(text)
    score = load_score(tmp_path / "s.musicxml")
    assert (score.quarter_of_bar(2, 1), score.quarter_of_bar(2, 4), score.quarter_of_bar(3)) == (4, 7, 8)
    assert (score.place_at(7.0).bar, score.place_at(7.0).beat) == ("2", 4)


def test_a_bar_number_may_be_any_text(tmp_path: Path) -> None:
    (tmp_path / "s.musicxml").write_text(document(attributes(1) + FOUR, FOUR).replace('number="2"', 'number="1a"'))
    score = load_score(tmp_path / "s.musicxml")
    assert score.quarter_of_bar("1a") == 4
    assert score.bar_at(4) == 1


@given(quarter=st.floats(0.0, DEMO.length_quarter - 1e-6))
def test_a_place_leads_back_to_its_quarter(quarter: float) -> None:
    place = DEMO.place_at(quarter)
    assert DEMO.quarter_of_bar(place.bar, place.beat, place.time) == pytest.approx(quarter, abs=1e-6)
