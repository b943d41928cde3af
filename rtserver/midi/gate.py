"""Who may pass when messages come too fast: a token bucket, after which the rest of the server needs not fear a flood.

Note-offs and clock have buckets of their own, so that a storm of controllers neither leaves a key down nor makes holes in the clock.
"""

from __future__ import annotations

from rtserver.midi.messages import NOTE_OFF, NOTE_ON

RATE = 2000.0  # messages a second that pass for long: twice what a MIDI cable can carry
BURST = 500.0  # and so many at once
SYSTEM = 0xF0
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
        Messages that were too many, empty, or longer than `MAX_SIZE`.
    """

    def __init__(self, rate: float = RATE, burst: float = BURST) -> None:
        self.refused = 0
        self._messages, self._releases, self._system = Bucket(rate, burst), Bucket(rate, burst), Bucket(rate, burst)

    def passes(self, now_ns: int, message: bytes) -> bool:
        """Whether `message` may pass."""
        passes = 0 < len(message) <= MAX_SIZE and self._bucket(message).take(now_ns)
        self.refused += not passes
        return passes

    def _bucket(self, message: bytes) -> Bucket:
        if message[0] > SYSTEM:
            return self._system
        kind = message[0] & 0xF0
        is_release = kind == NOTE_OFF or (kind == NOTE_ON and len(message) > 2 and message[2] == 0)
        return self._releases if is_release else self._messages
