"""The gateway as its clients see it: a real process, real sockets; the test plays the other roles."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from gateway_process import PATIENCE_S, Gateway, position, until

from rtserver import events
from rtserver.config import Generation, Score, Wire
from rtserver.shared.session import STATE, UP
from rtserver.wire import protocol as p

Make = Callable[..., Gateway]


@pytest.fixture
def gateway(shared_gateway: Gateway) -> Gateway:
    return shared_gateway


def taken_by(gateway: Gateway, role: str) -> list[Any]:
    """What `role` finds in its ring."""
    return until(lambda: gateway.session.receive(role), f"something for {role}")


def test_events_arrive_in_order_with_consecutive_numbers(gateway: Gateway) -> None:
    subscriber = gateway.subscribe("position")
    for frame in range(3000):  # more than the ring holds at once
        gateway.say("follower", position(frame))
    got = [subscriber.next("position") for _ in range(3000)]
    assert [event.frame for _, event in got] == list(range(3000))
    first = got[0][0].sequence
    assert [header.sequence for header, _ in got] == list(range(first, first + 3000))


def test_a_header_tells_version_session_and_frames(gateway: Gateway) -> None:
    subscriber = gateway.subscribe("miss")
    before_ns = time.monotonic_ns()
    gateway.say("engine", events.Miss(480, 544, "harmonic", 64))
    header, event = subscriber.next("miss")
    assert event == events.Miss(480, 544, "harmonic", 64)
    assert (header.version, header.frame, header.available_frame, header.due_ns) == (1, 480, 544, None)
    assert header.boot_id == f"{gateway.session.block.boot_id:016x}"
    assert before_ns <= header.sent_ns <= time.monotonic_ns()


def test_a_note_that_was_played_carries_its_due_time(gateway: Gateway) -> None:
    subscriber = gateway.subscribe("note_on")
    gateway.say("midi", events.NoteOn(480, 480, 1, 60, 72, 0, due_ns=777, sent_ns=780))
    assert subscriber.next("note_on")[0].due_ns == 777


def test_a_planned_note_is_due_when_its_frame_is(make: Make) -> None:
    gateway = make().started()
    gateway.session.clock.publish(48000.0, 100.0, 48000.0, 0.0)
    subscriber = gateway.subscribe("note")
    gateway.say("performer", events.Note(72000, 48000, 1, 60, 72, 480, 0))
    assert subscriber.next("note")[0].due_ns == 100_500_000_000


def test_a_heartbeat_carries_held_notes_and_last_numbers(gateway: Gateway) -> None:
    subscriber = gateway.subscribe("gap")
    gateway.say("engine", events.Gap(1, 1, 64, "test"))
    last = subscriber.next("gap")[0].sequence
    gateway.session.block["notes"][3, 60] = 12345
    gateway.session.block["notes"][4, 61] = -12345  # let go already
    subscriber.next("heartbeat")  # this one may have been made before
    header, heartbeat = subscriber.next("heartbeat")
    gateway.session.block["notes"][:] = 0
    assert heartbeat.notes == [(3, 60, 12345)]
    assert heartbeat.sequences["gap"] == last
    assert header.boot_id == f"{gateway.session.block.boot_id:016x}"


def test_heartbeats_come_ten_times_a_second(gateway: Gateway) -> None:
    subscriber = gateway.subscribe()
    first = subscriber.next("heartbeat")[0]
    for _ in range(9):
        last = subscriber.next("heartbeat")[0]
    assert last.sequence == first.sequence + 9
    assert 0.5 < (last.sent_ns - first.sent_ns) / 1e9 < 5


def test_counters_are_published_by_role(gateway: Gateway) -> None:
    subscriber = gateway.subscribe("status")
    gateway.session.count("engine", "hops", 5)
    found: dict[str, dict[str, int]] = {}

    def complete() -> bool:
        event = subscriber.next("status")[1]
        found[event.role] = event.counters
        return found.get("engine", {}).get("hops") == 5 and len(found) >= 6

    until(complete, "the counters of every role")


def test_a_snapshot_after_joining_loses_nothing(gateway: Gateway) -> None:
    for frame in range(200):
        gateway.say("follower", position(frame))
    subscriber = gateway.subscribe("position")
    for frame in range(200, 400):
        gateway.say("follower", position(frame))
    snapshot = gateway.result("snapshot")
    for frame in range(400, 600):
        gateway.say("follower", position(frame))
    last = snapshot["sequences"]["position"]
    newer: list[int] = []
    while not newer or newer[-1] < 599:
        header, event = subscriber.next("position")
        if header.sequence > last:
            newer.append(event.frame)
    assert newer == list(range(snapshot["position"]["frame"] + 1, 600))


def test_a_snapshot_lists_the_notes_that_are_still_to_come(make: Make) -> None:
    gateway = make().started()
    subscriber = gateway.subscribe("note", "note_off")
    for note_id in (1, 2):
        gateway.say("performer", events.Note(48000, 0, note_id, 60, 72, 480, 0))
    gateway.say("midi", events.NoteOff(48480, 48480, 1, 60, 0, 1, 1))
    subscriber.next("note_off")
    assert [note["note_id"] for note in gateway.result("snapshot")["planned"]] == [2]


def test_audio_flows_to_those_who_asked_for_it(gateway: Gateway) -> None:
    ring = gateway.session.track(gateway.session.setup.tracks[1], 1)
    subscriber = gateway.subscribe("audio.percussive", bulk=True)
    noise = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)

    def arrived() -> bool:
        ring.write(noise, ring.written_to)
        return bool(subscriber.socket.poll(0))

    until(arrived, "the first chunk")
    topic, header, values = p.decode_bulk(subscriber.socket.recv_multipart())
    assert (topic, header.axes, header.step, header.sample_rate) == ("audio.percussive", "channels,frames", 1, 48000)
    expected = noise[0, (header.frame + np.arange(values.shape[1])) % 64]
    np.testing.assert_array_equal(values[0], expected)


def test_features_flow_with_their_frames(gateway: Gateway) -> None:
    subscriber = gateway.subscribe("features", bulk=True)
    written: list[int] = []

    def arrived() -> bool:
        written.append(480 * (len(written) + 1))
        gateway.session.features.write(np.full(208, written[-1], np.float32), written[-1])
        return bool(subscriber.socket.poll(0))

    until(arrived, "the first features")
    _, header, values = p.decode_bulk(subscriber.socket.recv_multipart())
    assert header.axes == "hops,features"
    np.testing.assert_array_equal(values[:, 0], header.frame + header.step * np.arange(len(values)))


def test_a_stalled_subscriber_holds_up_nobody_and_is_counted(make: Make) -> None:
    gateway = make().started()
    stalled = gateway.context.socket(zmq.SUB)
    stalled.setsockopt(zmq.RCVHWM, 1)
    stalled.connect(gateway.config.wire.events)
    stalled.subscribe("gap")
    subscriber = gateway.subscribe("gap")
    total, block = 12000, 400
    reason = "x" * 150
    for start in range(0, total, block):  # the healthy one reads block by block and never lags
        for frame in range(start, start + block):
            gateway.say("engine", events.Gap(frame, frame, 1, reason))
        for frame in range(start, start + block):
            header, event = subscriber.next("gap")
            assert (header.sequence, event.frame) == (frame + 1, frame)
    until(lambda: gateway.session.counters("gateway")["dropped_events"] > 0, "the drops to be counted")
    kept = 0
    while stalled.poll(200):
        p.decode_event(stalled.recv_multipart())
        kept += 1
    assert 0 < kept < total
    assert gateway.result("ping")


def test_a_port_in_use_is_refused_with_field_and_remedy(gateway: Gateway, make: Make) -> None:
    port = gateway.context.socket(zmq.ROUTER)
    number = port.bind_to_random_port("tcp://127.0.0.1")
    second = make(wire=Wire(control=f"tcp://127.0.0.1:{number}"))
    assert second.process.wait(PATIENCE_S) == 1
    port.close(linger=0)
    message = second.process.stderr.read() if second.process.stderr else ""
    assert f"wire.control: tcp://127.0.0.1:{number} is in use" in message
    assert "choose another endpoint" in message
    assert "Traceback" not in message


def test_an_ipc_endpoint_in_use_is_not_taken_over(make: Make) -> None:
    first = make().started()
    second = make()
    assert second.process.wait(PATIENCE_S) == 1
    assert "wire.control" in (second.process.stderr.read() if second.process.stderr else "")
    assert first.result("ping")


def test_an_ipc_endpoint_is_open_to_its_user_only(make: Make, folder: Path) -> None:
    make().started()
    assert [(folder / name).stat().st_mode & 0o777 for name in ("control", "events", "bulk")] == [0o600] * 3


def test_a_killed_gateway_comes_back_with_what_was_set(make: Make) -> None:
    gateway = make().started()
    gateway.result("set", name="outputs.harmonic.mute", value=True)
    first = gateway.result("snapshot")
    gateway.kill()
    gateway.start()
    gateway.started()
    second = gateway.result("snapshot")
    assert second["parameters"]["outputs.harmonic.mute"] is True
    assert second["boot_id"] == first["boot_id"]
    assert second["epoch"] > first["epoch"]


def test_a_restarted_role_is_told_again_what_was_set(make: Make) -> None:
    gateway = make().started()
    gateway.result("set", name="outputs.harmonic.mute", value=True)
    taken_by(gateway, "engine")
    gateway.say("supervisor", events.Role(0, 0, "engine", "restarted", 99, 1))
    assert [(event.name, event.value) for event in taken_by(gateway, "engine")] == [("outputs.harmonic.mute", True)]


def test_a_restarted_role_keeps_the_frames_of_what_was_set_ahead(make: Make) -> None:
    gateway = make().started()
    gateway.result("set", name="outputs.harmonic.gain_db", value=-20.0, at_frame=96000)
    gateway.result("set", name="outputs.harmonic.gain_db", value=-6.0)
    taken_by(gateway, "engine")
    gateway.kill()
    gateway.start()
    gateway.started()
    gateway.session.input_ring.restart(48000)
    gateway.say("supervisor", events.Role(0, 0, "engine", "restarted", 99, 1))
    assert [(event.frame, event.value) for event in taken_by(gateway, "engine")] == [(48000, -6.0), (96000, -20.0)]


def test_the_last_events_leave_before_the_end(make: Make) -> None:
    gateway = make().started()
    subscriber = gateway.subscribe("note_off")
    for note_id in range(20):
        gateway.session.emit("midi", events.NoteOff(1, 1, note_id, 60, 0, 1, 1), "gateway")
    gateway.stop()
    assert [subscriber.next("note_off")[1].note_id for _ in range(20)] == list(range(20))


def test_the_gateway_never_loads_the_compiler(gateway: Gateway) -> None:
    maps = Path(f"/proc/{gateway.process.pid}/maps")
    if not maps.exists():
        pytest.skip("this system has no /proc to look into a process")
    assert int(gateway.session.role("gateway")[STATE]) == UP
    assert "llvmlite" not in maps.read_text()


def test_what_a_session_lacks_is_refused_with_the_remedy(make: Make) -> None:
    gateway = make(score=Score(), generation=Generation(enabled=False)).started()
    seek = gateway.refused("seek", quarter=1)
    assert (seek.code, "score.file" in seek.message) == ("unavailable", True)
    temperature = gateway.refused("set", name="generation.temperature", value=1)
    assert (temperature.code, "generation.enabled" in temperature.message) == ("unavailable", True)
    assert gateway.result("reset")["roles"] == ["engine"]


def test_a_full_ring_is_told_to_the_client(make: Make) -> None:
    gateway = make().started()
    while gateway.session.ring("gateway", "follower").put(b"\x80"):
        pass
    error = gateway.refused("seek", quarter=1)
    assert error.code == "busy"
    assert "follower" in error.message
