"""A quiet tone on every output channel in turn: who hears it knows which cable is which."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rtserver.config import Config
from rtserver.errors import DeviceError
from rtserver.node import Array
from rtserver.operations.report import Check
from rtserver.operations.through import through

LEVEL_DB, FREQUENCY = -20.0, 440.0  # dBFS peak, Hz
TONE_S, PAUSE_S, FADE_S = 0.3, 0.1, 0.01


def channels(songs: list[Config]) -> dict[int, list[str]]:
    """Device channels that any of `songs` uses, from 1, each with the outputs that play on it."""
    used: dict[int, dict[str, None]] = {}
    for config in songs:
        for name, output in config.outputs.items():
            for channel in output.channels:
                used.setdefault(channel, {})[name] = None
    return {channel: list(names) for channel, names in sorted(used.items())}


def step_size(sample_rate: int) -> int:
    """Frames from one channel's tone to the next."""
    return round((TONE_S + PAUSE_S) * sample_rate)


def tones(used: list[int], sample_rate: int) -> Array:
    """The tone on each channel of `used` in turn, (max(used), n_frames) float32."""
    n = round(TONE_S * sample_rate)
    fade = np.minimum(1.0, np.minimum(np.arange(n), np.arange(n)[::-1]) / (FADE_S * sample_rate))
    tone = 10.0 ** (LEVEL_DB / 20.0) * fade * np.sin(2.0 * np.pi * FREQUENCY * np.arange(n) / sample_rate)
    step = step_size(sample_rate)
    signal = np.zeros((max(used), len(used) * step), np.float32)
    for i, channel in enumerate(used):
        signal[channel - 1, i * step : i * step + n] = tone
    return signal


def play_tones(songs: list[Config], say: Callable[[str], object]) -> list[Check]:
    """Play them on the device of the show whose songs these are, naming each through `say`; whether the device took every frame."""
    audio, used = songs[0].audio, channels(songs)
    step, numbers = step_size(audio.sample_rate), list(used)
    said = -1

    def name(position: int) -> None:
        nonlocal said
        for i in range(said + 1, min(position // step, len(numbers) - 1) + 1):
            say(f"tone on channel {numbers[i]}: {', '.join(used[numbers[i]])}")
            said = i

    name(0)
    signal = tones(numbers, audio.sample_rate)
    n_inputs = max(c for config in songs for source in config.inputs.values() for c in source.channels)
    expected = "every frame taken, no xrun"
    try:
        take = through(signal, n_inputs, audio, audio.client_name or songs[0].name, on_position=name)
    except DeviceError as error:
        return [Check("tone", "fail", str(error), "see the message, and `rtserver doctor`", expected)]
    found = f"{signal.shape[1]} frames taken by the device, {take.faults} xruns"
    remedy = "" if not take.faults else f"a larger audio.block_size (it is {audio.block_size})"
    where = ", ".join(f"channel {channel} ({', '.join(names)})" for channel, names in used.items())
    return [Check(f"tone on {where}", "warn" if take.faults else "ok", found, remedy, expected)]
