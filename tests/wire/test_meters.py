"""Meters as clients are told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gateway_process import until

from rtserver.audio import table as t
from rtserver.config import Config, Input, Output
from rtserver.shared.memory import Layout
from rtserver.shared.session import Session, Setup
from rtserver.wire.meters import FLOOR_DB, MeterTap, decibels, names

CONFIG = Config(
    inputs={"violin": Input(channels=[2])},
    outputs={"left": Output(source="dry", channels=[1]), "both": Output(source="harmonic", channels=[1, 3])},
)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    layout = Layout()
    t.declare(layout)
    Session.declare(layout, n_in=2, n_out=3, n_features=208)
    return Session.create(layout, Setup(CONFIG, str(tmp_path)))


def measure(session: Session, meter: int, *values: float) -> None:
    """A whole window, as the mixer leaves it."""
    session.block["audio.meters"][meter] = values
    session.block["audio.table"][t.METER_FRAME] += 2400
    session.block["audio.table"][t.METER_SEQUENCE] += 2


def test_channels_are_named_by_what_is_on_them() -> None:
    assert names(CONFIG) == ({2: "violin"}, {1: "left+both", 3: "both"})


def test_levels_are_in_decibels_of_full_scale(session: Session) -> None:
    tap = MeterTap(session)
    measure(session, 1, 0.5, 0.01, 0)  # device input 2
    measure(session, t.MAX_CHANNELS + 2, 1.0, 0.25, 7)  # device output 3
    meters = tap.read()
    assert meters is not None
    assert meters.frame == 4800
    (violin,) = meters.inputs
    assert (violin.name, violin.channel, violin.clipped) == ("violin", 2, 0)
    assert (violin.peak_db, violin.rms_db) == (pytest.approx(-6.02, abs=0.01), pytest.approx(-20.0))
    left, both = meters.outputs
    assert (left.channel, left.peak_db) == (1, FLOOR_DB)
    assert (both.channel, both.peak_db, both.clipped) == (3, 0.0, 7)


def test_a_window_is_told_once(session: Session) -> None:
    tap = MeterTap(session)
    measure(session, 0, 0.5, 0.25, 0)
    assert tap.read() is not None
    assert tap.read() is None
    measure(session, 0, 0.5, 0.25, 0)
    assert tap.read() is not None


def test_a_window_that_is_being_written_is_left_for_later(session: Session) -> None:
    tap = MeterTap(session)
    session.block["audio.table"][t.METER_SEQUENCE] += 1
    assert tap.read() is None


def test_silence_has_a_floor() -> None:
    assert decibels(0.0) == decibels(1e-12) == FLOOR_DB


def test_the_mixer_has_no_meters_without_its_table(make: Any) -> None:
    """A gateway whose session has no audio goes on; whoever subscribes gets nothing."""
    gateway = make().started()
    subscriber = gateway.subscribe("meters", "heartbeat")
    until(lambda: subscriber.next("heartbeat"), "a heartbeat")
    assert "meters" not in gateway.result("snapshot")["sequences"]
