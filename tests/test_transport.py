"""The musical clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.transport import Transport

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
