"""Commands that speak to a running server: monitor, panic."""

from __future__ import annotations

import argparse
import json
import sys

from rtserver.commands.common import Add, Arguments, add_config, add_json, config_of, print_json

FRAME_S = 0.1  # ten pictures a second: what moves faster is not read, only paid for
JSON_S = 1.0


def register(add: Add) -> None:
    """Their arguments."""
    sub = add("monitor", monitor, "show what a running server does: levels, lateness, roles, position")
    _add_server(sub)
    sub.add_argument("--count", type=int, default=0, metavar="N", help="end after N pictures (default: never)")
    add_json(sub)

    sub = add("panic", panic, "end every note that a running server has sounding")
    _add_server(sub)
    add_json(sub)


def _add_server(sub: argparse.ArgumentParser) -> None:
    add_config(sub)
    sub.add_argument("--control", metavar="ENDPOINT", help="control endpoint of the server (default: the configuration's wire.control)")
    sub.add_argument("--name", metavar="NAME", dest="server", default="", help="the name that the server must have")


def _control(arguments: Arguments) -> str:
    return arguments.control or config_of(arguments).wire.control


def monitor(arguments: Arguments) -> int:
    """``rtserver monitor``"""
    from rtserver.monitor.screen import Screen
    from rtserver.monitor.source import Source
    from rtserver.monitor.view import lines

    source = Source(_control(arguments), arguments.server)
    shown = 0
    try:
        if arguments.json or not sys.stdout.isatty():
            while not arguments.count or shown < arguments.count:
                picture = source.look(JSON_S)
                print(json.dumps(picture.to_json()) if arguments.json else "\n".join([*lines(picture), ""]), flush=True)
                shown += 1
            return 0
        with Screen(sys.stdout) as screen:
            while not arguments.count or shown < arguments.count:
                screen.show(lines(source.look(FRAME_S)))
                shown += 1
    except (KeyboardInterrupt, BrokenPipeError):  # how one leaves a monitor
        return 0
    finally:
        source.close()
    return 0


def panic(arguments: Arguments) -> int:
    """``rtserver panic``"""
    from rtserver.wire.client import Client

    client = Client(_control(arguments), "panic", arguments.server)
    try:
        done = client.ask("panic")
        client.ask("sync")  # answered when the roles have taken it
    finally:
        client.close()
    if arguments.json:
        print_json({"server": client.hello["server"], **done})
    else:
        print(f"{client.hello['server']}: every note off")
    return 0
