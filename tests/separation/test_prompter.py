"""The prompter: what the follower says of the place, as what a network is told hop by hop."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.events import Late, Position
from rtserver.following.states import JUMPED, LOCKED, LOST, UNSURE, WAITING
from rtserver.separation.expected import Expected
from rtserver.separation.model import N_SCORE
from rtserver.separation.prompter import FADE_S, STALE_S, STANDS_S, Prompter

RATE, HOP, BLOCK, EFFECT = 48000, 128, 256, 960
FEATURE_HOP = 480
BPM = 60.0  # a quarter is a second
# A note each quarter: keys 40, 41 and so on, held for half of it.
NOTES = Expected.of(40.0 + np.arange(40), np.arange(40.0), np.arange(40.0) + 0.5)


def prompter(shown: bool = True) -> Prompter:
    return Prompter(NOTES, RATE, HOP, BLOCK, shown)


def position(frame: int, quarter: float | None = None, state: str = LOCKED, confidence: float = 0.9) -> Position:
    at = frame / RATE if quarter is None else quarter
    return Position(frame, frame + EFFECT, at, at, BPM, confidence, state)


def run(told: Prompter, said: dict[int, Position], until: int, begin: int = 0) -> np.ndarray:
    """(hops, 177) of the hops from `begin` on; `said` is heard before the hop that begins at its key."""
    hops = range(begin, until, HOP)
    out = np.full((len(hops), N_SCORE), np.nan, np.float32)
    for k, frame in enumerate(hops):
        for at in [at for at in sorted(said) if at <= frame]:
            told.hear(said.pop(at))
        told.tell(frame, out[k])
    return out


def playing(begin: int, end: int, **facts: object) -> dict[int, Position]:
    """A position every 10 ms, heard at once."""
    return {frame: position(frame, **facts) for frame in range(begin, end, FEATURE_HOP)}  # type: ignore[arg-type]


def test_nothing_is_told_before_the_first_position_holds() -> None:
    out = run(prompter(), {480: position(480)}, 4000)
    first = int(np.flatnonzero(out[:, -1])[0]) * HOP
    assert first == -(-(480 + EFFECT + BLOCK) // HOP) * HOP, "the first hop that begins at its declared frame or later"
    assert not out[: first // HOP].any()


def test_between_positions_it_goes_on_at_their_tempo() -> None:
    told = prompter()
    out = run(told, playing(480, RATE), RATE)
    last = run(told, {}, RATE + 9600, begin=RATE + (-RATE) % HOP)
    k = 60
    expected = np.zeros(N_SCORE, np.float32)
    NOTES.tell((RATE + (-RATE) % HOP + (k + 1) * HOP) / RATE, RATE * 60.0 / BPM, expected)
    np.testing.assert_allclose(last[k], expected, atol=1e-4)
    assert out[-1, -1] == 1.0


def test_it_fades_in() -> None:
    shares = run(prompter(), playing(480, RATE // 2), RATE // 2)[:, -1]
    rising = shares[(shares > 0.0) & (shares < 1.0)]
    assert abs(len(rising) * HOP / RATE - FADE_S) < 2 * HOP / RATE
    assert (np.diff(rising) > 0.0).all() and shares[-1] == 1.0


@pytest.mark.parametrize(
    ("state", "confidence", "kept"),
    [(LOCKED, 0.9, 1), (JUMPED, 0.9, 1), (UNSURE, 0.2, 1), (UNSURE, 0.1, 0), (LOCKED, 0.1, 0), (LOST, 0.9, 0), (WAITING, 0.0, 0)],
)
def test_a_place_that_cannot_be_trusted_is_not_told(state: str, confidence: float, kept: int) -> None:
    told = prompter()
    run(told, playing(480, RATE), RATE)
    out = run(told, playing(RATE, 2 * RATE, state=state, confidence=confidence), 2 * RATE, begin=RATE + (-RATE) % HOP)
    assert out[-1].any() == bool(kept) and out[-1, -1] == kept


def test_a_place_has_to_be_surer_to_be_taken_up_than_to_be_kept() -> None:
    assert not run(prompter(), playing(480, RATE, state=UNSURE, confidence=0.2), RATE).any()


def test_a_follower_that_says_nothing_is_taken_to_be_gone() -> None:
    told = prompter()
    run(told, playing(480, RATE), RATE)
    out = run(told, {}, 2 * RATE, begin=RATE + (-RATE) % HOP)
    gone = int(np.flatnonzero(~out.any(axis=1))[0]) * HOP / RATE
    assert abs(gone - STALE_S - FADE_S) < 0.03


def test_in_a_pause_what_was_to_come_is_told_no_longer_and_comes_back_with_the_player() -> None:
    told = prompter()
    run(told, playing(480, RATE), RATE)
    begin = RATE + (-RATE) % HOP
    out = run(told, playing(RATE, 3 * RATE, quarter=0.99), 3 * RATE, begin)
    gone = int(np.flatnonzero(~out.any(axis=1))[0]) * HOP / RATE
    assert abs(gone - STANDS_S - FADE_S) < 0.03 and not out[-1].any()
    begin = 3 * RATE + (-3 * RATE) % HOP
    assert run(told, playing(3 * RATE, 4 * RATE), 4 * RATE, begin)[-1, -1] == 1.0


def test_switched_off_it_fades_out_and_on_again_in() -> None:
    told = prompter()
    said = playing(480, 3 * RATE)
    run(told, said, RATE)
    told.shown = False
    assert not run(told, said, 2 * RATE, RATE + (-RATE) % HOP)[-1].any()
    told.shown = True
    assert run(told, said, 3 * RATE, 2 * RATE + (-2 * RATE) % HOP)[-1, -1] == 1.0


def test_what_speaks_of_before_a_reset_is_left_out_whenever_it_comes() -> None:
    told = prompter()
    run(told, playing(480, RATE), RATE)
    begin = RATE + (-RATE) % HOP
    told.forget(begin)
    assert not run(told, {frame: position(min(frame, begin)) for frame in range(begin, begin + 9600, 480)}, begin + 9600, begin).any()
    again = begin + 9600
    assert run(told, playing(again + 480, again + RATE), again + RATE, again)[-1, -1] == 1.0


def test_what_speaks_of_after_a_reset_is_kept_though_it_came_before() -> None:
    """Of two inputs that are reset at hops of their own, one may have heard of what lies behind the other's."""
    told = prompter()
    told.hear(position(4800))
    told.hear(position(5280))
    told.forget(5000)
    out = run(told, {}, 9600, begin=5120)
    assert int(np.flatnonzero(out.any(axis=1))[0]) * HOP + 5120 == -(-(5280 + EFFECT + BLOCK) // HOP) * HOP


def test_one_that_comes_late_is_taken_at_the_next_hop_and_noted() -> None:
    told = prompter()
    run(told, {4000: position(480)}, 6400)
    assert told.late == [(480, 480 + EFFECT + BLOCK, 4096)]


@given(delays=st.lists(st.integers(0, 6000), min_size=40, max_size=120), seed=st.integers(0, 99))
def test_whoever_is_late_again_is_told_the_same_bit_for_bit(delays: list[int], seed: int) -> None:
    """What a replay rests on: positions in time, and a list of those that were not."""
    rng, heard_at, said = np.random.default_rng(seed), 0, dict[int, Position]()
    plain = dict[int, Position]()
    for k, delay in enumerate(delays):
        frame = FEATURE_HOP * (k + 1)
        heard_at = max(heard_at + 1, frame + delay)  # they come in order
        place = position(frame, confidence=float(rng.uniform(0.1, 0.6)), state=(LOCKED, UNSURE, LOST)[rng.integers(3)])
        said[heard_at], plain[frame] = place, place
    until = (FEATURE_HOP * len(delays) + 9600) // HOP * HOP
    live, again = prompter(), prompter()
    first = run(live, said, until)
    again.postpone([Late(frame, declared, "engine", "position main", taken) for frame, declared, taken in live.late])
    np.testing.assert_array_equal(run(again, plain, until), first)
    assert live.late == again.late


def test_a_hop_makes_nothing_that_stays() -> None:
    told, out = prompter(), np.zeros(N_SCORE, np.float32)
    said = [position(frame) for frame in range(480, 4 * RATE, FEATURE_HOP)]
    coming = iter(said)

    def hops(begin: int, end: int) -> None:
        for frame in range(begin, end, HOP):
            if frame % FEATURE_HOP < HOP:
                told.hear(next(coming))
            told.tell(frame, out)

    hops(0, RATE)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    hops(RATE + (-RATE) % HOP, 3 * RATE)
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert now - before < 2000 and peak - before < 8000
    assert told.n_prompted > 1000
