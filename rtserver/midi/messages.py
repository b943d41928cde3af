"""MIDI messages as bytes. No numpy in here: the senders and the patchbay start in half the time without it."""

from __future__ import annotations

N_CHANNELS = 16
NOTE_OFF, NOTE_ON, CONTROL, PROGRAM = 0x80, 0x90, 0xB0, 0xC0
SUSTAIN, ALL_SOUND_OFF, ALL_NOTES_OFF = 64, 120, 123
SYSTEM, END_OF_EXCLUSIVE = 0xF0, 0xF7
# Bytes of a message by its status, F0 and F7 apart; what is not here is undefined (MIDI 1.0 detailed specification, tables I and V to VII).
_SYSTEM_SIZES = {0xF1: 2, 0xF2: 3, 0xF3: 2, 0xF6: 1, 0xF8: 1, 0xFA: 1, 0xFB: 1, 0xFC: 1, 0xFE: 1, 0xFF: 1}
_SIZES = {kind: 2 if kind in (0xC0, 0xD0) else 3 for kind in range(0x80, 0xF0, 0x10)} | _SYSTEM_SIZES


def well_formed(message: bytes) -> bool:
    """Whether `message` is one whole MIDI message: a status byte that exists and as many data bytes, below 128, as belong to it.

    Running status is not: drivers hand out every message with its status (JACK demands it of its clients).
    """
    if not message or message[0] < 0x80:
        return False
    data = message[1:]
    if message[0] == SYSTEM:
        if data[-1:] != bytes((END_OF_EXCLUSIVE,)):
            return False
        data = data[:-1]
    elif len(message) != _SIZES.get(message[0] if message[0] > SYSTEM else message[0] & 0xF0, 0):
        return False
    return max(data, default=0) < 0x80


def unglue(message: bytes) -> list[bytes]:
    """What is in a system exclusive message that was never ended, and into which a driver has put all that came after it."""
    if message[:1] != bytes((SYSTEM,)) or max(message[1:-1], default=0) < 0x80:
        return [message]
    size = len(message) - (message[-1] == END_OF_EXCLUSIVE)
    starts = [i for i, byte in enumerate(message[:size]) if byte >= 0x80]
    return [message[start:end] for start, end in zip(starts, [*starts[1:], size], strict=True)]


def note_on(channel: int, pitch: int, velocity: int) -> bytes:
    """Note-on; channel 0..15, pitch 0..127, velocity 1..127 (0 would be a note-off)."""
    return bytes((NOTE_ON | channel, pitch, velocity))


def note_off(channel: int, pitch: int) -> bytes:
    """Note-off with velocity 0."""
    return bytes((NOTE_OFF | channel, pitch, 0))


def program_change(channel: int, program: int) -> bytes:
    """Program change; channel 0..15, program 0..127."""
    return bytes((PROGRAM | channel, program))


def bank_select(channel: int, bank: int) -> list[bytes]:
    """Bank select, coarse and fine (CC0, CC32); channel 0..15, bank 0..16383. Takes effect with the next program change."""
    return [bytes((CONTROL | channel, control, value)) for control, value in ((0, bank >> 7), (32, bank & 0x7F))]


def silence() -> list[bytes]:
    """Sustain up, all notes off, all sound off on the 16 channels: 48 messages. Many synths know only some of them."""
    return [bytes((CONTROL | channel, control, 0)) for channel in range(N_CHANNELS) for control in (SUSTAIN, ALL_NOTES_OFF, ALL_SOUND_OFF)]
