"""Keys that come back are not played by anybody; where none come back, every key is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rtserver.following.echoes import Echoes

EARLY, LATE = 240, 2400


def test_a_key_that_comes_back_is_our_own_once() -> None:
    echoes = Echoes(EARLY, LATE)
    echoes.note(60, {"": 48000})
    assert echoes.is_own(60, 48300)
    assert not echoes.is_own(60, 48310), "the second one was struck"


def test_another_pitch_or_another_time_is_the_players() -> None:
    echoes = Echoes(EARLY, LATE)
    echoes.note(60, {"": 48000})
    assert not echoes.is_own(61, 48300)
    assert not echoes.is_own(60, 48000 - EARLY - 1)
    assert not echoes.is_own(60, 48000 + LATE + 1)
    assert echoes.is_own(60, 48000 + LATE)


def test_each_port_may_come_back() -> None:
    echoes = Echoes(EARLY, LATE)
    echoes.note(60, {"piano": 48000, "organ": 48000})
    assert [echoes.is_own(60, 48200) for _ in range(3)] == [True, True, False]


def test_where_nothing_comes_back_a_player_in_unison_is_heard() -> None:
    echoes = Echoes(EARLY, LATE)
    for k in range(5):
        echoes.note(60, {"": 48000 * k})
        echoes.advance(48000 * k + LATE + 1)
    echoes.note(60, {"": 48000 * 9})
    assert not echoes.is_own(60, 48000 * 9)


def test_a_loop_is_found_again() -> None:
    echoes = Echoes(EARLY, LATE)
    for k in range(20):
        echoes.note(60, {"": 48000 * k})
        echoes.advance(48000 * k + LATE + 1)
    found = []
    for k in range(20, 30):
        echoes.note(60, {"": 48000 * k})
        found.append(echoes.is_own(60, 48000 * k + 100))
    assert not found[0]
    assert all(found[5:])


@given(st.lists(st.tuples(st.integers(0, 127), st.integers(0, 10**6), st.booleans()), max_size=60))
def test_no_more_keys_are_ours_than_notes_were_sent(events: list[tuple[int, int, bool]]) -> None:
    echoes = Echoes(EARLY, LATE)
    sent = ours = 0
    for pitch, frame, ours_is_sent in sorted(events, key=lambda event: event[1]):
        echoes.advance(frame - LATE)
        if ours_is_sent:
            echoes.note(pitch, {"": frame})
            sent += 1
        else:
            ours += echoes.is_own(pitch, frame)
    assert ours <= sent
