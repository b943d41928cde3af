"""Devices are asked for in a process that is thrown away."""

from __future__ import annotations

import sys

import pytest

from rtserver import devices
from rtserver.errors import DeviceError


def test_asking_loads_no_audio_library_here() -> None:
    loaded = "sounddevice" in sys.modules
    devices.find()
    assert ("sounddevice" in sys.modules) == loaded


def test_a_running_jack_server_is_found(jack_server: str) -> None:
    found = devices.find()
    assert (found.jack.server, found.jack.running, found.jack.sample_rate) == (jack_server, True, 48000)
    assert any("JACK" in device.host and device.n_inputs and device.n_outputs for device in found.audio)
    assert any(not api.error for api in found.midi)


def test_a_missing_jack_server_is_said_and_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "rtserver-no-such-server")
    found = devices.find()
    assert not found.jack.running
    assert "does not answer" in devices.describe(found)


def test_a_process_that_hangs_is_given_up() -> None:
    with pytest.raises(DeviceError, match="took more than"):
        devices.find(timeout_s=0.001)
