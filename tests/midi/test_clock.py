"""Our reading of MIDI clock, on ticks made with the errors that real ones have."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.midi.clock import SILENT_S, ClockIn, Fix

TICK, START, CONTINUE, STOP = b"\xf8", b"\xfa", b"\xfb", b"\xfc"


def spp(sixteenth: int) -> bytes:
    return bytes((0xF2, sixteenth & 0x7F, sixteenth >> 7))


class Master:
    """Sends ticks to a `ClockIn`: `tempo_bpm` may be changed between ticks, times are late by up to `jitter_s`, to either side."""

    def __init__(self, tempo_bpm: float, jitter_s: float = 0.0, seed: int = 0, ppm: float = 0.0) -> None:
        self.clock = ClockIn()
        self.tempo_bpm, self.jitter_s, self.ppm = tempo_bpm, jitter_s, ppm
        self.now_s = 100.0
        self.n = 0
        self._random = random.Random(seed)
        self.fixes: list[Fix] = []

    def start(self) -> None:
        self.clock.take(START, self.now_s)

    def tick(self, dropped: bool = False) -> None:
        if not dropped:
            fix = self.clock.take(TICK, self.now_s + self._random.uniform(-self.jitter_s, self.jitter_s))
            if fix is not None:
                self.fixes.append(fix)
        self.now_s += 60 / (24 * self.tempo_bpm) * (1 + self.ppm * 1e-6)
        self.n += 1

    def ticks(self, n: int) -> None:
        for _ in range(n):
            self.tick()

    @property
    def quarter(self) -> float:
        """Where the last tick was."""
        return (self.n - 1) / 24


tempos = st.floats(40, 240)
seeds = st.integers(0, 1 << 30)


@given(tempos, seeds, st.floats(-300, 300))
@settings(deadline=None)
def test_tempo_and_position_are_found_through_jitter_and_drift(tempo_bpm, seed, ppm):
    master = Master(tempo_bpm, 0.002, seed, ppm)
    master.start()
    master.ticks(24 * 20)
    fix = master.fixes[-1]
    assert fix.quarter == pytest.approx(master.quarter), "no tick was taken for lost"
    assert master.clock.lost == 0
    true_bpm = tempo_bpm / (1 + ppm * 1e-6)
    assert fix.tempo_bpm == pytest.approx(true_bpm, rel=3e-3)
    tempo = sum(f.tempo_bpm for f in master.fixes[-240:]) / 240
    assert tempo == pytest.approx(true_bpm, rel=1e-3)
    last_tick_s = master.now_s - 60 / (24 * true_bpm)
    assert abs(fix.at_s - last_tick_s) < 0.0015, "smoother than the jitter"


@given(tempos, seeds, st.lists(st.integers(96, 460), min_size=1, max_size=5, unique=True))
@settings(deadline=None)
def test_a_tick_lost_on_the_way_is_made_up_for(tempo_bpm, seed, lost):
    lost = [n for n in lost if not set(range(n - 12, n)) & set(lost)]
    master = Master(tempo_bpm, 0.0005, seed)
    master.start()
    for n in range(480):
        master.tick(dropped=n in lost)
    assert master.clock.lost == len(lost)
    assert master.fixes[-1].quarter == pytest.approx(master.quarter)


@given(tempos, tempos, seeds)
@settings(deadline=None)
def test_another_tempo_is_followed_and_costs_no_tick(before_bpm, after_bpm, seed):
    master = Master(before_bpm, 0.0005, seed)
    master.start()
    master.ticks(200)
    master.tempo_bpm = after_bpm
    master.ticks(240)
    fix = master.fixes[-1]
    assert fix.tempo_bpm == pytest.approx(after_bpm, rel=5e-3)
    assert fix.quarter == pytest.approx(master.quarter)
    assert master.clock.lost == 0


@given(st.floats(60, 160), seeds)
@settings(deadline=None)
def test_ticks_that_a_driver_bunches_by_periods_of_21_ms_are_all_counted(tempo_bpm, seed):
    period_s = 1024 / 48000
    clock, now_s, fix = ClockIn(grain_s=period_s), 7.0 + random.Random(seed).random(), None
    clock.take(START, now_s)
    for _ in range(24 * 16):
        fix = clock.take(TICK, (now_s // period_s + 1) * period_s) or fix
        now_s += 60 / (24 * tempo_bpm)
    assert fix is not None
    assert (clock.lost, fix.quarter) == (0, pytest.approx(24 * 16 / 24 - 1 / 24))
    assert fix.tempo_bpm == pytest.approx(tempo_bpm, rel=0.02)


def test_start_is_told_with_the_tick_after_it():
    master = Master(120)
    master.ticks(48)
    assert master.fixes == [], "it does not run"
    assert master.clock.tempo_bpm == pytest.approx(120)
    master.start()
    master.tick()
    (fix,) = master.fixes
    assert (fix.quarter, fix.running) == (0.0, True)
    assert fix.at_s == pytest.approx(master.now_s - 60 / (24 * 120), abs=1e-6)


def test_position_and_continue_land_on_the_beat():
    master = Master(120)
    master.ticks(24)
    fix = master.clock.take(spp(300), master.now_s)
    assert fix is not None and (fix.quarter, fix.running) == (75.0, False)
    assert master.clock.take(CONTINUE, master.now_s) is None
    master.ticks(25)
    assert [f.quarter for f in master.fixes][::24] == pytest.approx([75.0, 76.0])


def test_stop_holds_the_position_and_continue_goes_on_from_it():
    master = Master(120)
    master.start()
    master.ticks(24)
    fix = master.clock.take(STOP, master.now_s)
    assert fix is not None and (fix.quarter, fix.running) == (1.0, False)
    master.ticks(30)
    assert master.fixes[-1].quarter == pytest.approx(23 / 24), "it stands still"
    master.clock.take(CONTINUE, master.now_s)
    master.tick()
    assert master.fixes[-1].quarter == 1.0


def test_a_clock_that_goes_silent_is_told_once_and_may_come_back():
    master = Master(120)
    master.start()
    master.ticks(49)
    clock = master.clock
    assert clock.silent(master.now_s) is None
    fix = clock.silent(master.now_s + SILENT_S + 0.1)
    assert fix is not None and (fix.quarter, fix.running) == (2.0, False)
    assert clock.silent(master.now_s + 5.0) is None, "told once"
    master.now_s += 5.0
    master.ticks(30)
    assert master.fixes[-1].running
    assert master.fixes[-1].tempo_bpm == pytest.approx(120, rel=1e-3)


@given(st.lists(st.tuples(st.sampled_from([TICK, START, CONTINUE, STOP, spp(0), spp(16383), b"\xf2\x01"]), st.floats(0, 2)), max_size=200))
def test_whatever_comes_the_numbers_stay_within_reason(messages):
    clock, now_s = ClockIn(), 0.0
    for message, after_s in messages:
        now_s += after_s
        fix = clock.take(message, now_s) or clock.silent(now_s)
        if fix is not None:
            assert fix.quarter >= 0
            assert fix.tempo_bpm == 0 or 19.9 < fix.tempo_bpm < 400.1
