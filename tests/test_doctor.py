"""The doctor sees what is wrong and says what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from rtserver import doctor
from rtserver.config import Config, Wire
from rtserver.devices import AudioDevice, Devices, Jack, MidiApi

DEVICE = AudioDevice(0, "system", "JACK", 2, 2, 48000.0, (0.0, 0.0))
WELL = Devices("PortAudio V19", True, ("JACK",), (DEVICE,), (MidiApi("Jack"),), Jack("default", True, 48000, 128, True))


def states(found: Devices) -> dict[str, str]:
    return {check.name: check.state for check in doctor.devices(found, 128)}


def test_a_healthy_machine_has_nothing_to_mend() -> None:
    assert set(states(WELL).values()) == {"ok"}


@pytest.mark.parametrize(
    ("ill", "name", "state"),
    [
        ({"portaudio": "", "error": "no libportaudio"}, "PortAudio", "fail"),
        ({"native_callback": False}, "native callback", "fail"),
        ({"audio": ()}, "audio devices", "fail"),
        ({"audio": (AudioDevice(0, "mic", "ALSA", 1, 0, 48000.0, (0.0, 0.0)),)}, "audio devices", "fail"),
        ({"jack": Jack("default", False, error="no such server is running")}, "JACK", "warn"),
        ({"jack": Jack("default", True, 48000, 128, False)}, "JACK", "warn"),
        ({"jack": Jack("default", True, 48000, 256, True)}, "JACK", "warn"),
        ({"midi": (MidiApi("ALSA", error="no sequencer"),)}, "MIDI", "warn"),
        ({"midi": ()}, "MIDI", "warn"),
    ],
)
def test_each_illness_is_found(ill: dict[str, object], name: str, state: str) -> None:
    parts = {field: getattr(WELL, field) for field in WELL.__struct_fields__} | ill
    assert states(Devices(**parts))[name] == state


def test_whatever_is_wrong_has_a_remedy() -> None:
    for check in doctor.examine(Config()):
        assert (check.state == "ok") == (not check.remedy), check


@pytest.mark.parametrize(("block_size", "state"), [(64, "ok"), (128, "ok"), (1024, "ok"), (480, "ok"), (441, "warn"), (100, "warn")])
def test_blocks_that_hops_cannot_be_cut_from_are_found(block_size: int, state: str) -> None:
    assert doctor.block_and_hop(block_size, 256).state == state


def test_a_taken_port_is_found() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        checks = {c.name: c for c in doctor.ports(Config(wire=Wire(control=f"tcp://127.0.0.1:{port}")))}
    assert checks["wire.control"].state == "fail"
    assert str(port) in checks["wire.control"].found


def test_a_full_disk_is_found(tmp_path: Path) -> None:
    assert doctor.disk(tmp_path / "not" / "yet" / "there", lambda _: 10 << 20).state == "warn"
    assert doctor.disk(tmp_path, lambda _: 10 << 30).state == "ok"


def test_asking_for_priority_leaves_the_process_as_it_was() -> None:
    import os

    if not hasattr(os, "sched_getscheduler"):
        pytest.skip("this system has no SCHED_FIFO")
    before = os.sched_getscheduler(0)
    doctor.realtime_priority()
    assert os.sched_getscheduler(0) == before
