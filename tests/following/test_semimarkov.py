"""The default method on keys and on sound: what players do, and what comes in besides music."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.dsp.layout import LEVEL, N_FEATURES
from rtserver.errors import SpecError
from rtserver.events import Event, Position
from rtserver.following.follower import Follower
from rtserver.following.score import Score
from rtserver.following.states import JUMPED, LOCKED, LOST, UNSURE, WAITING
from rtserver.kernels import compilations

from .music import HOP, Struck, on_keys, play, prepared, reached_s, score_of, study

STUDY = study()
FOLLOWER = prepared(STUDY)
OTHER = score_of([(i / 2, 0.5, int(p)) for i, p in enumerate(np.random.default_rng(3).choice([61, 63, 66, 68, 70, 73, 75], 128))])


def late(score: Score, struck: list[Struck], follower: Follower | None = None) -> tuple[np.ndarray, list[Position]]:
    """Seconds by which each of the score's onsets was reached after its first key; and the positions."""
    follower = follower or prepared(score)
    follower.reset()
    positions = play(follower, struck, struck[-1][0] + 1.0)
    onset = np.unique(score.notes.onset_quarter)
    at = np.unique([second for second, _ in struck])
    return np.array([reached_s(positions, q) for q in onset]) - at, positions


def jumps(positions: list[Position], quarters: float = 8.0) -> int:
    """How often the position went on somewhere else, further than it looks around for its own mistakes."""
    return int(np.sum(np.abs(np.diff([p.quarter for p in positions])) > quarters))


@pytest.mark.parametrize("stretch", [0.5, 0.8, 1.0, 1.3, 2.0])
def test_keys_are_followed_in_half_and_double_tempo(stretch: float) -> None:
    error, positions = late(STUDY, on_keys(STUDY, stretch), FOLLOWER)
    assert np.abs(error[8:]).max() < 0.1
    assert np.mean(np.abs(error) < 0.025) > 0.9
    assert positions[round(50 * 32 * stretch)].tempo_bpm == pytest.approx(120 / stretch, rel=0.1)
    assert {p.state for p in positions[300:]} == {LOCKED}


def test_a_tempo_that_changes_is_followed() -> None:
    """It halves over the piece."""
    steady = on_keys(STUDY)
    error, positions = late(STUDY, [(s + s * s / 64, p) for s, p in steady], FOLLOWER)
    assert np.abs(error).max() < 0.2
    assert positions[-150].tempo_bpm == pytest.approx(60, rel=0.15)


def test_a_spread_chord_moves_on_no_further_than_a_struck_one() -> None:
    roots = np.random.default_rng(2).integers(0, 12, 32)
    chords = score_of([(float(i), 1.0, p + int(root)) for i, root in enumerate(roots) for p in (48, 60, 64, 67)])
    struck = on_keys(chords)
    spread = [(s + 0.03 * (n % 4), p) for n, (s, p) in enumerate(struck)]
    follower = prepared(chords)
    plain, broken = play(follower, struck), play(prepared(chords), spread)
    apart = [abs(a.quarter - b.quarter) for a, b in zip(plain, broken, strict=False)]
    assert max(apart) < 0.3
    assert {p.state for p in broken[300:]} == {LOCKED}


@pytest.mark.parametrize("fault", ["wrong", "extra", "missing", "trill"])
def test_a_fault_does_not_move_it(fault: str) -> None:
    clean = on_keys(STUDY)
    faulty = list(clean)
    at = 90  # the index of a note in the middle
    second, pitch = clean[at]
    match fault:
        case "wrong":
            faulty[at] = (second, pitch + 1)
        case "extra":
            faulty.insert(at, (second + 0.1, pitch + 6))
        case "missing":
            del faulty[at]
        case _:
            faulty[at + 1 : at + 1] = [(second + 0.03 * i, pitch + i % 2) for i in range(1, 6)]
    FOLLOWER.reset()
    expected = play(FOLLOWER, clean, 32.0)
    FOLLOWER.reset()
    got = play(FOLLOWER, sorted(faulty), 32.0)
    assert max(abs(a.quarter - b.quarter) for a, b in zip(expected, got, strict=True)) <= 0.75
    assert abs(expected[-1].quarter - got[-1].quarter) < 0.01
    assert jumps(got) == 0


def test_one_wrong_key_in_eight_is_followed() -> None:
    random = np.random.default_rng(1)
    struck = [(s, int(random.integers(36, 85)) if random.random() < 1 / 8 else p) for s, p in on_keys(STUDY)]
    error, positions = late(STUDY, struck, FOLLOWER)
    assert np.mean(np.abs(error) < 0.1) > 0.9
    assert jumps(positions) == 0


def test_in_a_pause_it_waits_before_the_next_note() -> None:
    before, after = on_keys(STUDY, stop=20.0), on_keys(STUDY, start=20.0, begin_s=20.0)
    FOLLOWER.reset()
    positions = play(FOLLOWER, before + after)
    assert all(19.5 <= p.quarter < 20.0 for p in positions[1050:1999])
    assert abs(positions[2300].quarter - 26.0) < 0.3


@pytest.mark.parametrize(("leave", "enter"), [(24.0, 48.0), (48.0, 12.0)])
def test_a_leap_is_found_within_two_seconds_and_told_once(leave: float, enter: float) -> None:
    first = on_keys(STUDY, stop=leave)
    leap_s = leave / 2
    struck = first + on_keys(STUDY, start=enter, stop=enter + 14.0, begin_s=leap_s)
    FOLLOWER.reset()
    positions = play(FOLLOWER, struck)
    assert jumps(positions) == 1
    for n in range(round(100 * leap_s) + 200, len(positions)):  # 2 s
        assert abs(positions[n].quarter - (enter + (n / 100 - leap_s) * 2)) < 0.6
    told = [n for n, p in enumerate(positions) if p.state == JUMPED]
    leapt = 1 + int(np.argmax(np.abs(np.diff([p.quarter for p in positions]))))
    assert told == list(range(told[0], told[-1] + 1))
    assert 50 <= len(told) <= 120, "half a second a leap; before a leap back it may look around nearby"
    assert set(range(leapt, leapt + 50)) <= set(told)


def test_who_is_found_again_after_having_been_lost_has_jumped() -> None:
    """Other music for twenty seconds, then from elsewhere in the score."""
    other = [(second, pitch) for second, pitch in on_keys(OTHER) if second < 20.0]
    struck = on_keys(STUDY, stop=16.0) + [(8.0 + second, pitch) for second, pitch in other] + on_keys(STUDY, start=40.0, begin_s=28.5)
    FOLLOWER.reset()
    states = [p.state for p in play(FOLLOWER, struck)]
    assert LOST in states[800:2800]
    assert JUMPED in states[2850:]
    assert states[-1] == LOCKED


def test_where_the_player_was_put_by_hand_it_waits_and_has_not_jumped() -> None:
    FOLLOWER.reset()
    play(FOLLOWER, on_keys(STUDY, stop=16.0))
    FOLLOWER.seek(40.0)
    assert JUMPED not in {p.state for p in play(FOLLOWER, on_keys(STUDY, start=40.0))}


def test_a_tap_far_away_is_a_leap() -> None:
    FOLLOWER.reset()
    play(FOLLOWER, on_keys(STUDY, stop=16.0))
    FOLLOWER.anchor(40.0)
    assert play(FOLLOWER, [], 0.1)[-1].state == JUMPED


def test_a_seek_goes_on_from_there_at_the_next_key() -> None:
    FOLLOWER.reset()
    play(FOLLOWER, on_keys(STUDY, stop=16.0))
    FOLLOWER.seek(40.0)
    waiting = play(FOLLOWER, [], 1.0)
    assert {p.state for p in waiting} == {WAITING}
    assert all(39.9 < p.quarter < 40.0 for p in waiting)
    positions = play(FOLLOWER, on_keys(STUDY, start=40.0))
    assert abs(positions[400].quarter - 48.0) < 0.3


def test_reset_is_as_fresh() -> None:
    FOLLOWER.reset()
    play(FOLLOWER, on_keys(STUDY, stop=20.0))
    FOLLOWER.reset()
    struck = on_keys(STUDY, stop=16.0)
    assert play(FOLLOWER, struck) == play(prepared(STUDY), struck)


def test_after_a_gap_it_is_unsure_until_keys_have_fitted() -> None:
    FOLLOWER.reset()
    before = play(FOLLOWER, on_keys(STUDY, stop=20.0))[-1]
    FOLLOWER.gap()
    after = play(FOLLOWER, on_keys(STUDY, start=22.0))  # a second never came
    assert (before.state, after[0].state) == (LOCKED, UNSURE)
    assert after[0].confidence < Follower.LOCK
    assert after[500].state == LOCKED
    assert abs(after[500].quarter - 32.0) < 0.3


def test_another_piece_is_lost() -> None:
    FOLLOWER.reset()
    assert play(FOLLOWER, on_keys(OTHER))[-1].state == LOST


def test_nothing_compiles_after_prepare() -> None:
    follower = prepared(STUDY)
    before = compilations()
    play(follower, on_keys(STUDY, stop=16.0))
    follower.gap()
    follower.seek(32.0)
    listen(follower, np.abs(np.random.default_rng(0).standard_normal((200, N_FEATURES))))
    assert compilations() == before


def test_the_end_is_an_end() -> None:
    FOLLOWER.reset()
    positions = play(FOLLOWER, on_keys(STUDY), 60.0)
    assert positions[-1].quarter <= STUDY.length_quarter
    assert jumps(positions) == 0
    assert positions[-1].quarter == positions[4000].quarter


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400).map(lambda n: n / 100), st.integers(0, 127)), max_size=80))
def test_whatever_is_struck_the_report_is_within_bounds(struck: list[Struck]) -> None:
    FOLLOWER.reset()
    for p in play(FOLLOWER, sorted(struck), 5.0):
        assert -0.02 < p.quarter <= STUDY.length_quarter
        assert 0.0 <= p.confidence <= 1.0
        assert 120 * np.exp(-1.81) <= p.tempo_bpm <= 120 * np.exp(1.81)


def listen(follower: Follower, x: np.ndarray) -> list[Position]:
    events: list[Event] = []
    after: list[Position] = []
    for n, row in enumerate(np.ascontiguousarray(x, np.float32)):
        follower.process(row, (n + 1) * HOP, events.append)
        after += [event for event in events[-1:] if isinstance(event, Position)]
    return after


def test_silence_is_waited_through() -> None:
    x = np.zeros((500, N_FEATURES))
    x[:, LEVEL] = -120.0
    FOLLOWER.reset()
    assert {p.state for p in listen(FOLLOWER, x)} <= {WAITING}


def test_noise_is_never_locked_on_and_is_lost() -> None:
    x = np.abs(np.random.default_rng(0).standard_normal((3000, N_FEATURES))) * 0.3
    x[:, LEVEL] = -20.0
    FOLLOWER.reset()
    states = [p.state for p in listen(FOLLOWER, x)]
    assert LOCKED not in states[300:]
    assert states[-1] == LOST


def test_dixon_does_not_hear_keys() -> None:
    with pytest.raises(SpecError, match="sound"):
        prepared(STUDY, "dixon").process_keys((60,), HOP, lambda _: None)


def test_a_score_of_one_note_is_followed() -> None:
    follower = prepared(score_of([(0.0, 4.0, 60)]))
    positions = play(follower, [(0.5, 60)], 6.0)
    assert positions[20].state == WAITING
    assert all(0.0 <= p.quarter <= 4.0 for p in positions[51:])
    assert positions[-1].state == LOCKED


def test_a_score_of_a_hundred_thousand_notes_is_followed_within_bounds() -> None:
    score = study(33_400)
    assert len(score.notes) > 100_000
    tracemalloc.start()
    follower = prepared(score)
    follower.seek(20_000.0)
    positions = play(follower, on_keys(score, start=20_000.0, stop=20_016.0))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert abs(positions[700].quarter - 20_014.0) < 0.3
    assert positions[700].state == LOCKED
    assert most < 500e6


def test_a_leap_is_likelier_to_bars_and_signs() -> None:
    from rtserver.demo import SCORE
    from rtserver.following.score import load_score
    from rtserver.following.semimarkov import AT_BAR, AT_SIGN, goals

    score = load_score(SCORE)
    quarter = score.events().quarter
    likely = goals(score, quarter)
    assert set(likely.tolist()) == {1.0, AT_BAR, AT_SIGN}
    assert all(likely[np.searchsorted(quarter, q - 1e-6)] == AT_SIGN for q in score.segments[:, 2])
    inside = ~np.isin(np.round(quarter, 6), np.round([*score.bar_quarter, *score.mark_quarter, *score.segments[:, 2]], 6))
    assert (likely[inside] == 1.0).all()
