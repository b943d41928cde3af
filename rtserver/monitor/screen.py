"""A terminal on which only the lines that changed are written. Plain ANSI: five codes that every terminal knows."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TextIO

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[2J", "\x1b[?25h\x1b[?1049l"  # another screen without cursor; back
CLEAR_LINE = "\x1b[2K"


def changes(before: Sequence[str], after: Sequence[str]) -> str:
    """What to write so that a terminal that shows `before` shows `after`."""
    written: list[str] = []
    for row in range(max(len(before), len(after))):
        old = before[row] if row < len(before) else ""
        new = after[row] if row < len(after) else ""
        if old != new:
            written.append(f"\x1b[{row + 1};1H{CLEAR_LINE}{new}")
    return "".join(written)


class Screen:
    """Use it in a `with`: the terminal is left as it was."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown: list[str] = []
        self._size = (0, 0)

    def __enter__(self) -> Screen:
        self._out.write(ENTER)
        return self

    def __exit__(self, *_: object) -> None:
        self._out.write(LEAVE)
        self._out.flush()

    def show(self, lines: Sequence[str]) -> None:
        """Show `lines`, cut to the terminal's size."""
        size = shutil.get_terminal_size()
        if size != self._size:
            self._out.write("\x1b[2J")
            self._shown, self._size = [], size
        fitting = [line[: size[0]] for line in lines[: size[1]]]
        change = changes(self._shown, fitting)
        if change:
            self._out.write(change)
            self._out.flush()
        self._shown = fitting
