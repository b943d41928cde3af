"""The audio role: owns the stream. While it plays, no Python runs but a heartbeat.

It is expendable: when the audio server dies under it, callbacks stop, and the supervisor kills it and starts another.
"""

from __future__ import annotations

import os
import time

from rtserver.audio import table as t
from rtserver.audio.callback import bind, stream_callback
from rtserver.audio.device import Stream, name_jack_client
from rtserver.audio.stream import begin_stream
from rtserver.events import Epoch
from rtserver.roles.role import TURN_S
from rtserver.shared.session import SECOND, Session


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
        bind(block, [self.session.waker(name).offset for name in ("engine", "engine" + SECOND)])
        self.stream = Stream(
            audio.device,
            sample_rate=audio.sample_rate,
            block_size=audio.block_size,
            channels=(int(table[t.DEVICE_IN]), int(table[t.DEVICE_OUT])),
            callback=stream_callback.address,
            user=block.address,
        )
        begin_stream(self.session, next_epoch(self.session, int(table[t.HOP_SIZE])))
        self._callbacks = int(table[t.CALLBACKS])
        self._told = False
        self.stream.start()

    def turn(self) -> bool:
        time.sleep(TURN_S)
        if not self._told and int(self.session.block["audio.table"][t.CALLBACKS]) > self._callbacks:
            self._told = True
            self._tell_epoch()
        return self.stream.active

    def _tell_epoch(self) -> None:
        """The first callbacks say when the stream's first frame came: write it down, and tell."""
        table, rows = self.session.block["audio.table"], self.session.block["audio.epochs"]
        while True:
            before = int(table[t.CLOCK_SEQUENCE])
            newest, stamp_ns = int(table[t.CLOCK_FRAME]), int(table[t.CLOCK_NS])
            if before % 2 == 0 and before == int(table[t.CLOCK_SEQUENCE]):
                break
        epoch = int(table[t.EPOCHS]) - 1
        frame = int(rows[epoch % t.EPOCH_RING, 0])
        started_ns = stamp_ns - round((newest - frame) / self.session.config.audio.sample_rate * 1e9)
        rows[epoch % t.EPOCH_RING, 1] = started_ns
        self.session.emit("audio", Epoch(frame, newest, epoch, started_ns))

    def close(self) -> None:
        if not self.stream.close():
            os._exit(1)
