"""Which keys and pedals of an input port are down, and what lets go of them when nobody is left to say it.

A keyboard whose cable is pulled says nothing of the keys that it held; whoever listens would believe in them for ever. So the midi role
keeps a table of each input port and, when the port at the other end has gone, says what the keyboard would have said. The tables lie in
shared memory: a midi role that takes a dead one's place lets go of what its predecessor had heard, for the releases may have come between.
"""

from __future__ import annotations

from rtserver.midi.messages import CONTROL, N_CHANNELS, NOTE_OFF, NOTE_ON, note_off
from rtserver.node import Array

KEY, PEDAL = 1, 2  # bits of a cell: the key of that pitch is down, the pedal of that controller number is
PEDALS = range(64, 70)  # sustain, portamento, sostenuto, soft, legato, hold 2: the controllers that are switches
PRESSED = 64  # their value from which they are on


class KeysDown:
    """The keys and pedals of one input port.

    Parameters
    ----------
    cells : Array
        uint8 ``(16 channels, 128)``, bits `KEY` and `PEDAL`; shared, and written by this object alone.
    """

    def __init__(self, cells: Array) -> None:
        self.cells = cells

    def take(self, message: bytes) -> None:
        """A message has come in; it is well formed."""
        kind = message[0] & 0xF0
        if kind in (NOTE_OFF, NOTE_ON):
            self._put(message, KEY, kind == NOTE_ON and message[2] > 0)
        elif kind == CONTROL and message[1] in PEDALS:
            self._put(message, PEDAL, message[2] >= PRESSED)

    def let_go(self) -> list[bytes]:
        """The messages that end what is down, which is then up."""
        messages: list[bytes] = []
        for channel in range(N_CHANNELS):
            for number in self.cells[channel].nonzero()[0].tolist():
                cell = int(self.cells[channel, number])
                messages += [note_off(channel, number)] if cell & KEY else []
                messages += [bytes((CONTROL | channel, number, 0))] if cell & PEDAL else []
        self.cells[:] = 0
        return messages

    def _put(self, message: bytes, bit: int, down: bool) -> None:
        channel, number = message[0] & 0x0F, message[1]
        self.cells[channel, number] = (int(self.cells[channel, number]) & ~bit) | (bit if down else 0)
