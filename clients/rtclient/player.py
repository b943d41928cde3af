"""The thread that plays raw MIDI: takes what the client hears, and sends each message when it is due."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .port import Port
from .sequencer import FAMILY, LATE_S, Arrival, Sequencer

CLICK = FAMILY + "click"
TURN_S = 0.03  # it waits at most this long: the port's guardian lets go when it hears nothing for 0.2 s


class Player:
    """Plays the server's raw MIDI on a port of this machine. Hand it to a `Client` as `player`.

    Parameters
    ----------
    port : Port
        Opened already; from now on the player's alone.
    parts : sequence of str or None
        Whose notes; None: everybody's but the click's, which is for the players' ears alone.
    channels, late_s, offset_s
        As `Sequencer` has them.
    """

    def __init__(
        self,
        port: Port,
        parts: Sequence[str] | None = None,
        channels: Mapping[int, int] | None = None,
        late_s: float = LATE_S,
        offset_s: float = 0.0,
    ) -> None:
        self.port, self.parts = port, parts
        self.sequencer = Sequencer((), channels or {}, late_s, offset_s)
        self._changed = threading.Condition()
        self._stopped = False
        self.error: Exception | None = None  # what ended the thread
        self._thread = threading.Thread(target=self._run, name="player", daemon=True)
        self._thread.start()

    def topics(self, offered: Sequence[str]) -> list[str]:
        """What to subscribe to, where the server offers these topics of raw MIDI."""
        topics = [FAMILY + part for part in self.parts] if self.parts is not None else [topic for topic in offered if topic != CLICK]
        with self._changed:
            self.sequencer.topics = topics
        return topics

    def take(self, topic: str, header: list[Any], payload: Any, arrival: Arrival) -> None:
        """A message, as `Sequencer.take` has it; called by the client's reader."""
        with self._changed:
            self.sequencer.take(topic, header, payload, arrival)
            self._changed.notify()

    def status(self) -> dict[str, Any]:
        """Counts, what sounds, and the port."""
        with self._changed:
            counts, sounding = self.sequencer.counts.map(), len(self.sequencer.held)
        port = self.port
        return {**counts, "sounding": sounding, "port": port.plays, "connected": port.connected, "port_lost": port.lost, "why": port.reason}

    def close(self) -> None:
        """Let go of every note and take the port away."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._play()
        except Exception as error:  # whoever asks must be told; the guardian lets go of what sounds
            self.error = error
        self.port.close()

    def _play(self) -> None:
        while not self._stopped:
            now_ns = time.monotonic_ns()
            if not self.port.turn(now_ns * 1e-9):
                with self._changed:
                    self.sequencer.release(now_ns)
            with self._changed:
                messages = self.sequencer.due(time.monotonic_ns())
            if messages:
                self.port.send(messages)
                continue
            with self._changed:
                next_ns = self.sequencer.next_ns
                left_s = TURN_S if next_ns is None else min((next_ns - time.monotonic_ns()) * 1e-9, TURN_S)
                if left_s > 0 and not self._stopped:
                    self._changed.wait(left_s)
        now_ns = time.monotonic_ns()
        self.sequencer.release(now_ns)
        self.port.send(self.sequencer.due(now_ns))
