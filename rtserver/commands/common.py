"""What the commands share: arguments, the configuration, JSON, progress bars."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserver.config import Config
from rtserver.show import Song, load_show

if TYPE_CHECKING:
    from tqdm import tqdm

Arguments = argparse.Namespace
Add = Callable[[str, Callable[[Arguments], int], str], argparse.ArgumentParser]  # (name, command, summary) -> the command's own parser


def add_config(sub: argparse.ArgumentParser) -> None:
    """An optional CONFIG.toml."""
    sub.add_argument("config", type=Path, nargs="?", metavar="CONFIG.toml", help="without it every setting has its default")


def add_json(sub: argparse.ArgumentParser) -> None:
    """``--json``"""
    sub.add_argument("--json", action="store_true", help="print JSON for programs")


def show_of(arguments: Arguments) -> list[Song]:
    """The songs of the configuration that was named, else one with the defaults."""
    return load_show(arguments.config) if arguments.config else [Song("rtserver", Config())]


def config_of(arguments: Arguments) -> Config:
    """The configuration that was named, of a show's first song, else the defaults."""
    return show_of(arguments)[0].config


def print_json(value: Any) -> None:
    """`value` on stdout."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def say(arguments: Arguments, message: object, code: int) -> int:
    """One line on stderr, and the exit code."""
    print(f"rtserver {arguments.name}: {message}", file=sys.stderr)
    return code


def progress(total: float | None, what: str, unit: str) -> tqdm[Any]:
    """A progress bar on stderr; silent where that is no terminal."""
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit=unit, unit_scale=True, disable=None, leave=False)
