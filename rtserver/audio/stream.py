"""The start of a stream: where a session goes on after its audio has stopped."""

from __future__ import annotations

import time

from rtserver.audio import table as t
from rtserver.shared.ring import SampleRing
from rtserver.shared.session import Session


def begin_stream(session: Session, frame: int) -> None:
    """Set the session on its next epoch, which begins at `frame`. What was lost is silence: no delay may reach back into older sound."""
    table = session.block["audio.table"]
    if frame:
        for name in ("input", "played"):
            ring = SampleRing.of(session.block, name)
            ring.samples[:] = 0.0
            ring.restart(frame)
    epoch = int(table[t.EPOCHS])
    session.block["audio.epochs"][epoch % t.EPOCH_RING] = (frame, time.monotonic_ns())
    table[t.EPOCHS] = epoch + 1
    table[t.FRAME] = frame
    table[t.LAST_NS] = 0
