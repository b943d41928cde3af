"""What the mixer did, as events: reads the kernel's log. Whoever tells the world of it keeps the place up to which it was read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rtserver.audio import table as t
from rtserver.events import Absent, Change, Click, Event, Lag, Miss
from rtserver.shared.memory import Block


def unread(block: Block, deck: int, outputs: Sequence[str]) -> Iterator[Event]:
    """What happened to the outputs of a deck since the last look, by whoever looked: it is kept in the table. One reader a deck."""
    table, log = block["audio.table"], block["audio.log"]
    place = t.DECKS + deck * t.DECK_WIDTH + t.LOG_READ
    written = int(table[t.LOG_WRITTEN])
    for k in range(max(int(table[place]), written - t.LOG_RING), written):
        row = log[k % t.LOG_RING]
        kind, output, frame, value = (int(v) for v in row)
        owner, index = divmod(output, t.MAX_OUTPUTS)
        if owner != deck:
            continue
        if kind == t.LOG_MISS:
            yield Miss(frame, frame + value, outputs[index], value)
        elif kind == t.LOG_ABSENT:
            yield Absent(frame, frame + value, outputs[index], value)
        elif kind == t.LOG_CLICK:
            yield Click(frame, frame, value % t.ACCENT, value >= t.ACCENT)
        elif kind == t.LOG_LAG:
            yield Lag(frame, frame, value)
        else:
            yield Change(frame, frame, outputs[index], t.KEYS[kind - t.LOG_LEVEL], float(row[3:].view(np.float32)[0]))
    table[place] = written


def unfinished(block: Block, deck: int, outputs: Sequence[str]) -> Iterator[Event]:
    """Absences that still last."""
    table = block["audio.table"]
    now = int(table[t.FRAME])
    for k, name in enumerate(outputs):
        since = int(table[t.OUTPUTS + (deck * t.MAX_OUTPUTS + k) * t.OUTPUT_WIDTH + t.ABSENT_FROM])
        if 0 <= since < now:
            yield Absent(since, now, name, now - since)
