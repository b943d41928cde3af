"""MIDI messages as bytes. No numpy in here: the senders and the patchbay start in half the time without it."""

from __future__ import annotations

N_CHANNELS = 16
NOTE_OFF, NOTE_ON, CONTROL, PROGRAM = 0x80, 0x90, 0xB0, 0xC0
SUSTAIN, ALL_SOUND_OFF, ALL_NOTES_OFF = 64, 120, 123


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
