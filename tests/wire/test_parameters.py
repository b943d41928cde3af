"""What was set, what holds, and what waits for its frame."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtserver.config import Config
from rtserver.wire.parameters import Parameters

GAIN, MUTE = "outputs.harmonic.gain_db", "outputs.harmonic.mute"


@pytest.fixture
def parameters(tmp_path: Path) -> Parameters:
    return Parameters(Config(), tmp_path / "parameters.json")


def test_a_restarted_role_is_told_what_holds_at_once_and_what_waits_at_its_frame(parameters: Parameters) -> None:
    for frame, value in ((100, -1.0), (500, -5.0), (200, -2.0)):
        parameters.store(GAIN, value, frame, now=90)
    parameters.store(MUTE, True, 50, now=90)
    assert parameters.set_for("engine", 250) == [(250, GAIN, -2.0), (250, MUTE, True), (500, GAIN, -5.0)]
    assert parameters.set_for("engine", 60) == [(60, MUTE, True), (100, GAIN, -1.0), (200, GAIN, -2.0), (500, GAIN, -5.0)]
    assert parameters.set_for("performer", 250) == []


def test_what_waits_is_not_told_as_holding(parameters: Parameters) -> None:
    parameters.store(GAIN, -5.0, 500, now=0)
    assert parameters.set_for("engine", 499) == [(500, GAIN, -5.0)]


def test_of_several_at_one_frame_the_last_one_holds(parameters: Parameters) -> None:
    parameters.store(GAIN, -5.0, 500, now=0)
    parameters.store(GAIN, -6.0, 500, now=0)
    assert parameters.set_for("engine", 0) == [(500, GAIN, -6.0)]


def test_what_is_past_and_gone_takes_no_room(parameters: Parameters) -> None:
    for frame in range(1000):
        parameters.store(GAIN, -frame / 10, frame, now=frame)
    assert len(parameters._set[GAIN]) == 1


def test_a_value_is_the_last_one_set_whether_or_not_its_frame_has_come(parameters: Parameters) -> None:
    parameters.store(GAIN, -5.0, 500, now=0)
    assert parameters.values()[GAIN] == -5.0
    parameters.store(GAIN, -6.0, 20, now=0)
    assert parameters.values()[GAIN] == -6.0


def test_frames_are_kept_for_the_next_gateway(parameters: Parameters, tmp_path: Path) -> None:
    parameters.store(GAIN, -5.0, 500, now=0)
    parameters.store(GAIN, -6.0, 20, now=0)
    parameters.save()
    again = Parameters(Config(), tmp_path / "parameters.json")
    assert again.set_for("engine", 30) == parameters.set_for("engine", 30)
    assert again.values() == parameters.values()
