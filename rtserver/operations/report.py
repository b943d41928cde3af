"""What was looked at, what was found, what was expected, what to do: the form in which doctor, check and calibrate report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

State = Literal["ok", "warn", "fail"]

MARKS: dict[State, str] = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


class Check(msgspec.Struct, frozen=True):
    """One thing looked at. `remedy` is empty where nothing needs doing, `expected` where `found` says all there is to say."""

    name: str
    state: State
    found: str
    remedy: str = ""
    expected: str = ""


def describe(checks: Iterable[Check]) -> str:
    """`checks` for people."""
    lines: list[str] = []
    for check in checks:
        lines.append(f"{MARKS[check.state]}  {check.name}: {check.found}")
        if check.state != "ok" and check.expected:
            lines.append(f"      expected: {check.expected}")
        if check.remedy:
            lines.append(f"      → {check.remedy}")
    return "\n".join(lines)


def failed(checks: Iterable[Check]) -> list[str]:
    """Names of what failed."""
    return [check.name for check in checks if check.state == "fail"]
