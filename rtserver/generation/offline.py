"""Generation without a stage: a MIDI file or a score in, or nothing, and a MIDI file out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mido
import numpy as np

from rtserver.errors import ConfigError, ScoreError
from rtserver.following.score import load_score
from rtserver.generation import vocabulary as v
from rtserver.generation.constraints import Constraints
from rtserver.generation.hands import velocity
from rtserver.generation.metre import MOST_BEATS, UNITS, Metre
from rtserver.generation.performer import Performer, Three
from rtserver.generation.planner import NOTHING, Planner
from rtserver.generation.vocabulary import NoteEvent
from rtserver.generation.written import Harmony, WrittenNote, WrittenPart

MIDI_TICKS = 20  # MIDI ticks per tick of ours: 480 a quarter, which every sequencer takes


def read_midi(path: Path) -> tuple[list[WrittenNote], float, str]:
    """Notes of all tracks in ticks of 1/24 quarter, without channel 10 (drums), the first tempo in BPM, and the metre, empty where none
    is written or it changes.

    Raises `ScoreError` for what is no MIDI file, or holds no notes.
    """
    try:
        midi = mido.MidiFile(str(path))
    except (OSError, EOFError, ValueError, IndexError, KeyError) as e:
        raise ScoreError(f"{path} cannot be read as a MIDI file: {e} — is it one?") from e
    scale = v.TICKS_PER_QUARTER / midi.ticks_per_beat
    tempo_bpm, now, metres = 0.0, 0, set[str]()
    notes: list[WrittenNote] = []
    down: dict[tuple[int, int], int] = {}
    messages: list[Any] = list(mido.merge_tracks(midi.tracks))
    for message in messages:
        now += message.time
        if message.type == "set_tempo" and not tempo_bpm:
            tempo_bpm = mido.tempo2bpm(message.tempo)
        if message.type == "time_signature" and message.numerator <= MOST_BEATS and message.denominator in UNITS:
            metres.add(f"{message.numerator}/{message.denominator}")
        if message.type in ("note_on", "note_off") and message.channel != 9:
            key = (message.channel, message.note)
            if key in down:
                on = round(down.pop(key) * scale)
                notes.append(WrittenNote(on, message.note, max(1, round(now * scale) - on), 0))
            if message.type == "note_on" and message.velocity > 0:
                down[key] = now
    if not notes:
        raise ScoreError(f"{path} holds no notes that can be continued — an empty file, or drums only?")
    return sorted(notes), tempo_bpm or 120.0, metres.pop() if len(metres) == 1 else ""


def perform(
    out: Path | None = None,
    *,
    notes: int = 64,
    seed: int = 0,
    prompt: Path | None = None,
    score: Path | None = None,
    parts: Sequence[str | int] = (),
    constraints: Constraints | None = None,
    temperature: float | Three = 1.0,
    top_p: float | Three = 0.95,
    texture: str = "unknown",
    part: str = "unknown",
    density: float | None = None,
    register: float | None = None,
    tempo_bpm: float | None = None,
    metre: str = "4/4",
    leaning: tuple[float, float] = (0.0, 0.0),
    level: float = 72.0,
    model: str = "performer",
    progress: Callable[[int], object] | None = None,
) -> mido.MidiFile:
    """Let the performer write `notes` notes, after `prompt` or along `score` where there is one, and save them to `out` where it is given.

    What comes next is asked of the same `Planner` as on stage; a note is as long as it is written, for nobody's finger needs time.

    Parameters
    ----------
    score : Path
        Written along: the performer plays in the long rests of its `parts`, which are written as they are, and ends with it.
    parts
        Of the score, by name or number from 1; none: the performer plays throughout.
    constraints : Constraints
        Kept by every note that the performer writes; prompt and score are left as they are.
    temperature, top_p, texture, part, model
        See `Performer`.
    density, register
        What the notes are wished to be, see `vocabulary.controls`; of a model that was trained with it.
    tempo_bpm : float
        Quarters a minute; the prompt's or the score's own where it is None, else 120.
    metre : str
        Of the bars where neither prompt nor score says it.
    leaning : float, float
        See `Performer.steer`.
    progress : callable
        Called with 1 after each note.

    Returns
    -------
    mido.MidiFile
        480 ticks a quarter: a track with the tempo, then prompt (channel 1) and score (channels from 3) if any, and the performer
        (channel 2). Same arguments, same file.

    Raises
    ------
    ConfigError, ScoreError, ModelError
    """
    _check(notes, tempo_bpm, density, register)
    if prompt is not None and score is not None:
        raise ConfigError("score", "goes with no prompt: choose one of them")
    whole = None if score is None else load_score(score)
    written = None if whole is None else WrittenPart.of_score(whole, parts)
    performer = Performer(model, seed, temperature=temperature, top_p=top_p, texture=texture, part=part)
    performer.steer(*leaning)
    bars = Metre.fixed(metre) if whole is None else Metre.of_score(whole)
    given, first, tempi = list[WrittenNote](), 0, [(0, 120.0)]
    if prompt is not None:
        given, prompt_bpm, signature = read_midi(prompt)
        bars = Metre.fixed(signature or metre)
        tempi = [(0, prompt_bpm)]
    if whole is not None:
        tempi = [
            (round(q * v.TICKS_PER_QUARTER), bpm) for q, bpm in zip(whole.tempo_quarter.tolist(), whole.tempo_bpm.tolist(), strict=True)
        ]
    harmony = None if whole is None else Harmony.of_score(whole)
    planner = Planner(performer, constraints or Constraints(), bars, WrittenPart() if written is None else written, harmony=harmony)
    planner.controls = None if density is None and register is None else v.controls(density, register)
    if given:
        first = _feed(performer, given)
    made: list[WrittenNote] = []
    while sum(note.part < 0 for note in made) < notes and _plan(planner, first, written is not None):
        step = planner.draft.pop()
        made.append(WrittenNote(step.tick, step.note.pitch, min(step.note.duration, step.until - step.tick), step.part))
        if progress is not None and step.part < 0:
            progress(1)
    midi = mido.MidiFile(type=1, ticks_per_beat=v.TICKS_PER_QUARTER * MIDI_TICKS)
    midi.tracks.append(_tempi([(0, tempo_bpm)] if tempo_bpm else tempi))
    if given:
        midi.tracks.append(_track("prompt", given, 0, level))
    midi.tracks += [_track(f"score {k + 1}", own, 2 + k, level) for k in range(13) if (own := [n for n in made if n.part == k])]
    midi.tracks.append(_track("performer", [n for n in made if n.part < 0], 1, level))
    if out is not None:
        midi.save(str(out))
    return midi


def _check(notes: int, tempo_bpm: float | None, density: float | None, register: float | None) -> None:
    if notes < 1:
        raise ConfigError("notes", f"expected at least 1, got {notes}")
    if tempo_bpm is not None and not 10.0 <= tempo_bpm <= 500.0:
        raise ConfigError("tempo", f"expected 10 to 500 quarters a minute, got {tempo_bpm}")
    if density is not None and not 0.0 < density <= 16.0:
        raise ConfigError("density", f"expected more than 0 and at most 16 notes a quarter, got {density}")
    if register is not None and not 0.0 <= register < v.N_PITCH:
        raise ConfigError("register", f"expected a MIDI pitch of 0 to 127, got {register}")


def _plan(planner: Planner, earliest: int, along: bool) -> bool:
    """One more note. False where the score has ended."""
    if along:
        return planner.along(earliest, NOTHING)
    planner.own(earliest, NOTHING)
    return True


def _feed(performer: Performer, given: list[WrittenNote]) -> int:
    """Take a prompt into the history; returns the tick at which its last chord ends."""
    on, pitch, duration = (np.array([note[k] for note in given], np.int64) for k in range(3))
    onset, _, pitch, duration = v.encode(on, pitch, duration)
    performer.seek(int(onset[0]))
    previous = int(onset[0])
    for o, p, d in zip(onset.tolist(), pitch.tolist(), duration.tolist(), strict=True):
        performer.feed(NoteEvent(o - previous, p, d), sounding=False)
        previous = o
    return max(note.tick + note.duration for note in given if note.tick == previous)


def _tempi(tempi: list[tuple[int, float]]) -> mido.MidiTrack:
    """The track of the tempi, (tick, quarters a minute)."""
    track = mido.MidiTrack()
    now = 0
    for tick, bpm in tempi:
        track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm), time=(max(tick, 0) - now) * MIDI_TICKS))
        now = max(tick, 0)
    track.append(mido.MetaMessage("end_of_track", time=0))
    return track


def _track(name: str, notes: list[WrittenNote], channel: int, level: float) -> mido.MidiTrack:
    """One track; at the same tick keys come up before they go down."""
    messages = [(n.tick, 1, n.pitch, velocity(level, n.tick)) for n in notes] + [(n.tick + n.duration, 0, n.pitch, 0) for n in notes]
    track = mido.MidiTrack([mido.MetaMessage("track_name", name=name, time=0)])
    now = 0
    for tick, down, pitch, loud in sorted(messages):
        kind = "note_on" if down else "note_off"
        track.append(mido.Message(kind, channel=channel, note=pitch, velocity=loud, time=(tick - now) * MIDI_TICKS))
        now = tick
    track.append(mido.MetaMessage("end_of_track", time=0))
    return track
