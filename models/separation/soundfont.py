"""Songs on General MIDI sound fonts, through FluidSynth: many excerpts in one run, for loading a font takes longer than playing it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import mido
import numpy as np

from models.separation.instruments import parts
from models.separation.songs import DRUM_CHANNEL, END, KEY, ONSET, PROGRAM, VELOCITY, VOLUME, Song
from models.separation.stems import SAMPLE_RATE
from rtserver.audio.file import read

# Where Debian puts fonts whose licence (MIT) lets weights be shipped.
FONTS = tuple(
    Path("/usr/share/sounds") / f for f in ("sf2/FluidR3_GM.sf2", "sf3/MuseScore_General_Full.sf3", "sf3/MuseScore_General_Lite.sf3")
)
GAP_S = 3.0  # between excerpts, for what rings on
TICKS = 1000  # a second
HELD_OUT = 5  # of programs every fifth is kept for validation,
HELD_OUT_KITS = (8,)  # and this drum kit
KITS = (0, 8, 16, 24, 25, 32, 40)
UNPITCHED = (47, *range(112, 128))  # timpani, percussion, noises
Events = list[tuple[float, int, mido.Message]]


def fonts(wanted: list[Path] | None = None) -> list[Path]:
    """Those of `wanted` (as a rule: of Debian's) that are there; none where FluidSynth is missing."""
    return [f for f in wanted or FONTS if f.is_file()] if shutil.which("fluidsynth") else []


def is_font(path: Path) -> bool:
    """Whether a file says of itself that it is a sound font: of what is none FluidSynth plays the system's own font instead."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"sfbk"


def allowed(program: int, split: str) -> bool:
    """Whether this split may hear the program."""
    return (program % HELD_OUT == 2) == (split == "validation")


def bass_programs(split: str) -> list[int]:
    """General MIDI's basses of this split."""
    return [p for p in range(32, 40) if allowed(p, split)]


def other_programs(split: str) -> list[int]:
    """Pitched programs of this split that are no bass."""
    return [p for p in range(128) if allowed(p, split) and p not in UNPITCHED and not 32 <= p < 40]


def render(
    songs: list[Song], split: str, font: Path, rng: np.random.Generator
) -> list[dict[str, tuple[np.ndarray, str, np.ndarray | None]]]:
    """The stems of each song: sound (2, n_frames) float32, what plays it, and its notes as heard (n, 3), of drums none."""
    made: list[dict[str, tuple[np.ndarray, str, np.ndarray | None]]] = [{} for _ in songs]
    for stem in ("drums", "bass", "other"):
        events: Events = []
        labels: list[str] = []
        for i, song in enumerate(songs):
            begin = i * (song.seconds + GAP_S)
            label, told = _events(stem, song, begin, split, rng)
            labels.append(label)
            events += told
        length = songs[0].seconds + GAP_S
        signal = _synthesised(events, length * len(songs), font)
        for i, song in enumerate(songs):
            first = round(i * length * SAMPLE_RATE)
            sound = np.ascontiguousarray(signal[:, first : first + round(song.seconds * SAMPLE_RATE)])
            rows = song.stem(stem)
            heard = np.column_stack([rows[:, KEY], np.maximum(rows[:, ONSET], 0.0) * SAMPLE_RATE, rows[:, END] * SAMPLE_RATE]).astype(
                np.float32
            )
            made[i][stem] = (sound, f"{font.stem}: {labels[i]}", None if stem == "drums" else heard)
    return made


def _events(stem: str, song: Song, begin: float, split: str, rng: np.random.Generator) -> tuple[str, Events]:
    """The messages of one stem of one song; channels are given out part by part."""
    events: Events = []
    names: list[str] = []
    for i, part in enumerate(parts(song.stem(stem))):
        if stem == "drums":
            channel = DRUM_CHANNEL
            kits = [k for k in KITS if (k in HELD_OUT_KITS) == (split == "validation")]
            program = int(kits[rng.integers(len(kits))])
        else:
            channel = i % 15 + (i % 15 >= DRUM_CHANNEL)
            choice = bass_programs(split) if stem == "bass" else other_programs(split)
            written = int(part[0, PROGRAM])
            program = written if written in choice and rng.random() < 0.5 else int(choice[rng.integers(len(choice))])
        names.append(str(program))
        pan = 64 if stem != "other" else int(rng.integers(20, 108))
        volume = int(np.clip(127.0 * part[0, VOLUME] * rng.uniform(0.7, 1.0), 20, 127))
        for when, message in ((-0.5, mido.Message("control_change", control=123, channel=channel)),
                              (-0.2, mido.Message("program_change", program=program, channel=channel)),
                              (-0.2, mido.Message("control_change", control=10, value=pan, channel=channel)),
                              (-0.2, mido.Message("control_change", control=7, value=volume, channel=channel))):  # fmt: skip
            events.append((max(0.0, begin + when), 0, message))
        for row in part:
            key, velocity = int(row[KEY]), int(np.clip(row[VELOCITY], 1, 127))
            onset, end = begin + max(0.0, float(row[ONSET])), begin + min(float(row[END]), song.seconds)
            events.append((onset, 2, mido.Message("note_on", note=key, velocity=velocity, channel=channel)))
            events.append((max(end, onset + 0.01), 1, mido.Message("note_off", note=key, channel=channel)))
    return ", ".join(names), events


def _synthesised(events: Events, seconds: float, font: Path) -> np.ndarray:
    """What FluidSynth makes of the messages: (2, n_frames) float32 without its reverberation and chorus."""
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000)])
    now = 0
    for when, _, message in sorted(events, key=lambda e: e[:2]):
        tick = max(now, round(when * TICKS))
        track.append(message.copy(time=tick - now))
        now = tick
    end = round(seconds * TICKS)
    track.append(mido.Message("control_change", control=1, value=0, time=max(0, end - now)))  # so that it lasts
    with tempfile.TemporaryDirectory() as scratch:
        midi, wav = Path(scratch) / "a.mid", Path(scratch) / "a.wav"
        mido.MidiFile(ticks_per_beat=TICKS, tracks=[track]).save(midi)
        command = ["fluidsynth", "-ni", "-q", "-R", "0", "-C", "0", "-g", "0.35", "-r", str(SAMPLE_RATE), "-O", "float"]
        command += ["-o", "synth.dynamic-sample-loading=1", "-o", "synth.default-soundfont=", "-F", str(wav), str(font), str(midi)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode or not wav.is_file() or "Failed to load" in done.stderr:  # which it says, and goes on without
            why = next(iter(done.stderr.strip().splitlines()), f"it exited with {done.returncode}")
            raise SystemExit(f"{font}: expected a sound font that FluidSynth can play, got {why!r}: copy it again, or name another one")
        signal, _ = read(wav)
    n = round(seconds * SAMPLE_RATE)
    return np.pad(signal, ((0, 0), (0, max(0, n - signal.shape[1]))))[:, :n]
