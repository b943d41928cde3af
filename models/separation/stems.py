"""Reads a folder of samples: manifest.csv (one row a sample), splits.json (which samples and songs training may hear), FLAC and MIDI files.

The folder's own split says "train" or "dev"; only "train" is read here. Of it a part is held out for choosing between models
(`held_out`): songs, instruments, takes and loops that training never hears.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtserver.audio.file import read
from rtserver.errors import AudioFileError

STEMS = ("drums", "bass", "other")
POOLED = (*STEMS, "vocals")  # what a pool may hold, in this order: voices come with recordings alone
# Of what a pool holds, which stems make up each stem of a network, in its order (`network.STEMS`).
ARRANGED: dict[str, tuple[tuple[int, ...], ...]] = {
    "hp": ((1, 2, 3), (0,)),
    "stems3": ((0,), (1,), (2, 3)),
    "stems4": ((0,), (1,), (3,), (2,)),
}
SPLITS = ("train", "validation")
SAMPLE_RATE = 44100
EVERY_SONG = 11  # th song is held out
COLUMNS = ("path", "class", "instrument", "articulation", "midi_note", "velocity_low", "velocity_high", "round_robin", "level_db", "mix")
HELD_OUT_LOOPS = ("arovane_beat_c", "loop_perc2", "ambi_swoosh", "elec_blip2", "perc_bell2")
HELD_OUT_INSTRUMENTS = (("double_bass", "arco"), ("synth_bass", "bass_trance_c"), ("sonicpi_tabla", None))


def arranged(stems: Any, kind: str) -> list[Any]:
    """The stems of a network of this `kind`, from those of a pool, ``stems[i]``; voices may be missing, and are silent then."""
    made: list[Any] = []
    for members in ARRANGED[kind]:
        there = [stems[i] for i in members if i < len(stems)]
        made.append(sum(there[1:], there[0]) if there else 0.0 * stems[0])
    return made


@dataclass(frozen=True, slots=True)
class Sample:
    """One recorded hit, note or loop."""

    path: str  # inside the folder
    stem: str  # one of STEMS
    instrument: str
    articulation: str
    keys: tuple[int, ...]  # pitched: the one that sounds (A4 = 69); drums: the General MIDI notes it may answer, best first
    velocity: tuple[int, int]  # the layer's lowest and highest
    take: int
    level_db: float  # back to its natural level
    mix: str  # "room", "close", or nothing

    @property
    def collection(self) -> str:
        """Whose it is: growly, meat, muldjord, body, sonicpi, guitar, piano, loops."""
        parts = self.path.split("/")
        return parts[1] if len(parts) > 2 else parts[0]


@dataclass
class Stems:
    """The samples and songs of one split."""

    folder: Path
    split: str
    samples: list[Sample]
    songs: list[str]  # MIDI files inside the folder
    _audio: dict[str, np.ndarray] = field(default_factory=dict)

    def audio(self, sample: Sample) -> np.ndarray:
        """The sound, decoded once: (1 or 2 channels, n_frames) float32. Exits with a line naming the file where it cannot be had."""
        found = self._audio.get(sample.path)
        if found is None:
            try:
                found, sample_rate = read(self.folder / sample.path)
            except AudioFileError as e:
                raise SystemExit(str(e)) from e
            if sample_rate != SAMPLE_RATE or found.shape[0] > 2:
                raise SystemExit(
                    f"{sample.path}: {sample_rate} Hz, {found.shape[0]} channels: expected {SAMPLE_RATE} Hz, one or two channels"
                )
            self._audio[sample.path] = found
        return found

    def where(self, test: Callable[[Sample], bool]) -> list[Sample]:
        """The samples that pass."""
        return [s for s in self.samples if test(s)]


def read_stems(folder: Path, split: str) -> Stems:
    """The samples and songs of `split` ("train" or "validation"). Exits with a line that says what is missing or wrong."""
    if split not in SPLITS:
        raise SystemExit(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    manifest, splits = folder / "manifest.csv", folder / "splits.json"
    for path in (manifest, splits):
        if not path.is_file():
            raise SystemExit(f"{path} is missing: is {folder} a folder of stems, with manifest.csv, splits.json and the samples?")
    try:
        told = json.loads(splits.read_text())
        songs, allowed = sorted(told["midi"]["train"]), set(told["samples"]["train"])
    except (ValueError, KeyError, TypeError) as e:
        raise SystemExit(f"{splits}: expected lists under midi.train and samples.train, came {e!r}") from e
    with manifest.open(newline="") as file:
        rows = csv.DictReader(file)
        missing = [c for c in COLUMNS if c not in (rows.fieldnames or ())]
        if missing:
            raise SystemExit(f"{manifest} has no column {', '.join(missing)}: is it of another version?")
        samples = [_sample(row, manifest) for row in rows if row["path"] in allowed]
    if not samples or not songs:
        raise SystemExit(f"{folder} lists {len(samples)} samples and {len(songs)} songs for training: both are needed")
    held = held_out(samples)
    samples = [s for s in samples if (s.path in held) == (split == "validation")]
    songs = [s for i, s in enumerate(songs) if (i % EVERY_SONG == EVERY_SONG // 2) == (split == "validation")]
    return Stems(folder, split, samples, songs)


def sources(folder: Path) -> list[str]:
    """Whose samples training may hear, and under which licence, by the columns `source` (its first word) and `licence`, if any."""
    allowed = set(json.loads((folder / "splits.json").read_text())["samples"]["train"])
    with (folder / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["path"] in allowed]
    found = {((row.get("source") or row["path"].rpartition("/")[0]).split()[0], row.get("licence") or "licence not stated") for row in rows}
    return sorted(f"{source} ({licence})" for source, licence in found)


def _sample(row: dict[str, str], manifest: Path) -> Sample:
    try:
        return Sample(
            row["path"], row["class"], row["instrument"], row["articulation"], tuple(int(k) for k in row["midi_note"].split(";") if k),
            (int(row["velocity_low"] or 1), int(row["velocity_high"] or 127)), int(row["round_robin"] or 1), float(row["level_db"] or 0.0),
            row["mix"],
        )  # fmt: skip
    except ValueError as e:
        raise SystemExit(f"{manifest}: the row of {row['path']} is wrong: {e}") from e


def held_out(samples: list[Sample]) -> set[str]:
    """Paths kept from training: whole instruments and loops by name, every fourth one-shot and piano key, the last of several takes."""
    held = {s.path for s in samples if s.articulation in HELD_OUT_LOOPS}
    held |= {s.path for s in samples for i, a in HELD_OUT_INSTRUMENTS if s.instrument == i and a in (None, s.articulation)}
    rest = [s for s in samples if s.path not in held]
    one_shots = sorted(s.path for s in rest if s.collection == "sonicpi" and s.stem == "drums")
    held |= set(one_shots[2::4])
    keys = sorted({s.keys for s in rest if s.collection == "piano"})
    held |= {s.path for s in rest if s.collection == "piano" and s.keys in keys[2::4]}
    layers: dict[tuple[object, ...], list[Sample]] = {}
    for s in rest:
        if s.collection in ("muldjord", "body", "growly", "meat", "guitar"):
            layers.setdefault((s.instrument, s.articulation, s.keys, s.velocity), []).append(s)
    for layer in layers.values():
        takes = sorted({s.take for s in layer})
        if len(takes) >= 2:
            held |= {s.path for s in layer if s.take == takes[-1]}
    return held
