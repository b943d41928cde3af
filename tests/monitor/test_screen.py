"""Only what changed is written."""

from __future__ import annotations

import io
import re

from hypothesis import given
from hypothesis import strategies as st

from rtserver.monitor.screen import ENTER, LEAVE, Screen, changes

TEXTS = st.lists(st.text("abc ", max_size=5), max_size=6)


def terminal(before: list[str], written: str) -> list[str]:
    """A terminal that knows two codes: go to a row, clear it."""
    rows = dict(enumerate(before))
    for row, text in re.findall(r"\x1b\[(\d+);1H\x1b\[2K([^\x1b]*)", written):
        rows[int(row) - 1] = text
    return [rows.get(row, "") for row in range(max(rows, default=-1) + 1)]


@given(TEXTS, TEXTS)
def test_after_the_changes_the_terminal_shows_the_new_lines(before: list[str], after: list[str]) -> None:
    seen = terminal(before, changes(before, after))
    n_rows = max(len(before), len(after))
    assert seen + [""] * (n_rows - len(seen)) == after + [""] * (n_rows - len(after))


@given(TEXTS)
def test_nothing_is_written_for_what_is_there(lines: list[str]) -> None:
    assert changes(lines, lines) == ""


def test_the_terminal_is_left_as_it_was() -> None:
    out = io.StringIO()
    with Screen(out) as screen:
        screen.show(["one"])
        screen.show(["one"])
    written = out.getvalue()
    assert written.startswith(ENTER)
    assert written.endswith(LEAVE)
    assert written.count("one") == 1
