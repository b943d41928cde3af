"""The session's clock against simulated hardware: the dummy driver of a test machine cannot drift."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.clock import DelayLockedLoop, SampleClock

RATE, BLOCK = 48000, 128


def run(ppm: float, jitter_s: float, duration_s: float, seed: int = 1, bandwidth_hz: float = 0.5) -> tuple[DelayLockedLoop, float]:
    """A loop fed by a device that is `ppm` off, through callbacks up to `jitter_s` late; and the device's true frame rate."""
    generator = random.Random(seed)
    true_rate = RATE * (1.0 + ppm * 1e-6)
    loop = DelayLockedLoop(RATE, bandwidth_hz)
    for frame in range(0, int(duration_s * RATE), BLOCK):
        loop.update(frame, 100.0 + frame / true_rate + generator.random() * jitter_s)
    return loop, true_rate


@pytest.mark.parametrize("ppm", [-300.0, -20.0, 0.0, 20.0, 300.0])
def test_it_finds_the_rate_of_a_device_that_is_off(ppm: float) -> None:
    loop, true_rate = run(ppm, 0.0, 20.0)
    assert loop.rate / true_rate == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("ppm", [-300.0, 300.0])
def test_it_finds_the_rate_through_jitter(ppm: float) -> None:
    """1 ms of jitter a block is 375 times the drift a block: only the loop's patience tells the two apart."""
    loop, true_rate = run(ppm, 0.001, 60.0, bandwidth_hz=0.1)
    assert loop.rate / true_rate == pytest.approx(1.0, abs=30e-6)


def test_it_smooths_jitter_to_a_fraction() -> None:
    """Callbacks up to 1 ms late are 0.29 ms rms about their mean; the line moves by less than a fifth of that."""
    loop, true_rate = run(0.0, 0.001, 20.0)
    errors: list[float] = []
    generator = random.Random(2)
    for frame in range(20 * RATE, 30 * RATE, BLOCK):
        loop.update(frame, 100.0 + frame / true_rate + generator.random() * 0.001)
        errors.append(loop.time_at(frame) - (100.0 + frame / true_rate + 0.0005))
    rms = (sum(e * e for e in errors) / len(errors)) ** 0.5
    assert rms < 0.29e-3 / 5


@given(st.floats(-300.0, 300.0), st.floats(0.0, 0.002), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_time_and_frame_are_each_others_inverse(ppm: float, jitter_s: float, seed: int) -> None:
    loop, _ = run(ppm, jitter_s, 2.0, seed)
    assert loop.frame_at(loop.time_at(123456.0)) == pytest.approx(123456.0, abs=1e-3)


def test_a_pause_starts_the_line_anew() -> None:
    loop, _ = run(0.0, 0.0, 5.0)
    loop.update(5 * RATE, 200.0)
    assert loop.time_at(5 * RATE) == 200.0
    assert loop.rate == RATE


def test_a_pair_that_comes_twice_changes_nothing() -> None:
    loop, _ = run(100.0, 0.0, 5.0)
    before = (loop.frame, loop.time_s, loop.rate)
    loop.update(int(loop.frame), loop.time_s)
    assert (loop.frame, loop.time_s, loop.rate) == before


def test_a_reset_loop_is_as_new() -> None:
    loop, _ = run(300.0, 0.001, 2.0)
    loop.reset()
    assert vars(loop) == vars(DelayLockedLoop(RATE))


def test_freewheeling_time_is_frames() -> None:
    clock = SampleClock(RATE)
    clock.advance(RATE)
    assert clock.now_s() == 1.0
    assert clock.time_at(clock.frame_at(0.25)) == 0.25
