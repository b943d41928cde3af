"""Whatever comes in on the sockets: the gateway lives, serves who behaves, counts who does not, and does not grow."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zmq

sys.path.insert(0, str(Path(__file__).parent.parent / "wire"))  # where the helper lives

from gateway_process import PATIENCE_S, Gateway, configuration, position, until

from rtserver import events
from rtserver.config import Wire
from rtserver.roles.gateway import MEMORY_SIZE
from rtserver.wire import protocol as p
from rtserver.wire import requests as r

N_RANDOM, N_MUTATED = 1000, 200
N_SLOW, N_DEAD = 20, 20
FAR_BEHIND = 4000  # messages: half of a subscriber's queue
REQUESTS = [
    {"op": "hello", "versions": [1], "client": "test"},
    {"op": "ping", "sent_ns": 5, "lost_events": 3},
    {"op": "status"},
    {"op": "snapshot"},
    {"op": "get", "name": "outputs.harmonic.mute"},
    {"op": "set", "name": "outputs.harmonic.mute", "value": True, "at_frame": 7},
    {"op": "seek", "quarter": 4.0},
    {"op": "note", "pitch": 60, "velocity": 70, "duration_s": 0.5, "channel": 1, "delay_s": 0.1},
    {"op": "reset"},
]


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """On TCP, where anybody's bytes arrive, and on ports that nobody else has."""
    folder = tmp_path_factory.mktemp("f")
    tcp = "tcp://127.0.0.1:*"
    gateway = Gateway(folder, configuration(folder, wire=Wire(control=tcp, events=tcp, bulk=tcp), name=f"flooded {folder.name}"))
    try:
        gateway.started()
        gateway.control = gateway.context.socket(zmq.DEALER)
        gateway.control.connect(gateway.endpoint("control"))
        yield gateway
    finally:
        gateway.close()


def resident_size(gateway: Gateway) -> int:
    """Bytes of memory that the process holds by itself."""
    status = Path(f"/proc/{gateway.process.pid}/status")
    if not status.exists():
        pytest.skip("this system has no /proc to look into a process")
    return 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith("RssAnon")).split()[1])


def mutated(message: bytes, random: np.random.Generator) -> bytes:
    """One to four bytes changed."""
    found = bytearray(message)
    for _ in range(int(random.integers(1, 5))):
        found[int(random.integers(len(found)))] = int(random.integers(256))
    return bytes(found)


def still_well(gateway: Gateway) -> None:
    """Another client is served, events flow, and the process is still the first."""
    assert gateway.result("ping")
    subscriber = gateway.context.socket(zmq.SUB)
    subscriber.connect(gateway.endpoint("events"))
    subscriber.subscribe("heartbeat")
    assert subscriber.poll(int(PATIENCE_S * 1000))
    assert gateway.process.poll() is None


def test_random_and_mutated_messages_on_the_control_socket(gateway: Gateway) -> None:
    random = np.random.default_rng(5)
    hostile = gateway.context.socket(zmq.DEALER)
    hostile.connect(gateway.endpoint("control"))
    for i in range(N_RANDOM):
        frames = [random.bytes(int(random.integers(0, 200))) for _ in range(1 + i % 4)]
        hostile.send_multipart([p.MARK, *frames] if i % 2 else frames)
    for i in range(N_MUTATED):
        hostile.send_multipart([p.MARK, mutated(msgspec.msgpack.encode({"id": f"m{i}"} | REQUESTS[i % len(REQUESTS)]), random)])

    def counted() -> bool:
        c = gateway.counters()
        return c["bad_messages"] + c["rate_limited"] + c["commands"] >= N_RANDOM + N_MUTATED

    until(counted, "every message to be counted")
    assert gateway.counters()["bad_messages"] + gateway.counters()["rate_limited"] >= N_RANDOM
    still_well(gateway)


@pytest.mark.parametrize("name", ["events", "bulk"])
def test_random_and_mutated_messages_on_a_socket_that_only_sends(gateway: Gateway, name: str) -> None:
    random = np.random.default_rng(6)
    hostile = gateway.context.socket(zmq.XSUB)  # what a SUB socket is underneath: it may send anything
    hostile.connect(gateway.endpoint(name))
    for i in range(N_RANDOM):
        hostile.send_multipart([random.bytes(int(random.integers(0, 200))) for _ in range(1 + i % 3)])
    for i in range(N_MUTATED):
        hostile.send(mutated((b"\x01", b"\x00")[i % 2] + b"position", random))
    still_well(gateway)
    subscriber = gateway.context.socket(zmq.SUB)
    subscriber.connect(gateway.endpoint("bulk"))
    subscriber.subscribe("features")
    written = 0

    def arrived() -> bool:
        nonlocal written
        written += 480
        gateway.session.features.write(np.zeros(208, np.float32), written)
        return bool(subscriber.poll(0))

    until(arrived, "features, for whom the socket still works")


def test_bytes_that_are_not_zeromqs(gateway: Gateway) -> None:
    ports = [int(gateway.endpoint(name).rpartition(":")[2]) for name in ("control", "events", "bulk")]
    before = gateway.counters()["denied"]
    for i, port in itertools.product(range(50), ports):
        with socket.create_connection(("127.0.0.1", port)) as plain, contextlib.suppress(OSError):
            # Half of them begin as ZeroMQ does. The others would be taken for its first version, which has no handshake to fail.
            plain.sendall(b"\xff" + bytes(8) + b"\x7f" + os.urandom(4000) if i % 2 else b"GET / HTTP/1.1\r\n\r\n" + os.urandom(4000))
    until(lambda: gateway.counters()["denied"] - before >= 25 * len(ports), "the connections to be counted")
    still_well(gateway)


def test_ten_thousand_requests_a_second_keep_nobody_else_waiting(gateway: Gateway) -> None:
    flooders = [gateway.context.socket(zmq.DEALER) for _ in range(2)]
    sent = 0
    size = resident_size(gateway)
    begun_s = time.monotonic()
    for flooder in flooders:
        flooder.setsockopt(zmq.SNDHWM, 0)
        flooder.connect(gateway.endpoint("control"))
    for second in range(3):
        for i in range(10_000):
            flooders[i % 2].send_multipart(p.encode_request(r.SetRequest(f"{second}-{i}", "outputs.harmonic.gain_db", -6.0)))
            sent += 1
        assert gateway.result("ping")  # in between
        for role in ("engine", "midi"):
            gateway.session.receive(role)
        time.sleep(max(begun_s + second + 1 - time.monotonic(), 0))

    def counted() -> bool:
        c = gateway.counters()
        gateway.session.receive("engine")
        return c["commands"] + c["rate_limited"] + c["bad_messages"] >= sent

    until(counted, "every request to be counted")
    assert gateway.counters()["rate_limited"] > 0
    assert resident_size(gateway) - size < 100e6
    still_well(gateway)


def test_slow_and_dead_subscribers_hold_up_nobody(gateway: Gateway) -> None:
    size = resident_size(gateway)
    idle = [gateway.context.socket(zmq.SUB) for _ in range(N_SLOW + N_DEAD)]
    for subscriber in idle:
        subscriber.setsockopt(zmq.RCVHWM, 1)
        subscriber.connect(gateway.endpoint("events"))
        subscriber.subscribe("")
    stopped = False

    def read_slowly() -> None:
        while not stopped:
            for subscriber in idle[:N_SLOW]:
                with contextlib.suppress(zmq.Again):
                    subscriber.recv_multipart(zmq.DONTWAIT)
            time.sleep(0.02)

    slowly = threading.Thread(target=read_slowly)
    slowly.start()
    try:
        good = gateway.context.socket(zmq.SUB)
        good.connect(gateway.endpoint("events"))
        for topic in ("gap", "heartbeat"):
            good.subscribe(topic)
        until(lambda: good.poll(0) and p.decode_event(good.recv_multipart())[0] == "heartbeat", "a heartbeat")
        got = 0
        for frame in range(20_000):
            gateway.say("engine", events.Gap(frame, frame, 1, "x" * 150))
            # On a busy machine its messages may be far behind; a queue that nobody has read from for so long may overflow.
            while good.poll(int(PATIENCE_S * 1000) if frame - got > FAR_BEHIND else 0):
                topic, header, _ = p.decode_event(good.recv_multipart())
                got += topic == "gap"
                assert topic == "heartbeat" or header.sequence == got  # none is missing
        while got < 20_000:
            assert good.poll(int(PATIENCE_S * 1000))
            topic, header, event = p.decode_event(good.recv_multipart())
            got += topic == "gap"
            last = header.sequence if topic == "gap" else event.sequences.get("gap", 0)  # type: ignore[union-attr]
            assert last == got, "none is missing at the end"
    finally:
        stopped = True
        slowly.join()
    until(lambda: gateway.counters()["dropped_events"] > 0, "the drops to be counted")
    assert resident_size(gateway) - size < 200e6
    still_well(gateway)


def test_a_message_without_end_does_not_take_the_machines_memory(gateway: Gateway) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux bounds a process's memory like this")
    port = int(gateway.endpoint("control").rpartition(":")[2])
    frame = b"\x03" + (60_000).to_bytes(8, "big") + bytes(60_000)  # more to follow, long
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL".ljust(24, b"\0") + bytes(31))
        ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
        plain.sendall(b"\x04" + bytes([len(ready)]) + ready)
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 2 * MEMORY_SIZE:
                plain.sendall(frame)
                sent += len(frame)
    assert sent < MEMORY_SIZE
    if gateway.process.poll() is not None:  # ZeroMQ had nothing left to hang up with: the supervisor starts it anew
        gateway.start()
        gateway.started()
        gateway.control = gateway.context.socket(zmq.DEALER)
        gateway.control.connect(gateway.endpoint("control"))
    still_well(gateway)
    assert resident_size(gateway) < MEMORY_SIZE


def test_positions_flow_on_while_subscribers_come_and_go(gateway: Gateway) -> None:
    good = gateway.context.socket(zmq.SUB)
    good.connect(gateway.endpoint("events"))
    for topic in ("position", "heartbeat"):
        good.subscribe(topic)
    until(lambda: good.poll(0) and p.decode_event(good.recv_multipart())[0] == "heartbeat", "a heartbeat")
    for frame in range(300):
        with contextlib.closing(gateway.context.socket(zmq.SUB)) as passing:
            passing.connect(gateway.endpoint("events"))
            passing.subscribe("")
        gateway.say("follower", position(frame))
    frames: list[int] = []
    while len(frames) < 300:
        assert good.poll(int(PATIENCE_S * 1000))
        topic, _, event = p.decode_event(good.recv_multipart())
        frames += [event.frame] if topic == "position" else []
    assert frames == list(range(300))
