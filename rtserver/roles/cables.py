"""The cables role: keeps the audio stream's JACK connections, and tells when JACK's rate or period changes.

The audio role cannot: it runs no Python while it plays, and a process with two JACK clients that is killed holds jackd up twice. Where
no JACK server answers this role waits for one. (The MIDI ports have keepers of their own: `rtserver.midi.patchbay`.)
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rtserver.audio import connections
from rtserver.audio import table as t
from rtserver.errors import DeviceError
from rtserver.events import Device
from rtserver.midi.links import jack_client
from rtserver.midi.ports import keep_for_ever
from rtserver.reblock import burst_latency
from rtserver.roles.role import TURN_S
from rtserver.shared.session import PID, STATE, UP, Session

if TYPE_CHECKING:
    import jack

FILE = "audio-connections.json"  # in the run folder
LOOK_S = 0.25  # how often connections are looked at: one look takes about 0.5 ms
RESTORE_S = 0.02  # how often, while a stream is being opened
RETRY_S = 0.25  # how often a missing JACK server is looked for


class CablesRole:
    """Watches one stream after the other."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.file = session.run_folder / FILE
        self.kept = connections.load(self.file)
        self.client: jack.Client | None = None
        self.gone = False
        self._saved = connections.Kept()
        self._look_s = 0.0
        self._device = (0, 0)

    def prepare(self) -> None:
        self.session.block["counters.cables"][:] = 0
        self._open()

    def turn(self) -> bool:
        if self.gone:
            raise DeviceError("the JACK server behind the audio ports is gone")
        audio = self.session.role("audio")
        playing, pid = int(audio[STATE]) == UP, int(audio[PID])
        time.sleep(TURN_S if playing else RESTORE_S)
        now_s = time.monotonic()
        if self.client is None:
            if now_s >= self._look_s:
                self._look_s = now_s + RETRY_S
                self._open()
            return True
        if not playing:
            self._restore(exactly=False)
        elif pid != self.kept.pid:
            self._restore(exactly=True)
            self.kept.pid = pid
            self._look_s = now_s
        if playing and now_s >= self._look_s:
            self._look_s = now_s + LOOK_S
            self._look()
        self._tell_device()
        return True

    def close(self) -> None:
        if self.client is None:
            return
        if self.gone:
            keep_for_ever(self.client)
        else:
            self.client.close()

    def _open(self) -> None:
        config = self.session.config
        self.client = jack_client(f"{config.name}-cables")
        if self.client is not None:
            self.client.set_shutdown_callback(self._on_shutdown)
            self.connections = connections.Connections(self.client, config.audio.client_name or config.name, self.kept)
            self._tell_device()

    def _restore(self, exactly: bool) -> None:
        if self.kept.peers:
            self.session.count("cables", "restored", self.connections.restore(exactly))

    def _look(self) -> None:
        self.connections.look()
        self.session.count("cables", "looks")
        self.kept.peers = self.connections.peers
        if self.kept != self._saved:
            self._saved = connections.Kept(self.kept.pid, self.kept.peers)
            connections.save(self.file, self._saved)

    def _tell_device(self) -> None:
        assert self.client is not None
        device = (int(self.client.samplerate), int(self.client.blocksize))
        if device == self._device or not all(device):
            return
        self._device = device
        sample_rate, period = device
        audio = self.session.config.audio
        added = burst_latency(period, audio.block_size)
        self.session.block["audio.table"][t.EXTRA_DELAY] = added
        frame = self.session.frame
        self.session.emit("cables", Device(frame, frame, sample_rate, period, added))
        if sample_rate != audio.sample_rate:
            self._warn(f"JACK runs at {sample_rate} Hz, the session at {audio.sample_rate}: no sound until they are alike")
        elif period != audio.block_size:
            lag = f"; the separated outputs lag {added} frames more than planned" if added else ""
            self._warn(f"JACK's period is {period}, audio.block_size {audio.block_size}{lag}; set them alike for the least latency")

    def _warn(self, message: str) -> None:
        print(f"rtserver cables: {message}", file=sys.stderr, flush=True)

    def _on_shutdown(self, _status: object, _reason: str) -> None:
        self.gone = True
