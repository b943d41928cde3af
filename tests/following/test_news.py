"""Bars, tempi and states are told when they are new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rtserver.events import Bar, Event, Position, State, Tempo
from rtserver.following.news import News
from rtserver.following.score import Score, load_score

from .conftest import attributes, note

FOUR = note(60, 1) + note(62, 1) + note(64, 1) + note(65, 1)


@pytest.fixture
def four_bars(write: Callable[..., Path]) -> Score:
    return load_score(write(attributes(1) + FOUR, FOUR, FOUR, FOUR))


def told(score: Score, quarters: list[float], tempo_bpm: float = 120.0, state: str = "LOCKED") -> list[Event]:
    news = News(score)
    return [e for n, q in enumerate(quarters) for e in news.take(Position(480 * n, 480 * n + 960, q, q, tempo_bpm, 1.0, state))]


def bars(events: list[Event]) -> list[tuple[str, float]]:
    return [(e.bar, e.beat) for e in events if isinstance(e, Bar)]


def test_every_bar_is_told_once_as_it_begins(four_bars: Score) -> None:
    events = told(four_bars, list(np.arange(0.0, 16.0, 0.02)))
    assert [bar for bar, _ in bars(events)] == ["1", "2", "3", "4"]
    for e in events:
        if isinstance(e, Bar):
            assert e.quarter == pytest.approx(4.0 * (int(e.bar) - 1), abs=0.02)
            assert e.available_frame == e.frame + 960


def test_a_position_that_trembles_at_a_bar_line_tells_the_bar_once(four_bars: Score) -> None:
    assert bars(told(four_bars, [3.9, 4.0, 3.95, 4.05, 3.8, 4.1])) == [("1", pytest.approx(4.9)), ("2", 1.0)]


def test_a_leap_tells_where_in_the_bar_it_has_led(four_bars: Score) -> None:
    assert bars(told(four_bars, [0.0, 14.0, 5.0])) == [("1", 1.0), ("4", 3.0), ("2", 2.0)]


def test_before_the_first_sound_only_the_state_is_told(four_bars: Score) -> None:
    assert told(four_bars, [0.0, 0.0], state="WAITING") == [State(0, 960, "WAITING")]


def test_only_a_notable_change_of_tempo_is_told(four_bars: Score) -> None:
    news, events = News(four_bars), list[Event]()
    for n, tempo_bpm in enumerate([100.0, 103.0, 104.9, 106.0, 108.0, 100.0]):
        events += news.take(Position(n, n, 0.0, 0.0, tempo_bpm, 1.0, "LOCKED"))
    assert [e.tempo_bpm for e in events if isinstance(e, Tempo)] == [100.0, 106.0, 100.0]


def test_a_state_is_told_when_it_changes(four_bars: Score) -> None:
    news, events = News(four_bars), list[Event]()
    for n, state in enumerate(["WAITING", "UNSURE", "UNSURE", "LOCKED", "LOST"]):
        events += news.take(Position(n, n, 0.0, 0.0, 100.0, 1.0, state))
    assert [e.state for e in events if isinstance(e, State)] == ["WAITING", "UNSURE", "LOCKED", "LOST"]
