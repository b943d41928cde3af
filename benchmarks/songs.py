"""Songs to separate whose notes are known: made up from a seed, or from MIDI files, played by FluidSynth stem by stem.

The performance is not the score: the tempo bends by up to 6 %, and each note is some milliseconds early or late.
"""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
import numpy.typing as npt

from rtserver.errors import ScoreError
from rtserver.following.score import Score, load_score
from rtserver.synthesis import SAMPLE_RATE, synthesise

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
STEMS = ("drums", "bass", "other")
ONSET, END, KEY, VELOCITY, CHANNEL, PROGRAM = range(6)
DRUMS, BASSES = 9, range(32, 40)  # MIDI channel from 0; General MIDI programs from 0
TICKS = 9600  # a quarter; a performance has two quarters a second
BEND, JITTER_S = 0.06, 0.006
LEVELS = {"drums": 0.10, "bass": 0.09, "other": 0.09}  # RMS
PATTERNS = (
    ("36 42", "42", "38 42", "42"),
    ("36 42", "42 36", "38 42", "46"),
    ("36 42", "36 42", "38 42", "42 36"),
    ("36 51", "51", "38 51", "51"),
)
BASS_PROGRAMS, CHORD_PROGRAMS, LEAD_PROGRAMS = (32, 33, 34, 36, 38), (0, 4, 16, 24, 27, 48, 89), (0, 11, 25, 56, 65, 73, 80)
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))


@dataclass(frozen=True)
class Song:
    """notes : float64 (n, 6), onset and end in quarters, key, velocity, channel, program."""

    name: str
    notes: F64
    tempo_bpm: float


@dataclass(frozen=True)
class Clip:
    """A mixture whose parts and notes are known.

    stems : float32 (3, 2, frames), in the order of `STEMS`
    score : what a follower is given
    time_s, quarter : float64 (n,), the true places
    """

    name: str
    sample_rate: int
    stems: F32
    score: Score
    time_s: F64
    quarter: F64

    def quarter_at(self, time_s: float) -> float:
        """Where in the score the sound is."""
        return float(np.interp(time_s, self.time_s, self.quarter))

    def tempo_at(self, time_s: float) -> float:
        """Quarters a minute."""
        return max(60.0 * (self.quarter_at(time_s + 0.25) - self.quarter_at(time_s - 0.25)) / 0.5, 1.0)


def made_up(seed: int, seconds: float) -> Song:
    """Drums, a bass, chords and a melody over eight bars of 4/4 that come again."""
    rng = np.random.default_rng(seed)
    tempo_bpm, tonic, scale = float(rng.uniform(84, 132)), int(rng.integers(12)), SCALES[rng.integers(2)]
    degrees, pattern = [0, *rng.integers(0, 7, 7).tolist()], PATTERNS[rng.integers(len(PATTERNS))]
    programs = [int(rng.choice(of)) for of in (CHORD_PROGRAMS, BASS_PROGRAMS, LEAD_PROGRAMS)]
    strums = bool(rng.integers(2))
    rows: list[tuple[float, float, int, int, int, int]] = []

    def key(degree: int, octave: int) -> int:
        return tonic + scale[degree % 7] + 12 * (octave + degree // 7)

    place = 7
    for bar in range(int(seconds * tempo_bpm / 240.0) + 1):
        at, degree = 4.0 * bar, int(degrees[bar % 8])
        for k in range(8):
            for hit in pattern[k % 4].split():
                if rng.random() < 0.95:
                    rows.append((at + k / 2, at + k / 2 + 0.2, int(hit), int(rng.integers(70, 115)), DRUMS, 0))
            if k % 2 == 0 or rng.random() < 0.6:
                note = degree + int(rng.choice((0, 0, 0, 4, 7, 2)))
                rows.append((at + k / 2, at + k / 2 + 0.45, key(note, 3), int(rng.integers(75, 105)), 1, programs[1]))
        for begin, end in ((0.0, 1.5), (1.5, 2.0), (2.0, 3.5)) if strums else ((0.0, 4.0),):
            rows += [(at + begin, at + end - 0.05, key(degree + step, 4), int(rng.integers(60, 90)), 0, programs[0]) for step in (0, 2, 4)]
        now = 0.0
        while now < 4.0:
            length = float(rng.choice((0.5, 0.5, 1.0, 1.5)))
            place = int(np.clip(place + rng.integers(-2, 3), 0, 13))
            if rng.random() < 0.8:
                rows.append((at + now, min(at + now + length, at + 4.0) - 0.03, key(place, 5), int(rng.integers(75, 110)), 2, programs[2]))
            now += length
    return Song(f"made-up {seed}", np.array(sorted(rows), np.float64), tempo_bpm)


def in_file(path: Path, seconds: float) -> Song:
    """The first `seconds` of a MIDI file, its quarters half seconds whatever its tempo."""
    programs, down, rows, now = [0] * 16, dict[tuple[int, int], tuple[float, int]](), list[tuple[float, float, int, int, int, int]](), 0.0
    for message in mido.MidiFile(str(path), clip=True):
        now += message.time
        if message.type == "program_change":
            programs[message.channel] = message.program
        elif message.type in ("note_on", "note_off"):
            begun = down.pop((message.channel, message.note), None)
            if begun is not None:
                end = max(now, begun[0] + 0.03)
                rows.append((2 * begun[0], 2 * end, message.note, begun[1], message.channel, programs[message.channel]))
            if message.type == "note_on" and message.velocity:
                down[message.channel, message.note] = now, message.velocity
    notes = np.array(sorted(rows), np.float64).reshape(-1, 6)
    if len(notes):
        notes[:, :2] -= notes[0, ONSET]
        notes = notes[notes[:, ONSET] < 2 * seconds]
    return Song(path.stem, notes, 120.0)


def as_midi(notes: F64, begin: F64, end: F64, ticks: int, tempo_bpm: float = 120.0) -> bytes:
    """A MIDI file of notes that begin and end when these say: in quarters of `ticks` ticks."""
    events: list[tuple[int, int, mido.Message]] = []
    for (_, _, key, velocity, channel, program), a, b in zip(notes, begin, end, strict=True):
        what, at = {"note": int(key), "channel": int(channel)}, max(round(a * ticks), 0)
        events.append((at, 1, mido.Message("program_change", program=int(program), channel=int(channel))))
        events.append((at, 2, mido.Message("note_on", velocity=int(velocity), **what)))
        events.append((max(round(b * ticks), at + 1), 0, mido.Message("note_off", **what)))
    track, last = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo_bpm))]), 0
    for at, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=at - last))
        last = at
    file = io.BytesIO()
    mido.MidiFile(ticks_per_beat=ticks, tracks=[track]).save(file=file)
    return file.getvalue()


def parsed(midi: bytes) -> Score:
    """The score in a MIDI file. Raises `ScoreError` where it has no notes of pitch."""
    with tempfile.NamedTemporaryFile(suffix=".mid") as file:
        file.write(midi)
        file.flush()
        return load_score(file.name)


def stem_of(notes: F64) -> npt.NDArray[np.int64]:
    """Which stem each note belongs to."""
    bass = (notes[:, PROGRAM] >= BASSES.start) & (notes[:, PROGRAM] < BASSES.stop)
    return np.where(notes[:, CHANNEL] == DRUMS, 0, np.where(bass, 1, 2))


def performed(song: Song, seconds: float, seed: int, sound_font: str = "") -> Clip:
    """`seconds` of a performance of the song at 44.1 kHz. Raises `SynthesisError`, and `ScoreError` where no stem but one sounds."""
    rng, notes = np.random.default_rng((seed, 1)), song.notes
    grid = np.arange(0.0, float(notes[:, END].max()) + 64.0, 1.0 / 16.0)
    bend = sum(rng.uniform(0.3, 1.0) * np.sin(2 * np.pi * (grid / length + rng.random())) for length in (7.3, 16.0, 41.0))
    tempo_bpm = song.tempo_bpm * (1.0 + BEND * bend / np.abs(bend).max())
    at_s = 0.5 + np.concatenate([[0.0], np.cumsum(60.0 / tempo_bpm / 16.0)[:-1]])
    begin, end = (np.interp(notes[:, column], grid, at_s) for column in (ONSET, END))
    begin = begin + rng.normal(0.0, JITTER_S, len(notes))
    stems, of = np.zeros((len(STEMS), 2, round(seconds * SAMPLE_RATE)), np.float32), stem_of(notes)
    for k, name in enumerate(STEMS):
        mine = (of == k) & (begin < seconds)
        if mine.any():
            sound, _ = synthesise(as_midi(notes[mine], 2 * begin[mine], 2 * end[mine], TICKS), sound_font)
            n = min(sound.shape[1], stems.shape[2])
            stems[k, :, :n] = sound[:, :n] * (LEVELS[name] / float(np.sqrt(np.mean(sound[:, :n] ** 2)) + 1e-9))
    if sum(bool(stem.any()) for stem in stems) < 2 or not stems[0].any():
        raise ScoreError(f"{song.name}: expected drums and something else")
    stems *= np.float32(min(1.0, 0.9 / np.abs(stems.sum(axis=0)).max()))
    score = parsed(as_midi(notes, notes[:, ONSET], notes[:, END], TICKS, song.tempo_bpm))
    first = float(notes[notes[:, CHANNEL] != DRUMS, ONSET].min())  # where a score's own axis begins
    return Clip(song.name, SAMPLE_RATE, stems, score, at_s, grid - first)
