"""Commands that play: run, demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rtserver.commands.common import Add, Arguments, add_config, show_of
from rtserver.errors import DeviceError

if TYPE_CHECKING:
    from rtserver.roles.supervisor import Supervisor


def register(add: Add) -> None:
    """Their arguments."""
    sub = add("run", run, "run live: audio device (or JACK), MIDI ports, ZeroMQ; Ctrl-C ends it and leaves no note sounding")
    add_config(sub)

    sub = add("demo", demo, "play the built-in piece into a live server and show what it does")
    sub.add_argument(
        "-o", "--output", type=Path, default=Path("demo-output"), metavar="DIR", help="folder for the results (default: %(default)s)"
    )


def run(arguments: Arguments) -> int:
    """``rtserver run``"""
    if sys.platform == "win32":
        raise DeviceError("Windows is not supported: the roles meet in memory and semaphores that it does not have")
    from rtserver.devices import find, require
    from rtserver.roles.supervisor import run as run_server

    songs = show_of(arguments)
    config = songs[0].config
    # Later a missing device is waited for; at the start it is a mistake.
    found = find()
    require(found, config.audio.device, config.audio.client_name or config.name)
    announced = False

    def announce(supervisor: Supervisor) -> bool:
        nonlocal announced
        if not announced and supervisor.ready:
            announced = True
            outputs = ", ".join(f"{o.name} {o.latency / config.audio.sample_rate * 1e3:.1f} ms" for o in supervisor.plan.outputs)
            control = f"; control at {config.wire.control}" if config.wire.enabled else ""
            print(f"rtserver: {config.name} is up: {outputs}{control}; Ctrl-C ends it", flush=True)
        return True

    return run_server(songs, announce, lambda: show_of(arguments))


def demo(arguments: Arguments) -> int:
    """``rtserver demo``"""
    from rtserver.demo.show import run as show

    return show(arguments.output)
