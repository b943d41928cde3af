"""The reference subscriber as its users start it: a process that knows nothing of rtserver but the protocol."""

from __future__ import annotations

import ast
import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_process import PATIENCE_S, Gateway, position

from rtserver.events import Note, NoteOn

LISTEN = Path(__file__).parent.parent.parent / "clients" / "listen.py"


class Listener:
    """The process and its lines."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, str(LISTEN), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.put(line)

    def line(self) -> str:
        return self.lines.get(timeout=PATIENCE_S)

    def next(self, topic: str) -> dict[str, Any]:
        """The next JSON line of `topic`; others are skipped."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            message = json.loads(self.line())
            if message["topic"] == topic:
                return message
        raise AssertionError(f"no line on {topic}")


@pytest.fixture
def listen(gateway: Gateway) -> Iterator[Callable[..., Listener]]:
    """Starts listeners to `gateway`."""
    listeners: list[Listener] = []

    def start(*arguments: str) -> Listener:
        listeners.append(Listener("--control", gateway.config.wire.control, *arguments))
        return listeners[-1]

    yield start
    for listener in listeners:
        listener.process.kill()
        listener.process.wait()


def test_it_prints_events_as_json(gateway: Gateway, listen: Callable[..., Listener]) -> None:
    listener = listen("--json", "--topics", "position")
    assert listener.next("snapshot")["payload"]["sequences"].get("position", 0) == 0
    for frame in range(3):
        gateway.say("follower", position(frame))
    messages = [listener.next("position") for _ in range(3)]
    assert [message["payload"]["frame"] for message in messages] == [0, 1, 2]
    assert [message["header"][3] for message in messages] == [1, 2, 3]
    assert all(abs(message["age_s"]) < PATIENCE_S for message in messages)  # below 0 by what the clock's offset may be off


def test_it_prints_events_for_people(gateway: Gateway, listen: Callable[..., Listener]) -> None:
    listener = listen("--topics", "note_on", "--count", "2")
    assert "snapshot" in listener.line()
    gateway.say("midi", NoteOn(480, 480, 1, 60, 72, 0, 1, 2))
    line = listener.line()
    assert line.split()[:2] == ["480", "note_on"]
    assert "pitch=60" in line
    assert listener.process.wait(PATIENCE_S) == 0


def test_it_prints_raw_midi(gateway: Gateway, listen: Callable[..., Listener]) -> None:
    gateway.session.clock.publish(0.0, time.monotonic(), 48000, 0.0)
    people, programs = listen("--topics", "midi.performer"), listen("--json", "--topics", "midi.performer")
    assert "snapshot" in people.line()
    programs.next("snapshot")
    gateway.say("performer", Note(48000, 0, 7, 60, 72, 24000, 2))
    assert people.line().split() == ["48000", "midi.performer", "92", "3c", "48", "on", "note_id=7", "duration_s=0.500"]
    assert programs.next("midi.performer")["payload"] == "92 3c 48"


def test_a_prefix_of_another_topic_is_kept_out(gateway: Gateway, listen: Callable[..., Listener]) -> None:
    listener = listen("--json", "--topics", "note", "position")
    listener.next("snapshot")
    gateway.say("midi", NoteOn(480, 480, 1, 60, 72, 0, 1, 2))
    gateway.say("follower", position(1))
    assert json.loads(listener.line())["topic"] == "position"


def test_it_reports_how_many_messages_it_lost(gateway: Gateway, listen: Callable[..., Listener]) -> None:
    listener = listen("--json", "--topics", "position")
    listener.next("snapshot")
    listener.process.send_signal(signal.SIGSTOP)
    sent = 0
    while gateway.session.counters("gateway")["dropped_events"] == 0:
        gateway.say("follower", position(sent))
        sent += 1
    listener.process.send_signal(signal.SIGCONT)
    got = lost = 0
    while got + lost < sent:
        message = json.loads(listener.line())
        got += message["topic"] == "position"
        lost += message["payload"]["messages"] if message["topic"] == "lost" else 0
    assert lost > 0
    assert got + lost == sent


def test_it_joins_a_restarted_gateway_anew(gateway: Gateway, listen: Callable[..., Listener]) -> None:
    listener = listen("--json", "--topics", "position")
    first = listener.next("snapshot")["payload"]
    gateway.kill()
    listener.next("silence")
    gateway.start()
    gateway.started()
    second = listener.next("snapshot")["payload"]
    assert (second["boot_id"], second["epoch"] > first["epoch"]) == (first["boot_id"], True)
    gateway.say("follower", position(7))
    assert listener.next("position")["payload"]["frame"] == 7


def test_it_waits_for_a_server_that_is_not_there_and_ends_on_interrupt(tmp_path: Path) -> None:
    listener = Listener("--control", f"ipc://{tmp_path}/none")
    assert listener.process.stderr is not None
    assert "waiting for a server" in listener.process.stderr.readline()
    listener.process.send_signal(signal.SIGINT)
    assert listener.process.wait(PATIENCE_S) == 0


def test_a_topic_that_is_none_is_refused(listen: Callable[..., Listener]) -> None:
    listener = listen("--topics", "positon")
    assert listener.process.wait(PATIENCE_S) == 1
    assert listener.process.stderr is not None
    assert "no topic positon; there are position" in listener.process.stderr.read()


def test_it_is_small_and_imports_nothing_of_the_server() -> None:
    source = LISTEN.read_text()
    names = {alias.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert not {name for name in names if name.startswith("rtserver")}
    assert len(source.splitlines()) <= 150
