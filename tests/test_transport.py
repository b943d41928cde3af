"""The musical clock."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.events import Position
from rtserver.transport import LEAP, MOST, Transport

tempi = st.floats(20.0, 400.0)
quarters = st.floats(0.0, 4000.0)
frames = st.integers(0, 10**9)


def test_it_stands_still_until_it_is_started() -> None:
    transport = Transport(48000)
    assert transport.quarter_at(96000) == 0.0


def test_a_quarter_at_120_is_half_a_second() -> None:
    transport = Transport(48000, 120.0)
    transport.start(1000)
    assert transport.quarter_at(1000 + 24000) == 1.0
    assert transport.frame_of(1.0) == 25000


@given(frames, quarters, tempi, st.floats(0.0, 100.0))
def test_frame_and_quarter_are_each_others_inverse(frame: int, quarter: float, tempo_bpm: float, ahead: float) -> None:
    transport = Transport(48000)
    transport.update(frame, quarter, tempo_bpm)
    within_a_frame = 1.0 / transport.frames_per_quarter
    assert transport.quarter_at(transport.frame_of(quarter + ahead)) == pytest.approx(quarter + ahead, abs=within_a_frame + 1e-9)


def test_a_stop_keeps_the_position_reached() -> None:
    transport = Transport(48000)
    transport.update(0, 8.0, 120.0)
    transport.stop(48000)
    assert transport.quarter_at(10**6) == 10.0


@given(tempi, st.floats(-0.49, 0.49))
def test_a_small_correction_is_no_new_epoch(tempo_bpm: float, correction: float) -> None:
    transport = Transport(48000, tempo_bpm)
    transport.start(0)
    epoch = transport.epoch
    transport.update(48000, transport.quarter_at(48000) + correction, tempo_bpm)
    assert transport.epoch == epoch


@given(tempi, st.sampled_from([-1.0, 1.0]), st.floats(0.51, 100.0))
def test_a_jump_is_a_new_epoch(tempo_bpm: float, sign: float, jump: float) -> None:
    transport = Transport(48000, tempo_bpm)
    transport.start(0)
    epoch = transport.epoch
    transport.update(48000, transport.quarter_at(48000) + sign * jump, tempo_bpm)
    assert transport.epoch == epoch + 1


# -- what a follower says -----------------------------------------------------------------------------------------------------------------

RATE, HOP = 48000, 480
LATE = 2 * HOP  # a position takes effect so long after its frame


def position(frame: int, quarter: float, tempo_bpm: float = 120.0, confidence: float = 0.8) -> Position:
    return Position(frame, frame + LATE, quarter, quarter, tempo_bpm, confidence, "LOCKED")


def followed(places: list[tuple[float, float, float]]) -> tuple[Transport, list[float], list[int]]:
    """The clock after (quarter, tempo, confidence) hop by hop, with where it was and its epoch at each."""
    transport = Transport(RATE)
    quarters, epochs = [], []
    for n, place in enumerate(places):
        now = n * HOP + LATE
        transport.follow(now, position(n * HOP, *place))
        quarters.append(transport.quarter_at(now))
        epochs.append(transport.epoch)
    return transport, quarters, epochs


trembling = st.lists(st.tuples(st.floats(-0.9, 0.9), st.floats(5.0, 900.0), st.floats(0.0, 1.0)), min_size=2, max_size=120)


@given(trembling)
def test_between_leaps_it_never_goes_back_nor_faster_than_it_may(places: list[tuple[float, float, float]]) -> None:
    transport = Transport(RATE)
    before = -1.0
    for n, (off, tempo_bpm, confidence) in enumerate(places):
        now = n * HOP + LATE
        was, epoch = transport.quarter_at(now), transport.epoch
        transport.follow(now, position(n * HOP, 0.02 * n + off, tempo_bpm, confidence))
        if transport.epoch == epoch:
            assert transport.quarter_at(now) == pytest.approx(was, abs=1e-9), "it goes on from where it is"
            assert was >= before - 1e-12
            assert 0.0 < transport.line_bpm <= transport.tempo_bpm * (1.0 + MOST) + 1e-9
        before = transport.quarter_at(now)


@given(trembling)
def test_the_same_positions_make_the_same_clock(places: list[tuple[float, float, float]]) -> None:
    assert followed(places)[1:] == followed(places)[1:]


@given(st.floats(40.0, 240.0))
def test_it_takes_over_a_steady_tempo(tempo_bpm: float) -> None:
    a_hop = tempo_bpm / 60.0 * HOP / RATE
    transport, quarters, epochs = followed([(n * a_hop, tempo_bpm, 0.9) for n in range(500)])
    assert transport.line_bpm == pytest.approx(tempo_bpm, rel=0.01)
    assert quarters[-1] == pytest.approx((499 + LATE / HOP) * a_hop, abs=0.02 * tempo_bpm / 60.0)
    assert epochs[-1] == 1


def test_a_tempo_that_trembles_does_not_make_it_tremble() -> None:
    """10 % up and down every second note, and a position that is 20 ms off."""
    places = [(0.02 * n + 0.04 * ((n // 25) % 2), 120.0 * (1.1 if (n // 25) % 2 else 0.9), 0.8) for n in range(800)]
    _, quarters, _ = followed(places)
    paces = [(b - a) / 0.02 for a, b in itertools.pairwise(quarters[300:])]
    assert min(paces) > 0.85
    assert max(paces) < 1.15


def test_it_waits_for_a_player_who_pauses_and_goes_on_with_him() -> None:
    """The follower stands before the next onset for a second."""
    places = [(0.02 * min(n, 200) + 0.02 * max(n - 300, 0), 120.0, 0.8) for n in range(500)]
    _, quarters, epochs = followed(places)
    assert max(quarters[:300]) - 4.0 < 0.25 / 0.5 + 0.01, "no more than a quarter of a second ahead"
    assert abs(quarters[499] - (0.02 * 401 + 0.02 * 0)) < 0.2
    assert epochs[-1] == 1


@given(st.sampled_from([-1.0, 1.0]), st.floats(1.05, 50.0))
def test_it_leaps_with_a_player_who_is_elsewhere(sign: float, far: float) -> None:
    transport, _, epochs = followed([(100.0 + 0.02 * n, 120.0, 0.9) for n in range(100)])
    now, there = 100 * HOP + LATE, 102.0 + sign * far
    transport.follow(now, position(100 * HOP, there))
    assert transport.epoch == epochs[-1] + 1
    assert transport.quarter_at(100 * HOP) == pytest.approx(there)


def test_it_leaps_however_little_where_it_is_told_of_a_leap() -> None:
    transport, _, epochs = followed([(0.02 * n, 120.0, 0.9) for n in range(100)])
    there = 2.0 + 0.5 * LEAP
    transport.follow(100 * HOP + LATE, position(100 * HOP, there), leapt=True)
    assert transport.epoch == epochs[-1] + 1
    assert transport.quarter_at(100 * HOP) == pytest.approx(there)


def test_after_a_stop_it_begins_where_the_player_is() -> None:
    transport, _, epochs = followed([(0.02 * n, 120.0, 0.9) for n in range(100)])
    transport.stop(100 * HOP)
    transport.follow(300 * HOP, position(298 * HOP, 2.3))
    assert transport.epoch == epochs[-1] + 1
    assert transport.quarter_at(298 * HOP) == pytest.approx(2.3)
