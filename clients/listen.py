"""The smallest subscriber: prints what a running rtserver says. Needs pyzmq and msgspec, nothing of rtserver.

    python clients/listen.py [--topics position note ...] [--json] [--count N] [--control ENDPOINT]

It joins without losing anything (docs/protocol.md, "Joining"): subscribe, wait for a heartbeat, which proves that the subscriptions
hold, ask for the snapshot, then apply what is newer than it. It reports every message that it lost, and a server that falls silent.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid

import msgspec
import zmq

SILENT_S = 1.0  # ten heartbeats missed: the server is gone or stuck


class Server:
    """The control and the event socket, and what has been seen so far."""

    def __init__(self, control: str, topics: list[str]) -> None:
        self.context = zmq.Context()
        self.control_endpoint = control
        while not (hello := self.ask("hello", versions=[1], client="listen")):
            print(f"listen: waiting for a server at {control}", file=sys.stderr, flush=True)
        self.topics = topics or hello["topics"]
        if unknown := set(self.topics) - set(hello["topics"]):
            raise SystemExit(f"listen: no topic {', '.join(sorted(unknown))}; there are {', '.join(hello['topics'])}")
        self.events = self.context.socket(zmq.SUB)
        self.events.connect(hello["endpoints"]["events"])
        for topic in [*self.topics, "heartbeat"]:  # heartbeat last: when one comes, the subscriptions before it are in force
            self.events.subscribe(topic)
        self.stream: tuple[str, int] | None = None  # boot id and epoch of the server that the sequence numbers belong to
        self.seen: dict[str, int] = {}

    def ask(self, op: str, **arguments: object) -> dict:
        """One request, one reply: ``[b"RT1", msgpack map]`` each way. Empty if no reply comes within a second."""
        with self.context.socket(zmq.DEALER) as control:
            control.linger = 0
            control.connect(self.control_endpoint)
            control.send_multipart([b"RT1", msgspec.msgpack.encode({"id": str(uuid.uuid4()), "op": op, **arguments})])
            if not control.poll(1000):
                return {}
            reply = msgspec.msgpack.decode(control.recv_multipart()[1])
        if not reply["ok"]:
            raise SystemExit(f"listen: {reply['error']['message']}")
        return reply["result"]

    def messages(self):
        """Yield (topic, header, payload), lost messages as topic "lost", and the state at each join as topic "snapshot"."""
        silent = False
        while True:
            if not self.events.poll(int(SILENT_S * 1000)):
                if not silent:
                    yield "silence", None, {"seconds": SILENT_S}
                silent = True  # said once
                continue
            silent = False
            topic, header, payload = self.events.recv_multipart()
            topic, header, payload = topic.decode(), msgspec.msgpack.decode(header), msgspec.msgpack.decode(payload)
            _version, boot_id, epoch, sequence = header[:4]
            if (boot_id, epoch) != self.stream:  # the first message, or another server: join it
                if topic == "heartbeat":
                    yield from self.join(boot_id, epoch)
                continue
            if topic == "heartbeat":  # it tells of losses at the tail, too
                for name, last in payload["sequences"].items():
                    yield from self.check(name, last + 1)
                    self.seen[name] = max(self.seen.get(name, 0), last)
            if topic in self.topics:
                if topic != "heartbeat" and sequence <= self.seen.get(topic, 0):
                    continue  # the snapshot has it already
                yield from self.check(topic, sequence)
                self.seen[topic] = max(self.seen.get(topic, 0), sequence)
                yield topic, header, payload

    def check(self, topic: str, sequence: int):
        """Sequence numbers of a topic have no holes: a hole is a loss."""
        lost = sequence - self.seen.get(topic, 0) - 1
        if topic in self.topics and topic != "heartbeat" and lost > 0:
            yield "lost", None, {"topic": topic, "messages": lost}

    def join(self, boot_id: str, epoch: int):
        snapshot = self.ask("snapshot")  # if none comes, the next heartbeat tries again
        if snapshot and (snapshot["boot_id"], snapshot["epoch"]) == (boot_id, epoch):
            self.stream, self.seen = (boot_id, epoch), dict(snapshot["sequences"])
            yield "snapshot", None, snapshot


def line(topic: str, payload: dict) -> str:
    rest = {key: value for key, value in payload.items() if key not in {"kind", "frame", "available_frame"}}
    values = " ".join(f"{key}={value:.3f}" if isinstance(value, float) else f"{key}={value}" for key, value in rest.items())
    return f"{payload.get('frame', ''):>12} {topic:<10} {values}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Print what a running rtserver says.")
    parser.add_argument("--control", default="tcp://127.0.0.1:5580", help="control endpoint of the server (default: %(default)s)")
    parser.add_argument("--topics", nargs="+", default=[], help="only these, for example position note_on (default: all)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--count", type=int, default=0, help="end after so many lines (default: never)")
    arguments = parser.parse_args()
    printed = 0
    for topic, header, payload in Server(arguments.control, arguments.topics).messages():
        if topic == "heartbeat" and not arguments.topics:
            continue  # ten a second tell little to the eye; --topics heartbeat shows them
        if arguments.json:
            age_s = (time.monotonic_ns() - header[6]) / 1e9 if header else None  # CLOCK_MONOTONIC: valid on the server's machine
            print(json.dumps({"topic": topic, "header": header, "age_s": age_s, "payload": payload}, default=repr), flush=True)
        else:
            print(line(topic, payload), flush=True)
        printed += 1
        if printed == arguments.count:
            break
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0)
