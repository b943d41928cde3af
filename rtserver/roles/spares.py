"""Spares: processes that wait, their code loaded, to play a role when the present one dies."""

from __future__ import annotations

import subprocess


def call(spare: subprocess.Popen[bytes] | None) -> subprocess.Popen[bytes] | None:
    """Let a spare play; None if there is none, or none that lives."""
    if spare is None or spare.stdin is None or spare.poll() is not None:
        return None
    try:
        spare.stdin.write(b"\n")
        spare.stdin.close()
    except OSError:
        return None
    return spare


def dismiss(spare: subprocess.Popen[bytes] | None) -> None:
    """A spare that is not needed any more ends when its standard input does; it holds nothing, so a hung one is killed."""
    if spare is None or spare.stdin is None:
        return
    spare.stdin.close()
    try:
        spare.wait(0.2)
    except subprocess.TimeoutExpired:
        spare.kill()
        spare.wait()
