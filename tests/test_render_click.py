"""The click from the performer to the device, without one: every click where it is due, and again by the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtserver.audio import table as t
from rtserver.audio.file import read, write
from rtserver.config import parse
from rtserver.demo import RECORDING, SCORE
from rtserver.events import Note
from rtserver.render import Stepper, render

RATE = 48000
CLICK = {"click": {"source": "click", "channels": [1]}}


def play(folder: Path, seconds: float, block_size: int = 256, **raw: Any) -> tuple[Stepper, np.ndarray, list[Any]]:
    """A stepper that has played silence, what came out of its first channel, and its events."""
    audio = {"block_size": block_size}
    stepper = Stepper(parse({"audio": audio, "outputs": CLICK, "generation": {"enabled": False}, "click": {"enabled": True}} | raw), folder)
    out = np.zeros((round(seconds * RATE) // block_size * block_size, stepper.plan.device_out), np.float32)
    for start in range(0, len(out), block_size):
        stepper.exchange(np.zeros((block_size, 1), np.float32), out[start : start + block_size])
        stepper.work()
    stepper_events = list(stepper.events())
    return stepper, out[:, 0], stepper_events


def onsets(y: np.ndarray) -> list[int]:
    """Frames at which a click begins after silence."""
    loud = np.flatnonzero(np.abs(y) > 0)
    return [int(k) for k in loud[np.diff(loud, prepend=-RATE) > 1000]]


@pytest.mark.parametrize("block_size", [64, 480, 1024, 8192])
def test_every_click_of_twenty_seconds_begins_at_its_due_frame(tmp_path: Path, block_size: int) -> None:
    tempo_bpm = 97.3
    stepper, y, events = play(tmp_path, 20.0, block_size, generation={"enabled": False, "tempo_bpm": tempo_bpm})
    due = [e.frame for e in events if isinstance(e, Note) and e.part == "click" and e.frame < len(y)]
    assert onsets(y) == due
    assert len(due) == int((len(y) - 1 - due[0]) / (60 / tempo_bpm * RATE)) + 1
    assert np.abs(np.array(due) - due[0] - np.arange(len(due)) * 60 / tempo_bpm * RATE).max() <= 0.5, "nothing adds up"
    assert int(stepper.session.block["audio.table"][t.LATE_CLICKS]) == 0


def test_a_render_clicks_by_the_score_with_the_player(tmp_path: Path) -> None:
    write(tmp_path / "take.wav", read(RECORDING)[0].mean(axis=0, keepdims=True)[:, : 12 * RATE], RATE)
    config = parse({"outputs": CLICK, "score": {"file": str(SCORE)}, "generation": {"enabled": False}, "click": {"enabled": True}})
    done = render(tmp_path / "take.wav", tmp_path / "out", config)
    assert done.latency == {"click": 0}
    y = read(tmp_path / "out" / "click.wav")[0][0]
    assert len(onsets(y)) > 8


def test_a_count_in_is_heard_although_the_click_is_off(tmp_path: Path) -> None:
    _, y, _ = play(tmp_path, 8.0, generation={"enabled": False, "tempo_bpm": 120.0, "metre": "3/4"}, click={"count_in_bars": 2})
    assert len(onsets(y)) == 6
