"""Where bars and beats lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.demo import SCORE
from rtserver.errors import ConfigError
from rtserver.following.score import Score, load_score
from rtserver.generation.metre import NEAR, BarLine, Metre
from rtserver.generation.vocabulary import bar_place

from ..following.music import score_of

Bars = list[tuple[float, float]]  # entry, quarters that it lies into its bar
DEMO = load_score(SCORE)


def score(bars: Bars, metres: list[tuple[float, int, int]], first: int = 1) -> Score:
    """A score of these bars."""
    entries, into = (np.array(column) for column in zip(*bars, strict=True))
    return replace(
        score_of([(0.0, 1.0, 60), (1.0, 1.0, 62)]),
        bar_quarter=entries,
        bar_into=into,
        bar_number=np.arange(first, first + len(bars), dtype=np.int32),
        metre_quarter=np.array([at for at, _, _ in metres]),
        metre=np.array([[beats, unit] for _, beats, unit in metres], np.int32),
    )


PICK_UP = Metre.of_score(score([(0, 3), (1, 0), (5, 0)], [(0, 4, 4)], first=0))
CHANGING = Metre.of_score(score([(0, 0), (4, 0), (8, 0), (11, 0)], [(0, 4, 4), (8, 6, 8)]))
DIVIDED = Metre.of_score(score([(0, 0), (4, 0), (6, 2), (8, 0)], [(0, 4, 4)]))
OFF_BEAT = Metre.of_score(score([(0, 0), (2, 1.5), (4.5, 0)], [(0, 4, 4)]))  # after two beats back into the middle of another bar
METRES = [PICK_UP, CHANGING, DIVIDED, OFF_BEAT, Metre.fixed(), Metre.fixed("7/8", 0.3), Metre.fixed("3/4", -2), Metre.of_score(DEMO)]
ANY_METRE = st.sampled_from(METRES)
ANY_QUARTER = st.one_of(st.floats(-500, 500), st.integers(-2000, 2000).map(lambda n: n / 4))


@pytest.mark.parametrize(
    ("signature", "length", "beat"),
    [
        ("4/4", 4, 1),
        ("3/4", 3, 1),
        ("2/2", 4, 2),
        ("6/8", 3, 1.5),
        ("12/8", 6, 1.5),
        ("3/8", 1.5, 0.5),
        ("7/8", 3.5, 0.5),
        (" 6 / 4 ", 6, 1),
    ],
)
def test_a_signature_says_how_long_bar_and_beat_are(signature: str, length: float, beat: float) -> None:
    assert Metre.fixed(signature).bar_at(0) == BarLine(0, length, beat, 1)


@pytest.mark.parametrize("signature", ["", "x", "4", "4/5", "0/4", "4/0", "33/4", "-3/4", "4/4/4", "3.5/4", "⁴/4"])
def test_what_is_no_metre_is_refused(signature: str) -> None:
    with pytest.raises(ConfigError, match="expected a metre such as 4/4") as refused:
        Metre.fixed(signature)
    assert refused.value.field == "metre"


def test_a_fixed_metre_counts_its_bars_from_where_it_starts() -> None:
    metre = Metre.fixed("3/4", start=1.0)
    assert [metre.bar_at(q)[::3] for q in (-5.1, 0.5, 1, 3.9, 4, 31)] == [(-8, -2), (-2, 0), (1, 1), (1, 1), (4, 2), (31, 11)]


def test_a_pick_up_is_the_end_of_a_bar() -> None:
    assert PICK_UP.bar_at(0.5) == BarLine(-3, 4, 1, 0)
    assert [PICK_UP.next_line(q) for q in (-4, -3, -2.9, 0, 1, 1.1)] == [-7 + 4, -3, 1, 1, 1, 5]


def test_before_and_after_the_score_its_metre_goes_on() -> None:
    assert CHANGING.bar_at(-1) == BarLine(-4, 4, 1, 0)
    assert CHANGING.bar_at(18) == BarLine(17, 3, 1.5, 6)
    assert [CHANGING.next_line(q) for q in (-9, 15, 20.5)] == [-8, 17, 23]


def test_where_the_metre_changes_bars_and_beats_change() -> None:
    assert [CHANGING.bar_at(q) for q in (7, 8)] == [BarLine(4, 4, 1, 2), BarLine(8, 3, 1.5, 3)]
    assert [CHANGING.next_beat(q) for q in (6.5, 7.5, 8.5, 9.6)] == [7, 8, 9.5, 11]


def test_the_second_part_of_a_divided_bar_has_no_line() -> None:
    assert DIVIDED.bar_at(5)[:2] == DIVIDED.bar_at(7)[:2] == (4, 4)
    assert not DIVIDED.is_line(6)
    assert DIVIDED.next_line(4.5) == 8


def test_music_that_enters_between_beats_has_the_beats_of_its_bar() -> None:
    found, quarter = list[float](), 0.0
    while quarter < 6:
        quarter = OFF_BEAT.next_beat(quarter)
        found.append(quarter)
        quarter += 0.01
    assert found == [0, 1, 2.5, 3.5, 4.5, 5.5, 6.5]


def test_a_bar_that_is_cut_short_is_as_long_as_it_is() -> None:
    cut = Metre.of_score(score([(0, 0), (4, 0), (6.5, 0), (10.5, 0)], [(0, 4, 4)]))
    assert cut.bar_at(5).length == 2.5
    assert [cut.next_beat(q) for q in (5.5, 6.1)] == [6, 6.5]


def test_beats_are_divided() -> None:
    assert [CHANGING.next_beat(q, parts=3) for q in (8.1, 8.6, 9.2)] == [8.5, 9, 9.5]
    assert CHANGING.next_beat(0.1, parts=2) == 0.5


def test_the_demonstration_has_the_bars_of_its_score() -> None:
    metre = Metre.of_score(DEMO)
    whole = DEMO.bar_quarter[DEMO.bar_into == 0.0]
    assert [metre.next_line(float(q) - 0.3) for q in whole] == pytest.approx(whole.tolist())
    assert [metre.bar_at(float(q)).number for q in DEMO.bar_quarter] == DEMO.bar_number.tolist()


def test_bars_have_ticks_that_the_network_takes() -> None:
    bar = PICK_UP.bar_at(2.0)
    assert bar.ticks == (24, 96)
    assert bar_place(48, *bar.ticks) == (25, 8)


@given(ANY_METRE, ANY_QUARTER)
def test_every_quarter_lies_in_its_bar(metre: Metre, quarter: float) -> None:
    bar = metre.bar_at(quarter)
    assert bar.start - NEAR <= quarter <= bar.start + bar.length
    assert bar.length > 0


@given(ANY_METRE, ANY_QUARTER)
def test_the_next_line_is_there_and_begins_a_bar(metre: Metre, quarter: float) -> None:
    line = metre.next_line(quarter)
    assert line >= quarter - 2 * NEAR
    assert metre.next_line(line) == pytest.approx(line)
    assert metre.bar_at(line).start == pytest.approx(line)


@given(ANY_METRE, ANY_QUARTER)
def test_no_line_lies_between(metre: Metre, quarter: float) -> None:
    bar = metre.bar_at(quarter)
    following = metre.next_line(quarter + 2 * NEAR)
    assert bar.start + bar.length == pytest.approx(following, abs=4 * NEAR) or bar.start == pytest.approx(quarter, abs=4 * NEAR)


@given(ANY_METRE, ANY_QUARTER, st.integers(1, 4))
def test_beats_follow_each_other_no_further_than_a_beat(metre: Metre, quarter: float, parts: int) -> None:
    beat = metre.next_beat(quarter, parts)
    assert quarter - 2 * NEAR <= beat <= metre.next_line(quarter) + NEAR
    assert beat - quarter <= 2.0 * max(metre.bar_at(quarter).beat, metre.bar_at(beat).beat) / parts
    assert metre.next_beat(beat, parts) == pytest.approx(beat)


@given(ANY_METRE, ANY_QUARTER, st.integers(1, 4))
def test_every_line_is_a_beat(metre: Metre, quarter: float, parts: int) -> None:
    line = metre.next_line(quarter)
    assert metre.next_beat(line, parts) == pytest.approx(line)
