"""A small folder of samples and songs, as `models.separation.stems` reads it, made here."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import mido
import numpy as np
import soundfile

from models.separation.stems import COLUMNS

RATE = 44100
HZ = {"kick": 60.0, "snare": 180.0, "hihat": 8000.0}
NOTE = {"kick": "36;35", "snare": "38;40", "hihat": "42;44"}


def tone(hz: float, seconds: float, decay_s: float = 0.5) -> np.ndarray:
    """A dying sine after 3 ms of silence, as samples have it."""
    t = np.arange(int(seconds * RATE)) / RATE
    return np.concatenate([np.zeros(132), 0.8 * np.sin(2.0 * np.pi * hz * t) * np.exp(-t / decay_s)]).astype(np.float32)


def write_song(path: Path, seed: int, seconds: float = 40.0) -> None:
    """Drums in eighths, a bass in quarters, a piano in quarters, 120 a minute."""
    rng = np.random.default_rng(seed)
    tracks = [mido.MidiTrack([mido.Message("program_change", channel=c, program=p)]) for c, p in ((0, 33), (1, 0))]
    for track, low in zip(tracks, (30, 60), strict=True):
        for _ in range(int(2 * seconds)):
            key, channel = int(rng.integers(low, low + 12)), tracks.index(track)
            track += [
                mido.Message("note_on", channel=channel, note=key, velocity=90),
                mido.Message("note_off", channel=channel, note=key, time=480),
            ]
    drums = mido.MidiTrack()
    for i in range(int(4 * seconds)):
        note = (36, 42, 38, 42)[i % 4]
        drums += [mido.Message("note_on", channel=9, note=note, velocity=100), mido.Message("note_off", channel=9, note=note, time=240)]
    mido.MidiFile(ticks_per_beat=480, tracks=[*tracks, drums]).save(path)


def write_folder(folder: Path) -> Path:
    """Samples of each collection with some to hold out, a dev sample and a dev song, twelve songs."""
    rows: list[dict[str, object]] = []

    def add(path: str, stem: str, instrument: str, articulation: str, sound: np.ndarray, note: object = "", take: int = 1) -> None:  # noqa: PLR0917
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / path, sound, RATE, subtype="PCM_16")
        values = (path, stem, instrument, articulation, note, 1, 127, take, 0.0, "room" if "muldjord" in path else "")
        rows.append(dict(zip(COLUMNS, values, strict=True)))

    for name, hz in HZ.items():
        for take in (1, 2):
            add(f"drums/muldjord/{name}{take}.flac", "drums", name, "hit", tone(hz, 0.4, 0.08), NOTE[name], take)
    for i in range(4):
        add(f"drums/sonicpi/bd_{i}.flac", "drums", "sonicpi_bd", str(i), tone(50.0 + 5 * i, 0.3, 0.1), "36;35")
    for key in (28, 34, 40):
        for take in (1, 2):
            add(f"bass/growly/{key}_{take}.flac", "bass", "electric_bass", "sustain", tone(440.0 * 2 ** ((key - 69) / 12), 2.0), key, take)
    for key in range(54, 78, 3):
        add(f"piano/{key}.flac", "other", "grand_piano", "note", tone(440.0 * 2 ** ((key - 69) / 12), 2.0), key)
    for name in ("beat_a", "arovane_beat_c"):
        add(f"loops/drums_{name}.flac", "drums", "loop", name, np.concatenate([tone(90.0, 0.5, 0.1)] * 4))
    for name in ("ambi_drone", "ambi_swoosh"):
        add(f"loops/other_{name}.flac", "other", "ambient", name, tone(220.0, 1.5, 5.0))
    add("piano/dev.flac", "other", "grand_piano", "note", tone(220.0, 1.0), 57)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    (folder / "midi").mkdir()
    songs = [f"midi/{i:02d}.mid" for i in range(13)]
    for i, song in enumerate(songs):
        write_song(folder / song, i)
    train = [str(row["path"]) for row in rows if "dev" not in str(row["path"])]
    splits = {"midi": {"train": songs[:12], "dev": songs[12:]}, "samples": {"train": train, "dev": ["piano/dev.flac"]}}
    (folder / "splits.json").write_text(json.dumps(splits))
    return folder
