"""How a command asks a server."""

from __future__ import annotations

import threading

import pytest
from gateway_process import Gateway, until

from rtserver.errors import ProtocolError, RtserverError
from rtserver.events import Command
from rtserver.wire.client import Client, reachable


@pytest.fixture
def control(shared_gateway: Gateway) -> str:
    return shared_gateway.config.wire.control


def test_a_request_has_its_result(control: str) -> None:
    client = Client(control)
    assert client.ask("ping", sent_ns=7)["sent_ns"] == 7
    client.close()


def test_a_refusal_says_why(control: str) -> None:
    client = Client(control)
    with pytest.raises(ProtocolError, match="unknown parameter 'volume'"):
        client.ask("get", name="volume")
    client.close()


def test_nobody_there_is_said_with_the_endpoint(folder) -> None:
    with pytest.raises(RtserverError, match=f"no server answers at ipc://{folder}/nobody"):
        Client(f"ipc://{folder}/nobody", timeout_s=0.1)


def test_another_server_than_the_one_that_was_meant_is_refused(control: str) -> None:
    with pytest.raises(RtserverError, match="is called 'rtserver', not 'duo'"):
        Client(control, server="duo")


def test_an_answer_that_comes_late_is_not_taken_for_the_next(make) -> None:
    gateway = make().started()
    client = Client(gateway.config.wire.control)
    client.ask("panic")  # nobody takes it here
    client.timeout_s = 0.05
    with pytest.raises(RtserverError):
        client.ask("sync")  # its refusal comes after a second
    client.timeout_s = 5.0
    answered = threading.Event()
    answered.wait(1.2)
    assert client.ask("ping", sent_ns=3)["sent_ns"] == 3
    client.close()


def test_a_panic_reaches_those_who_sound(make) -> None:
    gateway = make().started()
    client = Client(gateway.config.wire.control)
    client.ask("panic")
    (command,) = until(lambda: gateway.session.receive("midi"), "the command")
    assert isinstance(command, Command)
    assert command.name == "panic"
    client.close()


@pytest.mark.parametrize(
    ("endpoint", "reached"),
    [
        ("tcp://0.0.0.0:5581", "tcp://192.168.1.5:5581"),
        ("tcp://127.0.0.1:5581", "tcp://127.0.0.1:5581"),
        ("ipc:///run/events", "ipc:///run/events"),
    ],
)
def test_a_server_that_listens_everywhere_is_reached_where_it_answered(endpoint: str, reached: str) -> None:
    assert reachable(endpoint, "tcp://192.168.1.5:5580") == reached
