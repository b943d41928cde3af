"""Prints what a running rtserver says. Needs pyzmq and msgspec, nothing of rtserver.

    python clients/listen.py [--topics position note ...] [--json] [--count N] [--control ENDPOINT | --name NAME]

It joins without losing anything, reports every message that it lost, and a server that falls silent; `rtclient` beside it does the work.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time

from rtclient import DEFAULT, Client


def line(topic: str, header: list | None, payload: dict | bytes) -> str:
    if header and isinstance(payload, bytes):  # raw MIDI
        return f"{header[4]:>12} {topic:<10} {payload.hex(' ')} {header[10]} note_id={header[8]} duration_s={header[9] / 1e9:.3f}"
    rest = {key: value for key, value in payload.items() if key not in {"kind", "frame", "available_frame"}}
    values = " ".join(f"{key}={value:.3f}" if isinstance(value, float) else f"{key}={value}" for key, value in rest.items())
    return f"{payload.get('frame', ''):>12} {topic:<10} {values}"


def spelt(value: object) -> str:
    """What JSON has no word for: bytes of MIDI in hexadecimal."""
    return value.hex(" ") if isinstance(value, bytes) else repr(value)


def main() -> int:
    parser = argparse.ArgumentParser(description="Print what a running rtserver says.")
    parser.add_argument("--control", default=DEFAULT, help="control endpoint of the server (default: %(default)s)")
    parser.add_argument("--name", default="", help="instead, the name of a server on this machine")
    parser.add_argument("--topics", nargs="+", default=[], help="only these, for example position note_on (default: all)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--count", type=int, default=0, help="end after so many lines (default: never)")
    parser.add_argument("--server-key", default="", metavar="FILE", help="the server's public key, where it asks for keys")
    parser.add_argument("--key", default="", metavar="FILE", help="the secret key of this client")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell started us in the background
    keys = {"server_key": arguments.server_key, "key": arguments.key}
    with Client(arguments.control, server=arguments.name, topics=arguments.topics or None, name="listen", **keys) as client:
        while not client.wait(1.0):
            print(f"listen: waiting for a server at {arguments.name or arguments.control}", file=sys.stderr, flush=True)
        known = [*client.hello["topics"], *client.hello.get("midi_topics", [])]
        if unknown := {topic for topic in arguments.topics if topic not in known and not topic.startswith("midi.")}:
            raise SystemExit(f"listen: no topic {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        printed = 0
        for topic, header, payload in client.messages():
            if topic in ("heartbeat", "meters") and not arguments.topics:
                continue  # ten and twenty a second tell little to the eye; --topics shows them
            if arguments.json:
                age_s = (time.monotonic_ns() + client.offset_ns()[0] - header[6]) / 1e9 if header else None
                print(json.dumps({"topic": topic, "header": header, "age_s": age_s, "payload": payload}, default=spelt), flush=True)
            else:
                print(line(topic, header, payload), flush=True)
            printed += 1
            if printed == arguments.count:
                break
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0)
