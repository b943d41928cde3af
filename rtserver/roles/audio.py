"""The audio role: owns the stream. While it plays, no Python runs but a heartbeat.

It is expendable: when the audio server dies under it, callbacks stop, and the supervisor kills it and starts another.
"""

from __future__ import annotations

import os
import time

from rtserver.audio import table as t
from rtserver.audio.callback import bind, stream_callback
from rtserver.audio.device import Stream, name_jack_client
from rtserver.roles.role import TURN_S
from rtserver.shared.ring import SampleRing
from rtserver.shared.session import Session


def next_epoch(session: Session, hop_size: int) -> int:
    """The session frame at which a new stream starts: where the last one would be now, on the grid of hops."""
    table = session.block["audio.table"]
    if table[t.CALLBACKS] == 0:
        return 0
    lost = (time.monotonic_ns() - int(table[t.CLOCK_NS])) * 1e-9 * session.config.audio.sample_rate
    frame = int(table[t.CLOCK_FRAME]) + max(0, round(lost))
    return -(-frame // hop_size) * hop_size


class AudioRole:
    """Opens the device with the native callback and watches nothing but its own stream."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def prepare(self) -> None:
        audio = self.session.config.audio
        block = self.session.block
        table = block["audio.table"]
        name_jack_client(audio.client_name or self.session.config.name)
        bind(block, self.session.waker("engine").offset)
        self.stream = Stream(
            audio.device,
            sample_rate=audio.sample_rate,
            block_size=audio.block_size,
            channels=(int(table[t.DEVICE_IN]), int(table[t.DEVICE_OUT])),
            callback=stream_callback.address,
            user=block.address,
        )
        frame = next_epoch(self.session, int(table[t.HOP_SIZE]))
        if frame:
            SampleRing(block, "input").restart(frame)
        table[t.FRAME] = frame
        table[t.LAST_NS] = 0
        self.stream.start()

    def turn(self) -> bool:
        time.sleep(TURN_S)
        return self.stream.active

    def close(self) -> None:
        if not self.stream.close():
            os._exit(1)
