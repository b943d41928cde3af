"""Who may pass when messages come too fast or are none: after this the rest of the server needs not fear a flood, nor odd bytes.

A token bucket says how many pass. The clock has a bucket of its own, so that a storm of controllers makes no holes in it. The release of a
key that went down in here always passes, so that no storm leaves a key down: there are no more of them than of note-ons that passed.
"""

from __future__ import annotations

from rtserver.midi.messages import NOTE_OFF, NOTE_ON, SYSTEM, well_formed

RATE = 2000.0  # messages a second that pass for long: twice what a MIDI cable can carry
BURST = 500.0  # and so many at once
MAX_SIZE = 128  # bytes of one message that fit into an event's slot


class Bucket:
    """`burst` tokens, refilled at `rate` a second; each message takes one."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self._tokens = burst
        self._at_ns = 0

    def take(self, now_ns: int) -> bool:
        """Whether there was a token at `now_ns` (any clock; one that runs backwards refills nothing)."""
        self._tokens = min(self.burst, self._tokens + max(now_ns - self._at_ns, 0) * 1e-9 * self.rate)
        self._at_ns = max(now_ns, self._at_ns)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Gate:
    """The way in of one port.

    Attributes
    ----------
    refused : int
        Messages that were too many, longer than `MAX_SIZE`, or none (`rtserver.midi.messages.well_formed`).
    """

    def __init__(self, rate: float = RATE, burst: float = BURST) -> None:
        self.refused = 0
        self._messages, self._releases, self._system = Bucket(rate, burst), Bucket(rate, burst), Bucket(rate, burst)
        self._down: set[tuple[int, int]] = set()  # (channel, pitch) of note-ons that passed, not yet released

    def passes(self, now_ns: int, message: bytes) -> bool:
        """Whether `message` may pass."""
        passes = len(message) <= MAX_SIZE and well_formed(message) and self._may(now_ns, message)
        self.refused += not passes
        return passes

    def _may(self, now_ns: int, message: bytes) -> bool:
        kind, key = message[0] & 0xF0, (message[0] & 0x0F, message[1] if len(message) > 1 else 0)
        if message[0] > SYSTEM:
            return self._system.take(now_ns)
        if kind == NOTE_OFF or (kind == NOTE_ON and message[2] == 0):
            if key in self._down:
                self._down.remove(key)
                return True
            return self._releases.take(now_ns)
        passes = self._messages.take(now_ns)
        if passes and kind == NOTE_ON:
            self._down.add(key)
        return passes
