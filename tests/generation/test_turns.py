"""Whose turn it is."""

import pytest

from rtserver.generation.listener import Listener
from rtserver.generation.metre import Metre
from rtserver.generation.turns import Turns

FOUR = Metre.fixed("4/4")


@pytest.fixture
def turns() -> Turns:
    return Turns(Listener(), 1.0)


def key(turns: Turns, tick: float, pitch: int, down: bool) -> None:
    turns.listener.advance(tick)
    turns.listener.key(pitch, down)
    turns.phrase.key(round(tick), pitch, down)
    turns.hear(tick)


def at(turns: Turns, tick: float, mode: str = "continue") -> bool:
    turns.listener.advance(tick)
    turns.look(tick, mode, FOUR)
    return turns.ours


def test_nobody_has_a_turn_before_anything_was_said(turns: Turns) -> None:
    assert not at(turns, 1000.0)


def test_it_is_the_performers_turn_a_quarter_after_the_last_key(turns: Turns) -> None:
    key(turns, 0.0, 60, True)
    assert not at(turns, 100.0)
    key(turns, 120.0, 60, False)
    assert [at(turns, tick) for tick in (121.0, 143.0, 144.0)] == [False, False, True]


def test_continuing_has_no_end_until_the_player_comes_in(turns: Turns) -> None:
    key(turns, 0.0, 60, True)
    key(turns, 24.0, 60, False)
    assert at(turns, 48.0)
    assert at(turns, 4800.0)
    key(turns, 4801.0, 64, True)
    assert not at(turns, 4802.0)


@pytest.mark.parametrize(
    ("played", "answer"),
    [
        ((0.0, 72.0), (96.0, 192.0)),  # three quarters: from the next bar to its end
        ((0.0, 180.0), (216.0, 480.0)),  # nearly two bars: from beat 2 of the third, two bars and what is left of the bar
        ((0.0, 2.0), (48.0, 96.0)),  # a word
    ],
)
def test_an_answer_is_as_long_as_the_call_to_the_bar_line(turns: Turns, played: tuple[float, float], answer: tuple[float, float]) -> None:
    key(turns, played[0], 60, True)
    key(turns, played[1], 60, False)
    at(turns, played[1] + 24.0, "call_response")
    assert (turns.start, turns.until) == answer


def test_after_the_answer_it_is_the_players_turn(turns: Turns) -> None:
    key(turns, 0.0, 60, True)
    key(turns, 72.0, 60, False)
    assert at(turns, 96.0, "call_response")
    assert at(turns, 191.0, "call_response")
    assert not at(turns, 192.0, "call_response")
    assert not at(turns, 1000.0, "call_response")


def test_a_sound_is_a_call_as_keys_are(turns: Turns) -> None:
    turns.listener.chroma([1.0] * 12)
    turns.hear(0.0)
    assert not at(turns, 10.0)
    turns.listener.chroma([0.0] * 12, loud=False)
    assert at(turns, 40.0)


def test_without_patience_nobody_waits() -> None:
    turns = Turns(Listener(), 0.0)
    key(turns, 0.0, 60, True)
    assert at(turns, 1.0)


def test_a_jump_of_the_clock_moves_what_was_agreed(turns: Turns) -> None:
    key(turns, 0.0, 60, True)
    key(turns, 72.0, 60, False)
    at(turns, 96.0, "call_response")
    turns.shift(960)
    assert (turns.start, turns.until) == (1056.0, 1152.0)
