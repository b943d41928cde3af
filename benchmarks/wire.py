"""What clients cost and get: from an event to its subscriber, and what subscribers and floods cost the fast lane.

    python benchmarks/wire.py [--output FILE.json] [--rounds N] [--only latency|hops]

Latency: a real gateway; this program plays the midi role and emits a note-on every 10 ms; another process subscribes and takes the time
from the emission to its receipt. Over ipc, tcp and tcp with CURVE, with 1, 10 and 100 subscribers (the others read in a third process).

Hops: a whole server on a private JACK server, whose engine keeps a histogram of how long its hops take. Stretches of seconds follow each
other: nobody listens; 100 subscribers of all events, 10 of them of all audio too; 20 slow and 20 dead subscribers; 10 000 requests a
second. Each round has all of them, in turns, so that what else the machine does is alike for all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zmq
from machine import machine, may_run_realtime, private_jackd, write_result

from rtserver import events
from rtserver.audio import table as audio_table
from rtserver.config import Config, Wire, parse
from rtserver.shared.histogram import HopTimes
from rtserver.shared.memory import Layout
from rtserver.shared.session import STATE, UP, Session, Setup
from rtserver.wire import protocol as p
from rtserver.wire import requests as r
from rtserver.wire import security

N_EVENTS, EVERY_S = 600, 0.01
PERIOD, RATE = 256, 48000
SEGMENT_S = 4.0
N_SUBSCRIBERS, N_BULK, N_SLOW, N_DEAD, N_FLOOD = 100, 10, 20, 20, 10_000


def sub(context: zmq.Context[zmq.Socket[bytes]], where: dict[str, str], name: str, topic: str) -> zmq.Socket[bytes]:
    """A subscriber, with keys where there are some."""
    made = context.socket(zmq.SUB)
    if where.get("key"):
        pair = security.read_pair(Path(where["key"]))
        made.curve_serverkey = security.read_public(Path(where["server_key"]))
        made.curve_publickey, made.curve_secretkey = pair
    made.connect(where[name])
    made.subscribe(topic)
    return made


# -- the other processes --------------------------------------------------------------------------------------------------------------


def crowd(where: dict[str, str], n: int, n_bulk: int) -> None:
    """Read everything until killed."""
    context = zmq.Context(2)
    sockets = [sub(context, where, "events", "") for _ in range(n)] + [sub(context, where, "bulk", "") for _ in range(n_bulk)]
    poller = zmq.Poller()
    for made in sockets:
        poller.register(made, zmq.POLLIN)
    print("ready", flush=True)
    while True:
        for made, _ in poller.poll():
            with contextlib.suppress(zmq.Again):
                while True:
                    made.recv_multipart(zmq.DONTWAIT, copy=False)


def idle(where: dict[str, str], n_slow: int, n_dead: int) -> None:
    """Read one message of each slow subscriber ten times a second, and nothing of the dead ones."""
    context = zmq.Context(2)
    sockets = [sub(context, where, "events", "") for _ in range(n_slow + n_dead)]
    print("ready", flush=True)
    while True:
        for made in sockets[:n_slow]:
            with contextlib.suppress(zmq.Again):
                made.recv_multipart(zmq.DONTWAIT)
        time.sleep(0.1)


def measure(where: dict[str, str]) -> None:
    """Print how long each note-on was on its way, ns."""
    context = zmq.Context()
    notes = sub(context, where, "events", "note_on")
    notes.subscribe("heartbeat")
    took: list[int] = []
    while len(took) < N_EVENTS:
        topic, _, payload = notes.recv_multipart()
        now_ns = time.monotonic_ns()
        if topic == b"heartbeat":
            print("ready", flush=True)
        elif (event := msgspec.msgpack.decode(payload))["note_id"]:
            took.append(now_ns - event["sent_ns"])
    print(json.dumps(took), flush=True)


@contextlib.contextmanager
def other(kind: str, where: dict[str, str], *numbers: int) -> Iterator[subprocess.Popen[str]]:
    """This program as another process, once it is ready."""
    command = [sys.executable, __file__, "--be", kind, json.dumps(where), *map(str, numbers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        while process.stdout.readline() != "ready\n":
            pass
        yield process
    finally:
        process.kill()
        process.wait()


# -- from the event to the subscriber -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def gateway(folder: Path, wire: Wire) -> Iterator[Session]:
    """A session whose gateway is real."""
    layout = Layout()
    audio_table.declare(layout)
    Session.declare(layout, n_in=1, n_out=2, n_features=1)
    session = Session.create(layout, Setup(Config(wire=wire), str(folder)))
    fd = session.block.fd
    process = subprocess.Popen([sys.executable, "-m", "rtserver.roles.role", "gateway", str(fd)], pass_fds=[fd])
    try:
        while int(session.role("gateway")[STATE]) != UP:
            assert process.poll() is None, "the gateway did not start"
            time.sleep(0.01)
        yield session
    finally:
        process.terminate()
        process.wait()


def latency(transport: str, n_subscribers: int) -> dict[str, Any]:
    """Emission to receipt, for one transport and number of subscribers."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ports = {name: f"ipc://{folder}/{name}" for name in ("control", "events", "bulk")}
        keys: dict[str, str] = {}
        if transport != "ipc":
            ports = {name: f"tcp://127.0.0.1:{45580 + i}" for i, name in enumerate(ports)}
        if transport == "tcp + CURVE":
            for name in ("server", "client"):
                security.new_keys(folder, name)
            security.allow(folder / "allow", folder / "client.key")
            keys = {"server_key": str(folder / "server.key_secret"), "allow": str(folder / "allow")}
        where = ports | ({"key": str(folder / "client.key_secret"), "server_key": str(folder / "server.key")} if keys else {})
        with contextlib.ExitStack() as stack:
            session = stack.enter_context(gateway(folder, Wire(**ports, **keys)))
            if n_subscribers > 1:
                stack.enter_context(other("crowd", where, n_subscribers - 1, 0))
            measuring = stack.enter_context(other("measure", where))
            due_s = time.monotonic()
            for i in range(N_EVENTS + 50):  # the first ones warm up: they carry no number
                due_s += EVERY_S
                time.sleep(max(due_s - time.monotonic(), 0))
                session.emit("midi", events.NoteOn(0, 0, max(i - 49, 0), 60, 72, 0, 0, time.monotonic_ns()), "gateway")
            assert measuring.stdout is not None
            lines = (line for line in measuring.stdout if line != "ready\n")
            took = np.array(json.loads(next(lines))) / 1e3
    row = {"transport": transport, "n_subscribers": n_subscribers, "n_events": len(took)}
    row |= {f"{name}_us": round(float(np.percentile(took, q)), 1) for name, q in (("p50", 50), ("p99", 99), ("max", 100))}
    print(f"| {transport} | {n_subscribers} | {row['p50_us']:.0f} | {row['p99_us']:.0f} | {row['max_us']:.0f} |", flush=True)
    return row


# -- what it costs the fast lane ------------------------------------------------------------------------------------------------------


def flood(control: str, stop: threading.Event) -> None:
    """`N_FLOOD` requests a second from ten clients, replies read."""
    context = zmq.Context()
    dealers = [context.socket(zmq.DEALER) for _ in range(10)]
    for dealer in dealers:
        dealer.connect(control)
    n = 0
    while not stop.is_set():
        begun_s = time.monotonic()
        for _ in range(N_FLOOD // 100):
            n += 1
            with contextlib.suppress(zmq.Again):
                request = r.SetRequest(f"{os.getpid()}-{n}", "outputs.harmonic.gain_db", 0.0)
                dealers[n % 10].send_multipart(p.encode_request(request), zmq.DONTWAIT)
        for dealer in dealers:
            with contextlib.suppress(zmq.Again):
                while True:
                    dealer.recv_multipart(zmq.DONTWAIT)
        time.sleep(max(begun_s + 0.01 - time.monotonic(), 0))
    context.destroy(linger=0)


def hops(rounds: int) -> dict[str, Any]:
    """Hop times in stretches of nobody, a crowd and a flood."""
    from rtserver.preflight import preflight
    from rtserver.roles.supervisor import Supervisor
    from rtserver.show import Song

    with tempfile.TemporaryDirectory() as scratch, private_jackd(PERIOD, RATE) as environment:
        os.environ.update(environment)
        folder = Path(scratch)
        where = {name: f"ipc://{folder}/{name}" for name in ("control", "events", "bulk")}
        config = parse(
            {
                "name": "rtwire",
                "audio": {"device": "system", "block_size": PERIOD, "spare_blocks": 2},
                "generation": {"enabled": False},
                "midi": {"api": "null"},
                "wire": where,
            }
        )
        supervisor = Supervisor(preflight([Song("wire", config)], folder), folder)
        supervisor.start()
        stopped = threading.Event()

        def look_after() -> None:
            while not stopped.is_set():
                supervisor.turn()

        looking = threading.Thread(target=look_after)
        looking.start()
        try:
            while not supervisor.ready:
                time.sleep(0.05)
            time.sleep(2.0)
            times = HopTimes(supervisor.session.block).all()["hop"]
            segments: dict[str, list[dict[str, float]]] = {"nobody": [], "crowd": [], "idle": [], "flood": []}
            for n in range(rounds):
                order = list(segments)
                for name in order[n % 4 :] + order[: n % 4]:
                    with contextlib.ExitStack() as stack:
                        if name == "crowd":
                            stack.enter_context(other("crowd", where, N_SUBSCRIBERS, N_BULK))
                        if name == "idle":
                            stack.enter_context(other("idle", where, N_SLOW, N_DEAD))
                        if name == "flood":
                            stop = threading.Event()
                            flooding = threading.Thread(target=flood, args=(where["control"], stop))
                            flooding.start()
                            stack.callback(flooding.join)
                            stack.callback(stop.set)
                        time.sleep(0.5)
                        before = times.copy()
                        time.sleep(SEGMENT_S)
                        found = times.copy().since(before)
                        segments[name].append(
                            {"p50_us": found.quantile(0.5) * 1e6, "p99_us": found.quantile(0.99) * 1e6, "hops": found.count}
                        )
            counters = supervisor.session.counters("gateway")
            restarts = {name: child.restarts for name, child in supervisor.children.items() if child.restarts > 0}
        finally:
            stopped.set()
            looking.join()
            supervisor.close()
    result: dict[str, Any] = {"segments": segments, "gateway": counters, "restarts": restarts, "period": PERIOD, "segment_s": SEGMENT_S}
    for name, found in segments.items():
        row = {}
        for key in ("p50_us", "p99_us"):
            ratios = [a[key] / b[key] for a, b in zip(found, segments["nobody"], strict=True)]
            row[key] = round(statistics.median(s[key] for s in found), 1)
            row[key.replace("us", "ratio")] = round(statistics.median(ratios), 3)
        result[name] = row
        print(f"| {name} | {row['p50_us']:.0f} | {row['p99_us']:.0f} | {row['p50_ratio']:.2f} | {row['p99_ratio']:.2f} |", flush=True)
    return result


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", choices=("latency", "hops"))
    parser.add_argument("--be", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.be:
        kind, where, *numbers = args.be
        {"crowd": crowd, "idle": idle, "measure": measure}[kind](json.loads(where), *map(int, numbers))
        return
    result: dict[str, Any] = {"machine": machine(), "realtime": may_run_realtime()}
    if args.only != "hops":
        print("| transport | subscribers | p50 (µs) | p99 (µs) | max (µs) |\n|---|---|---|---|---|")
        result["latency"] = [latency(transport, n) for transport in ("ipc", "tcp", "tcp + CURVE") for n in (1, 10, 100)]
    if args.only != "latency":
        print("\n| | hop p50 (µs) | p99 (µs) | p50 against nobody | p99 |\n|---|---|---|---|---|")
        result["hops"] = hops(args.rounds)
    write_result("wire", result, args.output)


if __name__ == "__main__":
    main()
