"""Devices are asked for in a process that is thrown away."""

from __future__ import annotations

import sys

import pytest

from rtserver import devices
from rtserver.devices import AudioDevice, Devices, Jack
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


def test_asking_leaves_the_jack_server_well(jack_server: str) -> None:
    """A client that vanishes without a word makes JACK ill."""
    for _ in range(3):
        assert devices.find().jack.running


def test_a_missing_jack_server_is_said_and_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "rtserver-no-such-server")
    found = devices.find()
    assert not found.jack.running
    assert "does not answer" in devices.describe(found)


def test_a_process_that_hangs_is_given_up() -> None:
    with pytest.raises(DeviceError, match="took more than"):
        devices.find(timeout_s=0.001)


DUPLEX = AudioDevice(3, "Stage Interface", "ALSA", 2, 2, 48000.0, (0.0, 0.0))
MICROPHONE = AudioDevice(1, "Stage Microphone", "ALSA", 1, 0, 48000.0, (0.0, 0.0))


def with_devices(*audio: AudioDevice, error: str = "") -> Devices:
    return Devices("V19", True, ("ALSA",), audio, (), Jack("default", False), error)


@pytest.mark.parametrize("device", ["", "interface", 3])
def test_a_device_is_found_by_part_of_its_name_or_by_index(device: str | int) -> None:
    devices.require(with_devices(MICROPHONE, DUPLEX), device, "duo")


@pytest.mark.parametrize(
    ("found", "device", "words"),
    [
        (with_devices(), "", "no audio device with inputs and outputs"),
        (with_devices(MICROPHONE), "", "no audio device with inputs and outputs"),
        (with_devices(MICROPHONE, DUPLEX), "microphone", "no device 'microphone' with inputs and outputs; there are 3 'Stage Interface'"),
        (with_devices(MICROPHONE, DUPLEX), 1, "no device 1 with inputs and outputs"),
        (with_devices(error="no libportaudio"), "", "install libportaudio2"),
    ],
)
def test_a_device_that_cannot_be_used_is_said(found: Devices, device: str | int, words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        devices.require(found, device, "duo")


def test_a_client_called_like_its_server_is_refused() -> None:
    """It would take the server's socket away."""
    found = Devices("V19", True, ("JACK",), (DUPLEX,), (), Jack("duo", True, 48000, 128, True))
    with pytest.raises(DeviceError, match=r"set audio\.client_name to another name"):
        devices.require(found, "", "duo")
