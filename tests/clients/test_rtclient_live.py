"""The client library against a real gateway that is stopped, killed and started again."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gateway_process import PATIENCE_S, Gateway, configuration, position, until

from rtserver.config import Wire
from rtserver.events import Note, NoteOff, NoteOn
from rtserver.wire import security

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "clients"))

from rtclient import LEASE_S, Client, Message, NoReply, NoteLease, ServerError


class Synth:
    """A synth that notes when its notes end, and when the server was last heard."""

    def __init__(self) -> None:
        self.sounding: set[tuple[int, int]] = set()
        self.ends: list[tuple[float, float]] = []
        self.lease = NoteLease(lambda channel, pitch, _: self.sounding.add((channel, pitch)), self.stop)

    def stop(self, channel: int, pitch: int) -> None:
        self.sounding.remove((channel, pitch))
        self.ends.append((time.monotonic(), self.lease.heard_s or 0.0))


@pytest.fixture
def client_of() -> Iterator[Callable[..., Client]]:
    """Makes clients and closes them."""
    clients: list[Client] = []

    def make(control: str = "", **arguments: Any) -> Client:
        clients.append(Client(control, **arguments))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def next_of(client: Client, topic: str) -> Message:
    for message in client.messages(PATIENCE_S):
        if message.topic == topic:
            return message
    raise AssertionError(f"no {topic} came")


def play(gateway: Gateway, *pitches: int) -> None:
    for pitch in pitches:
        gateway.session.block["notes"][0, pitch] = 1  # as the midi role does, first the table
        gateway.say("midi", NoteOn(480, 480, pitch, pitch, 72, 0, 1, 2))


def test_messages_come_after_the_snapshot(gateway: Gateway, client_of: Callable[..., Client]) -> None:
    client = client_of(gateway.config.wire.control, topics=["position"])
    assert next_of(client, "snapshot").payload["boot_id"] == gateway.result("hello")["boot_id"]
    for frame in range(3):
        gateway.say("follower", position(frame))
    assert [next_of(client, "position").payload["frame"] for _ in range(3)] == [0, 1, 2]


def test_a_refusal_is_raised_with_its_code(gateway: Gateway, client_of: Callable[..., Client]) -> None:
    client = client_of(gateway.config.wire.control)
    with pytest.raises(ServerError, match="did you mean 'outputs") as caught:
        client.ask("set", name="outputs.harmonic.gain_bd", value=0.0)
    assert caught.value.code == "unknown_name"


def test_a_server_that_does_not_answer_is_told(tmp_path: Path, client_of: Callable[..., Client]) -> None:
    client = client_of(f"ipc://{tmp_path}/none")
    with pytest.raises(NoReply):
        client.ask("ping", timeout_s=0.2)
    assert not client.wait(0.1)


def test_a_request_that_is_sent_twice_acts_once(gateway: Gateway, client_of: Callable[..., Client]) -> None:
    client = client_of(gateway.config.wire.control)
    assert client.wait(PATIENCE_S)
    gateway.process.send_signal(signal.SIGSTOP)
    answers: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: answers.append(client.ask("note", timeout_s=PATIENCE_S, pitch=61)))
    asking.start()
    time.sleep(2.2)  # the request is sent three times meanwhile
    gateway.process.send_signal(signal.SIGCONT)
    asking.join(PATIENCE_S)
    gateway.result("ping")  # after all that came before
    notes = [event for event in gateway.session.receive("midi") if event.pitch == 61]
    assert [note.note_id for note in notes] == [answers[0]["note_id"]]


def test_more_requests_than_allowed_are_spread_out_and_all_answered(gateway: Gateway, client_of: Callable[..., Client]) -> None:
    client = client_of(gateway.config.wire.control)
    with ThreadPoolExecutor(50) as threads:
        results = list(threads.map(lambda _: client.ask("ping", timeout_s=PATIENCE_S), range(1200)))
    assert all(result["server_ns"] for result in results)


def test_the_clocks_offset_is_known_within_its_error(gateway: Gateway, client_of: Callable[..., Client]) -> None:
    client = client_of(gateway.config.wire.control)
    until(lambda: client.offset_ns()[1] < float("inf"), "the first ping")
    offset, error = client.offset_ns()
    assert abs(offset) <= error  # on one machine both clocks are one


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_every_note_ends_when_the_server_falls_silent(gateway: Gateway, client_of: Callable[..., Client], number: signal.Signals) -> None:
    synth = Synth()
    client_of(gateway.config.wire.control, topics=[], lease=synth.lease)
    until(lambda: synth.lease.heard_s, "the first heartbeat")
    until(lambda: play(gateway, 60, 64, 67) or len(synth.sounding) == 3, "the notes to sound")
    gateway.process.send_signal(number)
    until(lambda: not synth.sounding, "the notes to end")
    assert synth.lease.expired >= 3
    # By the client's clock not before the lease is over, and later by no less than it says. How much is the machine's affair.
    assert min(ended_s - heard_s for ended_s, heard_s in synth.ends[-3:]) >= LEASE_S
    assert 0 <= synth.lease.late_s <= max(ended_s - heard_s - LEASE_S for ended_s, heard_s in synth.ends[-3:])
    if number == signal.SIGSTOP:
        gateway.process.send_signal(signal.SIGCONT)
        until(lambda: play(gateway, 72) or synth.sounding, "notes to sound again")


def test_a_note_whose_note_off_never_comes_ends_with_the_table(gateway: Gateway, client_of: Callable[..., Client]) -> None:
    synth = Synth()
    client_of(gateway.config.wire.control, topics=[], lease=synth.lease)
    until(lambda: synth.lease.heard_s, "the first heartbeat")
    until(lambda: play(gateway, 60, 64) or len(synth.sounding) == 2, "the notes to sound")
    gateway.session.block["notes"][0, 60] = -1
    until(lambda: play(gateway, 64) or synth.sounding == {(0, 64)}, "the note to end, and no other")
    gateway.say("midi", NoteOff(480, 480, 64, 64, 0, 1, 2))
    until(lambda: not synth.sounding, "the other to end")


def test_raw_midi_comes_as_bytes_with_its_due_time_here_and_the_error_of_that(gateway: Gateway, client_of: Callable[..., Client]) -> None:
    gateway.session.clock.publish(0.0, time.monotonic(), 48000, 0.0)
    client = client_of(gateway.config.wire.control, topics=["midi.performer", "note"])
    next_of(client, "snapshot")
    gateway.say("performer", Note(48000, 0, 7, 60, 72, 24000, 2))
    message = next_of(client, "midi.performer")
    assert message.payload == bytes((0x92, 60, 72))
    assert message.header[8:11] == [7, 500_000_000, "on"]
    due_ns, error_ns = client.local_ns(message.due_ns)
    assert abs(due_ns - message.due_ns) <= error_ns < float("inf")  # on one machine both clocks are one
    assert next_of(client, "midi.performer").payload == bytes((0x82, 60, 0))
    assert client.stream.lost == 0


def test_who_does_not_name_raw_midi_does_not_get_it(gateway: Gateway, client_of: Callable[..., Client]) -> None:
    everything = client_of(gateway.config.wire.control)
    raw = client_of(gateway.config.wire.control, topics=["midi.performer"])
    for client in (everything, raw):
        next_of(client, "snapshot")
    gateway.session.clock.publish(0.0, time.monotonic(), 48000, 0.0)
    gateway.say("performer", Note(48000, 0, 7, 60, 72, 24000, 2))
    next_of(raw, "midi.performer")
    gateway.say("follower", position(7))
    topics = []
    for message in everything.messages(PATIENCE_S):
        topics.append(message.topic)
        if message.topic == "position":
            break
    assert "note" in topics
    assert not [topic for topic in topics if topic.startswith("midi.")]


def test_samples_come_as_floats(gateway: Gateway, client_of: Callable[..., Client]) -> None:
    client = client_of(gateway.config.wire.control, topics=[], bulk=["features"])
    assert client.wait(PATIENCE_S)
    written = 0

    def message() -> Message | None:
        nonlocal written
        written += 480
        gateway.session.features.write(np.full(208, 0.5, np.float32), written)
        return next((m for m in client.messages(0.05) if m.topic == "features"), None)

    got = until(message, "features")
    assert got.header[9] == "hops,features"
    assert set(got.payload) == {0.5}


def test_a_server_is_found_by_its_name_and_found_again_elsewhere(
    tmp_path_factory: pytest.TempPathFactory, client_of: Callable[..., Client]
) -> None:
    folder = tmp_path_factory.mktemp("c")
    tcp = "tcp://127.0.0.1:*"
    name = f"wanderer {folder.name}"
    client = client_of(server=name, topics=["position"])
    assert not client.wait(0.3)
    gateway = Gateway(folder, configuration(folder, wire=Wire(control=tcp, events=tcp, bulk=tcp), name=name))
    try:
        gateway.started()
        first = next_of(client, "snapshot").payload["epoch"]
        gateway.kill()
        gateway.start()  # on other ports
        gateway.started()
        assert next_of(client, "snapshot").payload["epoch"] > first
        gateway.say("follower", position(7))
        assert next_of(client, "position").payload["frame"] == 7
        assert client.ask("ping")["server_ns"] > 0
    finally:
        gateway.close()


def test_keys_let_a_client_in(tmp_path_factory: pytest.TempPathFactory, client_of: Callable[..., Client]) -> None:
    folder = tmp_path_factory.mktemp("c")
    for owner in ("server", "friend"):
        security.new_keys(folder, owner)
    security.allow(folder / "allow", folder / "friend.key")
    tcp, name = "tcp://127.0.0.1:*", f"guarded {folder.name}"
    wire = Wire(control=tcp, events=tcp, bulk=tcp, server_key=str(folder / "server.key_secret"), allow=str(folder / "allow"))
    gateway = Gateway(folder, configuration(folder, wire=wire, name=name))
    try:
        gateway.started()
        own = str(folder / "friend.key_secret")
        by_name = client_of(server=name, topics=["position"], key=own)  # on one machine the server tells its public key
        by_endpoint = client_of(gateway.endpoint("control"), topics=["position"], key=own, server_key=str(folder / "server.key"))
        for client in (by_name, by_endpoint):
            assert next_of(client, "snapshot").payload["epoch"] > 0
            assert "friend" in client.ask("status")["accounts"]
    finally:
        gateway.close()
