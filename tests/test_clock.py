"""The session's clock against simulated hardware: the dummy driver of a test machine cannot drift."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.clock import MOST_OFF, DelayLockedLoop, SampleClock

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


class Device:
    """A device that is `ppm` off, seen through late callbacks: jitter of a shape, now and then 5 ms more, some callbacks lost."""

    def __init__(self, *, seed: int, ppm: float, jitter_s: float, shape: str, outliers: float, lost: float, block_size: int) -> None:
        self.dice = random.Random(seed)
        self.rate = RATE * (1.0 + ppm * 1e-6)
        self.jitter_s, self.shape, self.outliers, self.lost, self.block_size = jitter_s, shape, outliers, lost, block_size
        self.start_s, self.first, self.frame = 100.0, 0, 0

    def restart(self, after_s: float, ahead: int) -> None:
        """The stream stands still and starts anew `ahead` frames on."""
        self.start_s += (self.frame - self.first) / self.rate + after_s
        self.first = self.frame = self.frame + ahead

    def true_time(self, frame: float) -> float:
        return self.start_s + (frame - self.first) / self.rate

    def play(self, loop: DelayLockedLoop, seconds: float) -> Iterator[tuple[float, float]]:
        """Feed the loop; after every pair, how long it has been fed, and how far its line lies from the true one."""
        begun = self.frame
        while self.frame < begun + seconds * RATE:
            self.frame += self.block_size
            if self.dice.random() < self.lost:
                continue
            late_s = abs(self.dice.gauss(0.0, 0.5 * self.jitter_s)) if self.shape == "gauss" else self.dice.random() * self.jitter_s
            if self.dice.random() < self.outliers:
                late_s += 0.005 * self.dice.random()
            loop.update(self.frame, self.true_time(self.frame) + late_s)
            yield (self.frame - begun) / RATE, abs(loop.time_at(self.frame) - self.true_time(self.frame))


devices = st.builds(
    Device,
    seed=st.integers(0, 1 << 30),
    ppm=st.floats(-300.0, 300.0),
    jitter_s=st.floats(0.0, 0.002),
    shape=st.sampled_from(["gauss", "uniform"]),
    outliers=st.sampled_from([0.0, 0.01, 0.05]),
    lost=st.sampled_from([0.0, 0.02, 0.2]),
    block_size=st.sampled_from([64, 128, 480, 1024]),
)


@given(devices)
@settings(max_examples=40, deadline=None)
def test_the_stated_error_holds_and_the_line_settles(device: Device) -> None:
    loop = DelayLockedLoop(RATE)
    for at_s, error_s in device.play(loop, 25.0):
        assert error_s <= loop.error_s
        if at_s > 1.0:
            assert error_s < 0.0025
        if at_s > 10.0:
            assert abs(loop.rate / device.rate - 1.0) < 2e-4


@pytest.mark.parametrize("ppm", [-300.0, 300.0])
def test_without_jitter_the_rate_is_known_in_ten_seconds_and_the_error_is_small(ppm: float) -> None:
    loop = DelayLockedLoop(RATE)
    device = Device(seed=0, ppm=ppm, jitter_s=0.0, shape="uniform", outliers=0.0, lost=0.0, block_size=BLOCK)
    for at_s, error_s in device.play(loop, 15.0):
        assert error_s < 100e-6
        if at_s > 10.0:
            assert abs(loop.rate / device.rate - 1.0) < 1e-6
    assert loop.error_s < 50e-6


@given(devices, st.floats(0.05, 30.0), st.integers(0, 100_000))
@settings(max_examples=25, deadline=None)
def test_a_stream_that_starts_anew_is_followed_at_once_at_the_rate_that_is_known(device: Device, after_s: float, ahead: int) -> None:
    loop = DelayLockedLoop(RATE)
    for _ in device.play(loop, 12.0):
        pass
    rate = loop.rate
    device.restart(after_s, ahead)
    loop.restart()
    for k, (at_s, error_s) in enumerate(device.play(loop, 12.0)):
        assert k > 0 or loop.rate == rate
        assert error_s <= loop.error_s
        assert at_s < 1.0 or error_s < 0.0025


@pytest.mark.parametrize("step_s", [-0.02, 0.02])
@pytest.mark.parametrize("block_size", [128, 1024])
def test_frames_that_a_device_swallowed_are_noticed_and_believed(block_size: int, step_s: float) -> None:
    """20 ms that nobody reports, below what counts as a restart."""
    loop = DelayLockedLoop(RATE)
    device = Device(seed=3, ppm=100.0, jitter_s=0.0005, shape="gauss", outliers=0.0, lost=0.0, block_size=block_size)
    for _ in device.play(loop, 15.0):
        pass
    device.start_s += step_s
    for at_s, error_s in device.play(loop, 10.0):
        if at_s > 0.5:
            assert error_s <= min(loop.error_s, 0.001)


@given(st.floats(-300.0, 300.0), st.floats(0.0, 0.002), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_time_and_frame_are_each_others_inverse(ppm: float, jitter_s: float, seed: int) -> None:
    loop, _ = run(ppm, jitter_s, 2.0, seed)
    assert loop.frame_at(loop.time_at(123456.0)) == pytest.approx(123456.0, abs=1e-3)


def test_a_pause_starts_the_line_anew_at_the_rate_that_is_known() -> None:
    loop, true_rate = run(300.0, 0.0, 20.0)
    loop.update(20 * RATE, 200.0)
    assert loop.time_at(20 * RATE) == 200.0
    assert loop.rate == pytest.approx(true_rate, rel=1e-6)


class Hogged(Device):
    """A device of a machine that stands still now and then. Its callbacks are made up for in a burst, or their frames are lost."""

    def stand_still(self, loop: DelayLockedLoop, stalls: list[tuple[float, float, bool]]) -> Iterator[tuple[float, float]]:
        """Feed the loop through stalls of (seconds until it, seconds of it, whether its frames are lost); yields as `play` does."""
        begun = self.frame
        free_s = self.true_time(self.frame)  # the machine runs from here on
        for until_s, stall_s, lost in stalls:
            begin_s = free_s + until_s
            while True:
                self.frame += self.block_size
                stamp_s = max(self.true_time(self.frame), free_s)
                if stamp_s >= begin_s:
                    break
                loop.update(self.frame, stamp_s + self.dice.random() * self.jitter_s)
                yield (self.frame - begun) / RATE, abs(loop.time_at(self.frame) - self.true_time(self.frame))
            free_s = begin_s + stall_s
            if lost:  # this callback is the first after it
                self.start_s += free_s - self.true_time(self.frame)
            loop.update(self.frame, free_s + self.dice.random() * self.jitter_s)
            yield (self.frame - begun) / RATE, abs(loop.time_at(self.frame) - self.true_time(self.frame))
        while self.true_time(self.frame) < free_s:  # what is still to be made up for
            self.frame += self.block_size
            loop.update(self.frame, free_s + self.dice.random() * self.jitter_s)
            yield (self.frame - begun) / RATE, abs(loop.time_at(self.frame) - self.true_time(self.frame))


def hogged(seed: int, ppm: float, jitter_s: float, block_size: int) -> Hogged:
    return Hogged(seed=seed, ppm=ppm, jitter_s=jitter_s, shape="uniform", outliers=0.0, lost=0.0, block_size=block_size)


@given(
    st.builds(hogged, st.integers(0, 1 << 30), st.floats(-300.0, 300.0), st.floats(0.0, 0.002), st.sampled_from([128, 480, 1024])),
    st.lists(st.tuples(st.floats(0.0, 0.3), st.floats(0.005, 0.8), st.booleans()), min_size=1, max_size=12),
)
@settings(max_examples=40, deadline=None)
def test_a_machine_that_stands_still_is_not_taken_for_a_device_that_drifts(device: Hogged, stalls: list[tuple[float, float, bool]]) -> None:
    loop = DelayLockedLoop(RATE)
    for _ in device.play(loop, 12.0):
        pass
    for _ in device.stand_still(loop, stalls):
        assert abs(loop.rate / RATE - 1.0) <= MOST_OFF + 1e-12
    for at_s, error_s in device.play(loop, 12.0):
        assert abs(loop.rate / RATE - 1.0) <= MOST_OFF + 1e-12
        assert error_s <= loop.error_s
        if at_s > 2.0:
            assert error_s < 0.0025
        if at_s > 10.0:
            assert abs(loop.rate / device.rate - 1.0) < 2e-4


@pytest.mark.parametrize("lost", [False, True])
def test_the_stated_error_holds_while_it_is_not_known_whether_frames_were_lost_or_are_late(lost: bool) -> None:
    loop = DelayLockedLoop(RATE)
    device = hogged(5, 300.0, 0.0005, 1024)
    for _ in device.play(loop, 12.0):
        pass
    for _, error_s in device.stand_still(loop, [(0.1, 0.8, lost)]):
        assert error_s <= loop.error_s
    for _, error_s in device.play(loop, 3.0):
        assert error_s <= loop.error_s


@pytest.mark.parametrize("lost", [False, True])
def test_processors_hogged_for_a_while_do_not_change_the_rate(lost: bool) -> None:
    """0.8 s in which a callback comes through every 90 ms, below what counts as a jump; then the rest at once, unless it is lost."""
    loop = DelayLockedLoop(RATE)
    device = hogged(4, 300.0, 0.0005, 1024)
    for _ in device.play(loop, 20.0):
        pass
    for _ in device.stand_still(loop, [(0.01, 0.08, lost)] * 9):
        assert abs(loop.rate / RATE - 1.0) <= MOST_OFF + 1e-12
    for at_s, error_s in device.play(loop, 10.0):
        assert abs(loop.rate / RATE - 1.0) <= MOST_OFF + 1e-12
        assert at_s < 1.5 or error_s < 0.001
        assert at_s < 9.9 or abs(loop.rate / device.rate - 1.0) < 2e-4


def test_a_pair_that_comes_twice_changes_nothing() -> None:
    loop, _ = run(100.0, 0.0, 5.0)
    before = (loop.frame, loop.time_s, loop.rate)
    loop.update(int(loop.frame), loop.time_s)
    assert (loop.frame, loop.time_s, loop.rate) == before


def test_a_reset_loop_is_as_new() -> None:
    loop, _ = run(300.0, 0.001, 2.0)
    loop.reset()
    assert vars(loop) == vars(DelayLockedLoop(RATE, loop.bandwidth_hz))


def test_freewheeling_time_is_frames() -> None:
    clock = SampleClock(RATE)
    clock.advance(RATE)
    assert clock.now_s() == 1.0
    assert clock.time_at(clock.frame_at(0.25)) == 0.25
