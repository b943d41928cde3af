"""One channel sounds at a time, quietly."""

from __future__ import annotations

import numpy as np

from rtserver.config import Config, Output
from rtserver.operations.tone import LEVEL_DB, channels, step_size, tones

RATE = 48000


def test_every_channel_in_use_is_named_with_its_outputs() -> None:
    outputs = {"a": Output(source="dry", channels=[3, 1]), "b": Output(source="harmonic", channels=[3])}
    assert channels([Config(outputs=outputs)]) == {1: ["a"], 3: ["a", "b"]}


def test_channels_of_every_song_are_in_use() -> None:
    first, second = {"a": Output(source="dry", channels=[2])}, {"a": Output(source="dry", channels=[2, 1])}
    assert channels([Config(outputs=first), Config(outputs=second)]) == {1: ["a"], 2: ["a"]}


def test_one_channel_sounds_at_a_time_in_the_order_of_channels() -> None:
    signal, step = tones([1, 4], RATE), step_size(RATE)
    assert signal.shape == (4, 2 * step)
    sounding = [[c for c in range(4) if np.any(signal[c, i * step : (i + 1) * step])] for i in range(2)]
    assert sounding == [[0], [3]]


def test_a_tone_is_as_loud_as_said_and_begins_without_a_click() -> None:
    (tone,) = tones([1], RATE)
    assert np.isclose(np.abs(tone).max(), 10 ** (LEVEL_DB / 20), rtol=1e-2)
    assert np.abs(np.diff(tone)).max() < 0.1 * 2 * np.pi * 440 / RATE * 1.1
