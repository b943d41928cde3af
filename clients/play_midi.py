"""Plays what a running rtserver plays, on a MIDI port of this machine. Needs pyzmq, msgspec and python-rtmidi, nothing of rtserver.

    python clients/play_midi.py [--connect NAME] [--parts performer ...] [--control ENDPOINT | --name NAME]

It plays the raw MIDI of the server (topics ``midi.PART``, docs/protocol.md), each message at its own due time on this machine's clock, as
exact as the server's is known: half the shortest round trip, which it prints. Without --connect there is a port of its own for any
patchbay (JACK, ALSA, CoreMIDI). It keeps playing when the server, the network or the MIDI system goes and comes back, and no note sounds
more than 0.3 s after any of them, or this program itself, has died.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from typing import Any

from rtclient import DEFAULT, LATE_S, Client, Player, Port, PortError, ServerError

HUMAN_S = 10.0  # people read slower than programs


def channel_map(text: str) -> tuple[int, int]:
    """``1=3``: channels from 1."""
    there, _, here = text.partition("=")
    if not (there.isdigit() and here.isdigit() and 1 <= int(there) <= 16 and 1 <= int(here) <= 16):
        raise argparse.ArgumentTypeError(f"expected CHANNEL=CHANNEL, each 1 to 16, as in 1=3; got {text!r}")
    return int(there) - 1, int(here) - 1


def seconds(low: float, high: float) -> Any:
    """A number of seconds within bounds."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {low:g} to {high:g} seconds, got {text!r}")
        return value

    return parse


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Play a running rtserver's notes on a MIDI port of this machine.")
    parser.add_argument("--control", default=DEFAULT, help="control endpoint of the server (default: %(default)s)")
    parser.add_argument("--name", default="", help="instead, the name of a server on this machine")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="only these, for example performer click (default: all but the click)")
    parser.add_argument("--connect", default="", metavar="NAME", help="the port to play on, by part of its name; it is waited for")
    parser.add_argument("--api", default="auto", choices=["auto", "jack", "alsa", "coremidi"], help="MIDI system (default: %(default)s)")
    parser.add_argument("--client", default="play_midi", metavar="NAME", help="what our own port's owner is called (default: %(default)s)")
    parser.add_argument("--channel", action="append", default=[], type=channel_map, metavar="1=3", help="play channel 1 on channel 3")
    parser.add_argument("--offset", type=seconds(-1, 1), default=0.0, metavar="S", help="play everything so much later; below 0 earlier")
    parser.add_argument("--late", type=seconds(0, 10), default=LATE_S, metavar="S", help="leave out notes later than this (%(default)s)")
    parser.add_argument("--json", action="store_true", help="a status line as JSON once a second")
    parser.add_argument("--server-key", default="", metavar="FILE", help="the server's public key, where it asks for keys")
    parser.add_argument("--key", default="", metavar="FILE", help="the secret key of this client")
    return parser.parse_args()


def say(text: str) -> None:
    print(f"play_midi: {text}", file=sys.stderr, flush=True)


class Reporter:
    """Says what changes, and how it goes."""

    def __init__(self, as_json: bool, client: Client, player: Player) -> None:
        self._json, self._client, self._player = as_json, client, player
        self._due_s = 0.0
        self._port = True
        self.server = False  # whether it is heard

    def status(self) -> dict[str, Any]:
        offset_ns, error_ns = self._client.offset_ns()
        known = error_ns < float("inf")
        clock = {"clock_offset_s": offset_ns / 1e9 if known else None, "clock_error_s": error_ns / 1e9 if known else None}
        return {"server": self.server, **clock, **self._player.status()}

    def turn(self, now_s: float) -> None:
        status = self.status()
        if status["port"] != self._port:
            self._port = status["port"]
            say(f"the port is there: {status['connected'] or 'connect it'}" if self._port else status["why"] or "waiting for the port")
            self._due_s = 0.0
        if now_s < self._due_s:
            return
        self._due_s = now_s + (1.0 if self._json else HUMAN_S)
        if self._json:
            print(json.dumps(status), flush=True)
        elif self.server:
            say(self.summary(status))

    def summary(self, status: dict[str, Any]) -> str:
        error = "" if status["clock_error_s"] is None else f"; the server's clock is known to {status['clock_error_s'] * 1e3:.2f} ms"
        parts = [f"{status['played']} notes"]
        parts += [f"{status[key]} {key}" for key in ("late", "dropped", "cut", "expired", "lost", "port_lost") if status[key]]
        return ", ".join(parts) + error


def main() -> int:
    given = arguments()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    port = Port(given.api, given.client, given.connect)
    try:
        port.open()
    except PortError as error:
        raise SystemExit(f"play_midi: {error}") from None
    player = Player(port, given.parts, dict(given.channel), given.late, given.offset)
    keys = {"server_key": given.server_key, "key": given.key}
    try:
        client = Client(given.control, server=given.name, topics=[], name="play_midi", player=player, **keys)
    except (OSError, ValueError) as error:
        player.close()
        raise SystemExit(f"play_midi: keys: {error}") from None
    reporter = Reporter(given.json, client, player)
    try:
        return play(given, client, player, reporter, stopped)
    except ServerError as error:
        say(f"the server refuses: {error}")
        return 1
    finally:
        player.close()  # first: what sounds is let go of while the server is still heard
        client.close()
        if not given.json:
            say(f"{reporter.summary(reporter.status())}; the longest delay {player.sequencer.counts.late_ns_max / 1e6:.1f} ms")


def play(given: argparse.Namespace, client: Client, player: Player, reporter: Reporter, stopped: threading.Event) -> int:
    waited_s = time.monotonic()
    while not stopped.is_set() and not client.wait(0.1):
        if time.monotonic() - waited_s > 1.0:
            waited_s = time.monotonic()
            say(f"waiting for a server at {given.name or given.control}")
        reporter.turn(time.monotonic())
    if not stopped.is_set():
        offered = client.hello.get("midi_topics")
        if offered is None:
            say(f"the server (release {client.hello['release']}) is too old to send raw MIDI")
            return 1
        known = [topic.partition(".")[2] for topic in offered]
        if unknown := set(given.parts or ()) - set(known):
            say(f"the server knows no part {', '.join(sorted(unknown))} (it has {', '.join(known)}); it is listened for all the same")
    while not stopped.is_set():
        for topic, _, _ in client.messages(0.1):
            if topic == "snapshot":
                reporter.server = True
                say(f"playing what {client.hello['server']} plays")
            elif topic == "silence":
                reporter.server = False
                say("the server is silent: what sounded was let go; waiting for it")
        if player.error is not None:
            raise player.error
        reporter.turn(time.monotonic())
    return 0


if __name__ == "__main__":
    sys.exit(main())
