"""The command line. Exit codes: 0 done, 1 failed with one clear line on stderr, 2 bad usage or bad configuration.

The commands themselves are in ``rtserver/commands/``. Nothing heavy is imported before the command that needs it: ``rtserver --help``
answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from rtserver import __version__
from rtserver.commands import files, keys, live, machine, models, remote, show
from rtserver.commands.common import Arguments, say
from rtserver.errors import ConfigError, RtserverError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    arguments = parser().parse_args(argv)
    command: Callable[[Arguments], int] = arguments.command
    try:
        return command(arguments)
    except ConfigError as error:
        return say(arguments, error, 2)
    except (RtserverError, OSError) as error:
        return say(arguments, error, 1)
    except KeyboardInterrupt:
        return say(arguments, "interrupted", 1)


def parser() -> argparse.ArgumentParser:
    """All commands and their arguments."""
    top = argparse.ArgumentParser(
        prog="rtserver", description="Low-latency real-time audio server: separates, follows the score and plays along.", allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=f"rtserver {__version__}")
    commands = top.add_subparsers(dest="name", metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[Arguments], int], summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".", allow_abbrev=False)
        sub.set_defaults(command=command)
        return sub

    for module in (live, files, show, machine, models, remote, keys):
        module.register(add)
    return top
