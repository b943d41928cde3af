"""Four bars of a band for the demonstration: drums, bass and a piano, each made audible by FluidSynth on its own: so its sound is known."""

from __future__ import annotations

import io

import mido
import numpy as np

from rtserver.node import Array
from rtserver.synthesis import synthesise

STEMS = ("drums", "bass", "other")
BPM, STEP = 104, 0.25  # a step is a sixteenth, in quarters
TICKS = 480  # a quarter
RING_S = 0.8  # for what sounds on after the last bar
PEAK = 0.7  # -3 dBFS
BALANCE = {"drums": 1.0, "bass": 0.9, "other": 0.8}  # of the stems' loudness: root mean squares

Hit = tuple[float, float, int, int]  # quarter, length in quarters, pitch, velocity

# One character a sixteenth, a bar each: the louder the higher the digit.
KIT = {
    36: ("9.....8.9.......", "9.....8.9..7....", "9.....8.9.......", "9.....8.9.8....."),  # kick
    38: ("....9.......9...", "....9.......9..4", "....9.......9...", "....9...5.679889"),  # snare
    42: ("6.4.6.4.6.4.6...", "6.4.6.4.6.4.6.4.", "6.4.6.4.6.4.6...", "6.4.6.4........."),  # closed hat
    46: ("..............6.", "................", "..............6.", "................"),  # open hat
    49: ("8...............", "................", "................", "................"),  # crash
}
ROOTS = (33, 29, 36, 31)  # A, F, C, G
WALK = ((0, 1.5, 0), (1.5, 0.5, 12), (2, 0.75, 0), (2.75, 0.25, 0), (3, 0.5, 7), (3.5, 0.5, 12))  # quarter, length, steps above the root
CHORDS = ((57, 60, 64), (57, 60, 65), (55, 60, 64), (55, 59, 62))
STABS = ((0.5, 0.4), (1.5, 0.9), (3.0, 0.4))  # quarter, length
TUNE = (
    *((0, 1, 76), (1, 0.5, 74), (1.5, 1, 72), (3, 1, 69)),
    *((4, 1.5, 69), (5.5, 0.5, 72), (6, 2, 77)),
    *((8, 1, 76), (9, 0.5, 79), (9.5, 1.5, 84), (11, 1, 79)),
    *((12, 1.5, 74), (13.5, 0.5, 76), (14, 2, 71)),
)


def band(sample_rate: int) -> dict[str, Array]:
    """Stem -> (1, n_frames) float32; their sum peaks at -3 dBFS. Raises `SynthesisError`, with the remedy, where FluidSynth is missing."""
    sounds = {
        name: synthesise(_midi(hits, program, channel), sample_rate=sample_rate)[0] for name, (hits, program, channel) in _parts().items()
    }
    n = round((4 * len(ROOTS) * 60 / BPM + RING_S) * sample_rate)
    stems: dict[str, Array] = {}
    for name, sound in sounds.items():
        mono = np.zeros(n, np.float32)
        mono[: min(n, sound.shape[1])] = sound.mean(axis=0)[:n]
        mono[-sample_rate // 10 :] *= np.linspace(1.0, 0.0, sample_rate // 10, dtype=np.float32)
        stems[name] = (BALANCE[name] / float(np.sqrt(np.mean(mono**2))) * mono)[None]
    loudest = float(np.abs(sum(stems.values())).max())
    return {name: (PEAK / loudest * stem).astype(np.float32) for name, stem in stems.items()}


def _parts() -> dict[str, tuple[list[Hit], int, int]]:
    """Stem -> notes, General MIDI program, channel."""
    drums = [
        (4.0 * bar + STEP * i, STEP, pitch, 10 + 13 * int(c))
        for pitch, bars in KIT.items()
        for bar, line in enumerate(bars)
        for i, c in enumerate(line)
        if c != "."
    ]
    bass = [(4.0 * bar + at, 0.9 * length, root + up, 96) for bar, root in enumerate(ROOTS) for at, length, up in WALK]
    piano = [(4.0 * bar + at, length, pitch, 70) for bar, chord in enumerate(CHORDS) for at, length in STABS for pitch in chord]
    piano += [(float(at), 0.95 * length, pitch, 92) for at, length, pitch in TUNE]
    return {"drums": (drums, 0, 9), "bass": (bass, 33, 1), "other": (piano, 0, 0)}


def _midi(hits: list[Hit], program: int, channel: int) -> bytes:
    track = mido.MidiTrack(
        [mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(BPM)), mido.Message("program_change", program=program, channel=channel)]
    )
    events = [(round(TICKS * at), True, pitch, velocity) for at, _, pitch, velocity in hits]
    events += [(round(TICKS * (at + length)), False, pitch, 0) for at, length, pitch, _ in hits]
    now = 0
    for tick, on, pitch, velocity in sorted(events):  # at one tick, what ends comes first
        track.append(mido.Message("note_on" if on else "note_off", note=pitch, velocity=velocity, channel=channel, time=tick - now))
        now = tick
    file = io.BytesIO()
    mido.MidiFile(ticks_per_beat=TICKS, tracks=[track]).save(file=file)
    return file.getvalue()
