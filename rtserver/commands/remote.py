"""Commands that speak to a running server: monitor, panic."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rtserver.commands.common import Add, Arguments, add_config, add_json, config_of, print_json
from rtserver.errors import RtserverError

if TYPE_CHECKING:
    from rtserver.wire.client import Client

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
    sub.add_argument("--name", metavar="NAME", dest="server", default="", help="name of the server; one on this machine is found by it")
    sub.add_argument("--control", metavar="ENDPOINT", help="control endpoint of the server (default: the configuration's wire.control)")
    sub.add_argument("--key", type=Path, metavar="FILE", help="this client's secret key, where the server asks for keys")
    sub.add_argument("--server-key", type=Path, metavar="FILE", help="the server's public key; one on this machine says it by itself")


def _client(arguments: Arguments) -> Client:
    """The server that was named: by its endpoint, by a configuration, or by its name alone."""
    from rtserver.wire import discovery, security
    from rtserver.wire.client import Client

    control, server_key = arguments.control, b""
    if arguments.server and not control and not arguments.config:
        notice = discovery.read(arguments.server)
        control, server_key = notice.endpoints["control"], notice.public_key.encode()
    if arguments.server_key:
        server_key = security.read_public(arguments.server_key)
    keys = security.read_pair(arguments.key) if arguments.key else None
    if server_key and keys is None:
        raise RtserverError("the server asks for keys: name this client's own with --key; `rtserver keys new` makes one")
    control = control or config_of(arguments).wire.control
    return Client(control, arguments.name, arguments.server, server_key=server_key, keys=keys)


def monitor(arguments: Arguments) -> int:
    """``rtserver monitor``"""
    from rtserver.monitor.screen import Screen
    from rtserver.monitor.source import Source
    from rtserver.monitor.view import lines

    source = Source(_client(arguments))
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
    client = _client(arguments)
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
