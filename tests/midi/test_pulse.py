from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.midi.clock import ClockIn
from rtserver.midi.pulse import ClockOut

TICK, START, CONTINUE, STOP = b"\xf8", b"\xfa", b"\xfb", b"\xfc"
S = 1_000_000_000


def spp(sixteenth: int) -> bytes:
    return bytes((0xF2, sixteenth & 0x7F, sixteenth >> 7))


def run(clock: ClockOut, from_ns: int, until_ns: int, late_ns: int = 0) -> list[tuple[int, bytes]]:
    """Send what is due, each `late_ns` after its deadline."""
    sent: list[tuple[int, bytes]] = []
    now_ns = from_ns
    while (due_ns := clock.next_due_ns) is not None and max(now_ns, due_ns + late_ns) < until_ns:
        now_ns = max(now_ns, due_ns + late_ns)
        sent += [(now_ns, message) for message in clock.due(now_ns)]
    return sent


def test_from_the_beginning_it_starts():
    clock = ClockOut()
    clock.take(10 * S, 0.0, 120.0, True, 10 * S)
    sent = run(clock, 10 * S, 11 * S)
    assert [m for _, m in sent] == [START] + [TICK] * 48
    assert [t for t, m in sent if m == TICK] == pytest.approx([10 * S + round(i * S / 48) for i in range(48)], abs=2)


def test_before_the_beginning_the_first_tick_waits_for_it():
    clock = ClockOut()
    clock.take(10 * S, -2.0, 120.0, True, 10 * S)
    assert run(clock, 10 * S, 12 * S)[:2] == [(10 * S, START), (11 * S, TICK)]


def test_elsewhere_it_continues_from_the_next_sixteenth():
    clock = ClockOut()
    clock.take(10 * S, 8.1, 60.0, True, 10 * S)
    sent = run(clock, 10 * S, 11 * S)
    assert sent[:2] == [(10 * S, spp(33)), (10 * S, CONTINUE)]
    assert sent[2] == (10 * S + round(0.15 * S), TICK)


def test_stop_is_told_once():
    clock = ClockOut()
    clock.take(0, 0.0, 120.0, True, 0)
    run(clock, 0, S)
    clock.take(S, 2.0, 120.0, False, S)
    assert clock.due(S) == [STOP]
    assert clock.next_due_ns is None
    clock.take(2 * S, 2.0, 120.0, False, 2 * S)
    assert clock.next_due_ns is None


def test_a_jump_is_told_as_stop_position_and_continue():
    clock = ClockOut()
    clock.take(0, 0.0, 120.0, True, 0)
    run(clock, 0, S)
    clock.take(S, 64.0, 120.0, True, S)
    assert [m for _, m in run(clock, S, S + 1)] == [STOP, spp(256), CONTINUE, TICK]


def test_a_stall_is_made_up_for_without_a_burst():
    clock = ClockOut()
    clock.take(0, 0.0, 120.0, True, 0)
    run(clock, 0, S)
    sent = run(clock, S + S // 5, 2 * S)
    gaps = [b - a for (a, _), (b, _) in itertools.pairwise(sent)]
    assert min(gaps) >= S // 96 - 2
    assert clock.ticks == 96


@given(st.lists(st.tuples(st.integers(1, 500), st.floats(-0.2, 0.2), st.floats(40, 240)), max_size=40), st.integers(0, 5_000_000))
def test_however_the_line_bends_another_clock_counts_the_same_quarters(fixes, late_ns):
    """Each fix: after so many ms, off the old line by so many quarters, with a new tempo."""
    clock, other, now_ns, at_ns, quarter, tempo = ClockOut(), ClockIn(), 0, 0, 0.0, 120.0
    clock.take(0, 0.0, tempo, True, 0)
    sent: list[tuple[int, bytes]] = []
    for after_ms, off, new_tempo in fixes:
        sent += run(clock, now_ns, now_ns + after_ms * 1_000_000, late_ns)
        now_ns += after_ms * 1_000_000
        quarter += (now_ns - at_ns) * 1e-9 * tempo / 60 + off
        at_ns, tempo = now_ns, new_tempo
        clock.take(at_ns, quarter, tempo, True, now_ns)
    sent += run(clock, now_ns, now_ns + 20 * S, late_ns)
    for sent_ns, message in sent:
        other.take(message, sent_ns * 1e-9)
    ticks = [t for t, m in sent if m == TICK]
    assert all(b > a for a, b in itertools.pairwise(ticks))
    end = quarter + 20 * tempo / 60
    assert abs(clock._next / 24 - end) < 0.5, "it has caught up with the line"
    assert other.running


def test_our_own_ticks_are_read_back_within_a_thousandth():
    clock, other = ClockOut(), ClockIn()
    clock.take(0, 0.0, 97.0, True, 0)
    fix = None
    for sent_ns, message in run(clock, 0, 20 * S):
        fix = other.take(message, sent_ns * 1e-9) or fix
    assert fix is not None
    assert fix.tempo_bpm == pytest.approx(97.0, rel=1e-4)
    assert fix.quarter == pytest.approx((clock.ticks - 1) / 24)
    assert other.lost == 0
