"""The doctor sees what is wrong and says what to do."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from rtserver.config import Audio, Config, Generation, Wire
from rtserver.devices import AudioDevice, Devices, Jack, MidiApi
from rtserver.operations import doctor
from rtserver.wire import security

DEVICE = AudioDevice(0, "system", "JACK", 2, 2, 48000.0, (0.0, 0.0))
DEFAULTS = Config()
WELL = Devices("PortAudio V19", True, ("JACK",), (DEVICE,), (MidiApi("Jack"),), Jack("default", True, 48000, 128, True))


def states(found: Devices, config: Config = DEFAULTS) -> dict[str, str]:
    checks = [*doctor.devices(found), *doctor.device(found, config), *doctor.jack(found, config), doctor.midi(found, config)]
    return {check.name: check.state for check in checks}


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
        ({"jack": Jack("default", True, 44100, 128, True)}, "JACK", "fail"),
        ({"audio": (AudioDevice(0, "system", "JACK", 2, 1, 48000.0, (0.0, 0.0)),)}, "audio.device", "fail"),
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


def test_a_device_that_is_not_there_is_found() -> None:
    assert states(WELL, Config(audio=Audio(device="no such")))["audio.device"] == "fail"


def test_jacks_rate_and_period_matter_only_to_those_who_play_through_it() -> None:
    interface = AudioDevice(1, "interface", "ALSA", 2, 2, 48000.0, (0.0, 0.0))
    parts = {field: getattr(WELL, field) for field in WELL.__struct_fields__} | {"jack": Jack("default", True, 44100, 64, True)}
    found = Devices(**(parts | {"audio": (DEVICE, interface)}))
    assert states(found, Config(audio=Audio(device="interface")))["JACK"] == "ok"


def test_the_priority_of_a_running_jackd_is_read(own_jackd) -> None:
    with own_jackd(1024) as (name, server):
        threads = [int(task.name) for task in Path(f"/proc/{server.pid}/task").iterdir()]
        assert doctor.jack_priority(name) == max(os.sched_getparam(thread).sched_priority for thread in threads)


def test_a_jackd_of_another_name_is_not_taken_for_ours(tmp_path: Path) -> None:
    task = tmp_path / "7" / "task" / "7"
    task.mkdir(parents=True)
    (tmp_path / "7" / "comm").write_text("jackd\n")
    (tmp_path / "7" / "cmdline").write_bytes(b"jackd\0-n\0other\0-R\0")
    (task / "stat").write_text("7 (a ) b) S " + " ".join(str(i) for i in range(4, 53)))
    assert doctor.jack_priority("mine", tmp_path) == 0
    assert doctor.jack_priority("other", tmp_path) == 40  # the 40th field


def test_a_very_small_block_is_found() -> None:
    assert doctor.small_block(Config(audio=Audio(block_size=32))).state == "warn"
    assert doctor.small_block(Config()).state == "ok"


def test_a_model_that_is_not_there_is_found() -> None:
    (check,) = doctor.model(Config(generation=Generation(model="performr")))
    assert check.state == "fail"
    assert "did you mean 'performer'?" in check.found


def test_the_model_of_the_zoo_is_well() -> None:
    (check,) = doctor.model(Config())
    assert check.state == "ok"


def test_a_port_that_the_system_chooses_is_free() -> None:
    checks = {c.name: c for c in doctor.ports(Config(wire=Wire(control="tcp://127.0.0.1:*", events="tcp://*:45999")))}
    assert {checks["wire.control"].state, checks["wire.events"].state} == {"ok"}


def test_keys_are_looked_at_where_there_are_some(tmp_path: Path) -> None:
    wire = Wire(server_key=str(tmp_path / "server.key_secret"), allow=str(tmp_path / "allow"))

    def states() -> list[tuple[str, str]]:
        return [(check.name, check.state) for check in doctor.keys(Config(wire=wire))]

    assert states() == [("wire.server_key", "fail")]
    security.new_keys(tmp_path, "server")
    assert states() == [("wire.allow", "fail")]
    (tmp_path / "allow").mkdir()
    assert states() == [("wire.allow", "warn")]
    security.new_keys(tmp_path, "client")
    security.allow(tmp_path / "allow", tmp_path / "client.key")
    assert states() == [("wire.allow", "ok")]
    assert list(doctor.keys(Config())) == []
