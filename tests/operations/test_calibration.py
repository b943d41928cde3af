"""Bursts are found where they are, and not where they are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.operations.calibration import CONFIDENT, N_BURSTS, bursts, gap_size, round_trip

RATE = 8000  # short transforms: what is tested does not depend on it
LEVEL_DB = -20.0
PLAYED = bursts(RATE, LEVEL_DB)


def delayed(frames: int, gain: float = 1.0) -> np.ndarray:
    return gain * np.concatenate([np.zeros(frames, np.float32), PLAYED])[: len(PLAYED)]


@settings(max_examples=20, deadline=None)
@given(frames=st.integers(0, gap_size(RATE)), gain=st.sampled_from([1.0, -1.0, 0.01, 4.0]))
def test_a_delay_is_found_to_the_frame_whatever_gain_and_polarity(frames: int, gain: float) -> None:
    found = round_trip(delayed(frames, gain), RATE, LEVEL_DB)
    assert found.bursts == (frames,) * N_BURSTS
    assert (found.frames, found.seconds) == (frames, frames / RATE)
    assert found.level_db == pytest.approx(20 * np.log10(abs(gain)), abs=0.1)
    assert found.confidence > 0.9
    assert found.remedy == ""


def test_a_delay_between_two_frames_is_found_to_a_quarter_of_one() -> None:
    between = 0.5 * (delayed(100) + delayed(101))
    assert round_trip(between, RATE, LEVEL_DB).fine == pytest.approx(100.5, abs=0.25)


def test_noise_ten_decibels_louder_than_the_burst_does_not_hide_it() -> None:
    noise = np.random.default_rng(99).standard_normal(len(PLAYED)).astype(np.float32) * 0.316
    found = round_trip(delayed(321) + noise, RATE, LEVEL_DB)
    assert found.frames == 321
    assert found.confidence > CONFIDENT


def test_silence_is_no_cable() -> None:
    found = round_trip(np.zeros(len(PLAYED), np.float32), RATE, LEVEL_DB)
    assert found.confidence == 0.0
    assert "is the cable" in found.remedy


def test_noise_alone_is_not_taken_for_a_round_trip() -> None:
    noise = np.random.default_rng(5).standard_normal(len(PLAYED)).astype(np.float32) * 0.1
    found = round_trip(noise, RATE, LEVEL_DB)
    assert found.confidence < CONFIDENT
    assert found.remedy


def test_an_overdriven_input_is_named_where_nothing_is_found() -> None:
    noise = np.sign(np.random.default_rng(5).standard_normal(len(PLAYED))).astype(np.float32)
    assert "clips" in round_trip(noise, RATE, LEVEL_DB).remedy


def test_dropouts_between_the_bursts_are_named() -> None:
    third = len(PLAYED) // 3
    torn = np.concatenate([delayed(50)[:third], delayed(90)[third : 2 * third], delayed(400)[2 * third :]])
    found = round_trip(torn, RATE, LEVEL_DB)
    assert found.bursts == (50, 90, 400)
    assert found.confidence == 0.0
    assert "do not agree" in found.remedy


def test_an_echo_as_loud_as_the_direct_way_leaves_no_confidence() -> None:
    assert round_trip(delayed(50) + delayed(900), RATE, LEVEL_DB).confidence < CONFIDENT
