"""The sections `recording`, `metrics` and `log`: what is kept of a session, and who may count along."""

from __future__ import annotations

from typing import Literal

import msgspec

from rtserver.config.bounds import within
from rtserver.config.wire import LOCAL
from rtserver.errors import ConfigError


class Recording(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a session goes to disk, each recording into a folder of its own within `folder`. An empty folder records nothing."""

    folder: str = ""
    input: bool = True  # every channel of the device up to the last one in use
    played: bool = True  # what went to the device
    events: bool = True
    format: Literal["wav", "flac"] = "wav"  # wav: 32-bit float, bit for bit, 23 MB a minute in stereo at 48 kHz; flac: 24 bits, in segments
    start: bool = True  # with the session; otherwise when a client says so


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counters for Prometheus, in plain HTTP without passwords: on this machine only. Needs the extra `metrics`."""

    port: int = 0  # 0: none are served
    bind: str = "127.0.0.1"


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What happened, line by line, in a file; a relative path counts from the configuration file. Needs the wire: the gateway writes it.

    level : debug adds every note, position and counter. format : json is one object a line, text is for people.
    """

    file: str = ""  # empty: none is written
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"
    max_bytes: int = 10_000_000  # then the file is renamed FILE.1 and a new one begun
    keep: int = 5  # renamed files; older ones are deleted


def check_metrics(metrics: Metrics) -> None:
    """Raises `ConfigError` with the path of the field."""
    within("metrics.port", metrics.port, 0, 65535)
    if not LOCAL.fullmatch(f"tcp://{metrics.bind}:1"):
        remedy = "stay on 127.0.0.1 and let a proxy that knows passwords pass it on"
        raise ConfigError("metrics.bind", f"{metrics.bind!r} is open to other machines, and metrics ask for no keys: {remedy}")


def check_log(log: Log, wired: bool) -> None:
    """Raises `ConfigError` with the path of the field. `wired`: whether there is a gateway."""
    within("log.max_bytes", log.max_bytes, 10_000, 10_000_000_000)
    within("log.keep", log.keep, 0, 1000)
    if log.file and not wired:
        raise ConfigError("log.file", "expected wire.enabled = true beside it: the gateway writes the log")
