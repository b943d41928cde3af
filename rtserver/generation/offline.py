"""Generation without a stage: a MIDI file in, or nothing, and a MIDI file out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mido
import numpy as np

from rtserver.errors import ConfigError, ScoreError
from rtserver.generation import vocabulary as v
from rtserver.generation.constraints import Constraints
from rtserver.generation.hands import velocity
from rtserver.generation.performer import Performer
from rtserver.generation.vocabulary import NoteEvent

MIDI_TICKS = 20  # MIDI ticks per tick of ours: 480 a quarter, which every sequencer takes


def read_midi(path: Path) -> tuple[list[tuple[int, int, int]], float, int]:
    """Notes ``(onset, pitch, duration)`` of all tracks in ticks of 1/24 quarter, without channel 10 (drums), the first tempo in BPM, and
    the ticks of a bar, 0 where no metre is written or it changes.

    Raises `ScoreError` for what is no MIDI file, or holds no notes.
    """
    try:
        midi = mido.MidiFile(str(path))
    except (OSError, EOFError, ValueError, IndexError, KeyError) as e:
        raise ScoreError(f"{path} cannot be read as a MIDI file: {e} — is it one?") from e
    scale = v.TICKS_PER_QUARTER / midi.ticks_per_beat
    tempo_bpm, now, bars = 0.0, 0, set[int]()
    notes: list[tuple[int, int, int]] = []
    down: dict[tuple[int, int], int] = {}
    messages: list[Any] = list(mido.merge_tracks(midi.tracks))
    for message in messages:
        now += message.time
        if message.type == "set_tempo" and not tempo_bpm:
            tempo_bpm = mido.tempo2bpm(message.tempo)
        if message.type == "time_signature":
            bars.add(message.numerator * 4 * v.TICKS_PER_QUARTER // message.denominator)
        if message.type in ("note_on", "note_off") and message.channel != 9:
            key = (message.channel, message.note)
            if key in down:
                on = round(down.pop(key) * scale)
                notes.append((on, message.note, max(1, round(now * scale) - on)))
            if message.type == "note_on" and message.velocity > 0:
                down[key] = now
    if not notes:
        raise ScoreError(f"{path} holds no notes that can be continued — an empty file, or drums only?")
    return sorted(notes), tempo_bpm or 120.0, bars.pop() if len(bars) == 1 else 0


def perform(
    out: Path | None = None,
    *,
    notes: int = 64,
    seed: int = 0,
    prompt: Path | None = None,
    constraints: Constraints | None = None,
    temperature: float | tuple[float, float, float] = 1.0,
    top_p: float | tuple[float, float, float] = 0.95,
    texture: str = "unknown",
    part: str = "unknown",
    density: float | None = None,
    register: float | None = None,
    tempo_bpm: float | None = None,
    level: float = 72.0,
    model: str = "performer",
    progress: Callable[[int], object] | None = None,
) -> mido.MidiFile:
    """Let the performer write `notes` notes, after `prompt` where there is one, and save them to `out` where it is given.

    Parameters
    ----------
    constraints : Constraints
        Kept by every note that the performer writes; the prompt is left as it is.
    part, density, register
        What the notes are wished to be, see `Performer` and `vocabulary.controls`; of a model that was trained with it.
    tempo_bpm : float
        Quarters a minute; the prompt's own where it is None, else 120.
    progress : callable
        Called with 1 after each note.

    Returns
    -------
    mido.MidiFile
        480 ticks a quarter: a track with the tempo, the prompt if any on channel 1, the performer on channel 2. Same arguments, same file.

    Raises
    ------
    ConfigError, ScoreError, ModelError
    """
    if notes < 1:
        raise ConfigError("notes", f"expected at least 1, got {notes}")
    if tempo_bpm is not None and not 10.0 <= tempo_bpm <= 500.0:
        raise ConfigError("tempo", f"expected 10 to 500 quarters a minute, got {tempo_bpm}")
    if density is not None and not 0.0 < density <= 16.0:
        raise ConfigError("density", f"expected more than 0 and at most 16 notes a quarter, got {density}")
    if register is not None and not 0.0 <= register < v.N_PITCH:
        raise ConfigError("register", f"expected a MIDI pitch of 0 to 127, got {register}")
    limits = constraints or Constraints()
    controls = None if density is None and register is None else v.controls(density, register)
    performer = Performer(model, seed, temperature=temperature, top_p=top_p, texture=texture, part=part)
    given: list[tuple[int, int, int]] = []
    earliest = 0
    if prompt is not None:
        given, prompt_bpm, bar = read_midi(prompt)
        performer.set_bar(0, bar)
        tempo_bpm = tempo_bpm or prompt_bpm
        on, pitch, duration = (np.array(c, np.int64) for c in zip(*given, strict=True))
        onset, _, pitch, duration = v.encode(on, pitch, duration)
        performer.seek(int(onset[0]))
        previous = int(onset[0])
        for o, p, d in zip(onset.tolist(), pitch.tolist(), duration.tolist(), strict=True):
            performer.feed(NoteEvent(o - previous, p, d), sounding=False)
            previous = o
        earliest = max(o + d for o, _, d in given if o == previous)  # after the last chord of the prompt
    made: list[tuple[int, int, int]] = []
    for _ in range(notes):
        event = performer.query(limits, None, earliest, controls=controls)
        performer.feed(event)
        made.append((performer.tick, event.pitch, event.duration))
        if progress is not None:
            progress(1)
    midi = mido.MidiFile(type=1, ticks_per_beat=v.TICKS_PER_QUARTER * MIDI_TICKS)
    tempo = mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo_bpm or 120.0), time=0)
    midi.tracks.append(mido.MidiTrack([tempo, mido.MetaMessage("end_of_track", time=0)]))
    if given:
        midi.tracks.append(_track("prompt", given, 0, level))
    midi.tracks.append(_track("performer", made, 1, level))
    if out is not None:
        midi.save(str(out))
    return midi


def _track(name: str, notes: list[tuple[int, int, int]], channel: int, level: float) -> mido.MidiTrack:
    """One track of notes ``(onset, pitch, duration)``; at the same tick keys come up before they go down."""
    messages = [(on, 1, pitch, velocity(level, on)) for on, pitch, _ in notes] + [(on + length, 0, pitch, 0) for on, pitch, length in notes]
    track = mido.MidiTrack([mido.MetaMessage("track_name", name=name, time=0)])
    now = 0
    for tick, down, pitch, loud in sorted(messages):
        kind = "note_on" if down else "note_off"
        track.append(mido.Message(kind, channel=channel, note=pitch, velocity=loud, time=(tick - now) * MIDI_TICKS))
        now = tick
    track.append(mido.MetaMessage("end_of_track", time=0))
    return track
