"""A server is found by its name, and only while it is there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from gateway_process import Gateway, until
from hypothesis import given
from hypothesis import strategies as st

from rtserver.errors import RtserverError
from rtserver.wire import discovery
from rtserver.wire.discovery import Notice

Make = Callable[..., Gateway]


def notice(name: str = "duo", pid: int = 0) -> Notice:
    return Notice(name, [1], "0.1.0", pid or os.getpid(), "00ff" * 4, 7, {"control": "tcp://127.0.0.1:5580"})


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "rtserver"


def test_a_running_gateway_is_found_by_its_name(make: Make) -> None:
    gateway = make(name="duo").started()
    found = discovery.read("duo")
    assert found.boot_id == gateway.result("hello")["boot_id"]
    assert found.endpoints == gateway.result("hello")["endpoints"]
    assert found.pid == os.getpid()  # the test is its supervisor


def test_an_ended_gateway_is_not(make: Make, here: Path) -> None:
    gateway = make(name="duo").started()
    gateway.stop()
    assert list(here.iterdir()) == []


def test_a_killed_gateway_says_anew_that_it_is_there(make: Make) -> None:
    gateway = make(name="duo").started()
    first = discovery.read("duo")
    gateway.kill()
    gateway.start()
    gateway.started()
    until(lambda: discovery.read("duo").epoch > first.epoch, "the new epoch")


def test_a_folder_that_cannot_be_written_keeps_nobody_from_playing(make: Make, here: Path) -> None:
    here.write_text("in the way")
    gateway = make(name="duo").started()
    assert gateway.result("ping")
    assert "clients cannot find this server by its name" in gateway.stop()


def test_the_file_is_its_users_alone(here: Path) -> None:
    path = discovery.write(notice())
    assert path == here / "duo.json"
    assert (path.stat().st_mode & 0o777, here.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_notice_of_a_process_that_is_gone_is_stale() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    discovery.write(notice(pid=gone.pid))
    with pytest.raises(RtserverError, match="ended without a word"):
        discovery.read("duo")


def test_another_servers_notice_is_left_alone() -> None:
    mine, other = notice(), msgspec.structs.replace(notice(), boot_id="11" * 8)
    discovery.write(other)
    discovery.remove(mine)
    assert discovery.read("duo") == other


def test_a_folder_that_others_may_write_is_not_trusted(here: Path) -> None:
    here.mkdir()
    here.chmod(0o777)
    with pytest.raises(PermissionError, match="not this user's alone"):
        discovery.write(notice())
    with pytest.raises(RtserverError, match="not this user's alone"):
        discovery.read("duo")


def test_without_a_runtime_folder_there_is_one_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert discovery.folder().name == f"rtserver-{os.getuid()}"


@given(st.text(min_size=1, max_size=64))
def test_any_name_is_a_file_in_the_folder(name: str) -> None:
    try:
        path = discovery.path_of(name)
    except UnicodeEncodeError:
        return  # half a surrogate pair is no name that a configuration file can hold
    assert path.parent == discovery.folder()
    assert path.suffix == ".json"


@given(st.binary(max_size=200) | st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8)).map(msgspec.json.encode))
def test_any_bytes_are_a_notice_or_a_named_mistake(data: bytes) -> None:
    try:
        assert isinstance(discovery.decode(data), Notice)
    except RtserverError as error:
        assert "not a notice" in str(error)
