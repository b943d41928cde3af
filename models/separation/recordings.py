"""Recorded stems of one's own into a pool: ``python -m models.separation.recordings ROOT --out POOL``.

ROOT is a folder of stems, ROOT/TRACK/drums.wav, bass.wav, other.wav and perhaps vocals.wav (WAV or FLAC), or ROOT/TRACK/harmonic.wav and
percussive.wav; or MUSDB18-HQ, ROOT/train/TRACK/… and ROOT/test/TRACK/…. Vocals are a stem of their own, which networks without one hear as
a part of other; percussive is drums, harmonic is other without a bass. Tracks are cut into excerpts of 24 s, whose stems belong together;
their notes are not known. POOL may hold other excerpts already; those of an earlier import of ROOT are replaced.
Another folder of the same name needs a ``--name``.

Of a folder of stems every tenth track is kept for validation, at least one of several; of MUSDB18-HQ the fourteen tracks that are
customary, and test stays test.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from models.separation.excerpts import SECONDS, Excerpt, Part
from models.separation.pool import INDEX, alone, read_index, write_excerpt, write_index
from models.separation.sampler import cut_out
from models.separation.stems import SAMPLE_RATE
from rtserver.audio.file import info, read
from rtserver.errors import AudioFileError

JOINED = {"drums": "drums", "bass": "bass", "other": "other", "vocals": "vocals", "percussive": "drums", "harmonic": "other"}
WHOLE = ({"drums", "bass", "other"}, {"percussive", "harmonic"})  # what a track has at least
ENDINGS = (".wav", ".flac")
SAMPLE_RATES = (44100, 48000)
EVERY_TENTH = 10
SHORTEST_S = 1.0
MUSDB_VALIDATION = (
    "Actions - One Minute Smile", "Clara Berry And Wooldog - Waltz For My Victims", "Johnny Lokke - Promises & Lies",
    "Patrick Talbot - A Reason To Leave", "Triviul - Angelsaint", "Alexander Ross - Goodbye Bolero", "Fergessen - Nos Palpitants",
    "Leaf - Summerghost", "Skelpolu - Human Mistakes", "Young Griffo - Pennies", "ANiMAL - Rockshow", "James May - On The Line",
    "Meaxic - Take A Step", "Traffic Experiment - Sirens",
)  # fmt: skip


def tracks(root: Path) -> list[tuple[Path, str]]:
    """The tracks of a folder and the split of each. Exits with a line that says what was looked for where there are none."""
    if (root / "train").is_dir() and not _parts(root / "train"):
        own, test = _folders(root / "train"), _folders(root / "test")
        kept = [t for t in own if t.name in MUSDB_VALIDATION] or _every_tenth(own)
    else:
        own, test = _folders(root), []
        kept = _every_tenth(own)
    found = [(t, "validation" if t in kept else "train") for t in own] + [(t, "test") for t in test]
    if not found:
        raise SystemExit(
            f"{root} has no tracks: expected {root}/TRACK/ with drums, bass and other, or harmonic and percussive (.wav or .flac)"
        )
    return found


def read_track(folder: Path) -> dict[str, np.ndarray]:
    """The stems of a track at 44.1 kHz: (2, n_frames) float32. Exits with a line naming the file where something is missing or wrong."""
    files = _parts(folder)
    twice = [sorted(whole & files.keys()) for whole in WHOLE]
    if all(twice):
        raise SystemExit(f"{folder} has {' and '.join(map(', '.join, twice))}, which sound the same twice: keep one kind of stems")
    missing = min((whole - files.keys() for whole in WHOLE), key=len)
    if missing:
        raise SystemExit(f"{folder} has no {' and no '.join(sorted(missing))} (.wav or .flac): each track needs all of its stems")
    made: dict[str, np.ndarray] = {}
    lengths: dict[str, int] = {}
    for name, path in sorted(files.items()):
        try:
            about = info(path)
            sound, sample_rate = read(path)
        except AudioFileError as e:
            raise SystemExit(str(e)) from e
        if sample_rate not in SAMPLE_RATES or about.n_channels > 2:
            raise SystemExit(
                f"{path}: {sample_rate} Hz, {about.n_channels} channels: expected 44100 or 48000 Hz, one or two channels; convert it"
            )
        if not np.isfinite(sound).all():
            raise SystemExit(f"{path}: expected numbers, got NaN or infinity among its samples: export it again")
        lengths[name] = about.n_frames
        made[JOINED[name]] = _resampled(np.repeat(sound, 2, axis=0) if len(sound) == 1 else sound, sample_rate)
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise SystemExit(f"{folder}: stems of different lengths ({told} frames): export them from the same start to the same end")
    return made


def cut(track: dict[str, np.ndarray], name: str) -> Iterator[Excerpt]:
    """Excerpts of 24 s, the last one overlapping the one before; a shorter track whole."""
    n = next(iter(track.values())).shape[1]
    size = min(n, int(SECONDS * SAMPLE_RATE))
    if size < SHORTEST_S * SAMPLE_RATE:
        return
    for i in range(math.ceil(n / size)):
        first = min(i * size, n - size)
        yield Excerpt(name, {stem: Part(sound[:, first : first + size], "recorded", name) for stem, sound in track.items()})


def main(arguments: list[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    dataset = args.root.resolve().name if args.name is None else args.name
    if not dataset or "/" in dataset:  # files of the pool are called after it
        raise SystemExit(f"name of the collection: expected some letters and no '/', got {dataset!r}: give it another --name")
    found = tracks(args.root)
    with alone(args.out):
        lines = bring(found, args.out, dataset, str(args.root.resolve()), args.name is not None)
    if not any(line["split"] == "validation" for line in lines):
        print(f"{args.out} has nothing for validation, without which nothing can be trained: import two tracks at least, or render some")


def bring(found: list[tuple[Path, str]], out: Path, dataset: str, root: str, replace: bool) -> list[dict[str, Any]]:
    """Write the excerpts and the index; its lines. Exits where `dataset` came from another folder, unless told to `replace` it."""
    lines = read_index(out) if (out / INDEX).is_file() else []
    others = sorted({line["root"] for line in lines if line.get("dataset") == dataset and line.get("root", root) != root})
    if others and not replace:
        raise SystemExit(f"{out} has {dataset!r} of {others[0]}: give these tracks another --name, or this one to replace those")
    lines = [line for line in lines if line.get("dataset") != dataset]
    n, left_out = 0, list[str]()
    for folder, split in tqdm(found, unit="track"):
        excerpts = list(cut(read_track(folder), folder.name))
        before = len(lines)
        for excerpt in excerpts:
            line = write_excerpt(out, f"{dataset}_{n:05d}", split, excerpt)
            n += 1
            if line:
                lines.append(line | {"dataset": dataset, "root": root})
        if len(lines) == before:
            left_out.append(f"{folder} is left out: it is {'silent' if excerpts else f'shorter than {SHORTEST_S:g} s'}")
    write_index(out, lines)
    print("\n".join(left_out), end="\n" if left_out else "")
    return lines


def _every_tenth(found: list[Path]) -> list[Path]:
    """Every tenth track, at least one of several; none of a single one, for it would leave nothing to train on."""
    return found[min(EVERY_TENTH // 2, len(found) - 1) :: EVERY_TENTH] if len(found) > 1 else []


def _folders(root: Path) -> list[Path]:
    there = sorted(t for t in root.iterdir() if t.is_dir()) if root.is_dir() else []
    for t in there:
        if not _parts(t):
            print(f"{t} is left out: it has none of {', '.join(JOINED)} (.wav or .flac)")
    return [t for t in there if _parts(t)]


def _parts(folder: Path) -> dict[str, Path]:
    return {f.stem: f for f in sorted(folder.iterdir()) if f.stem in JOINED and f.suffix.lower() in ENDINGS}


def _resampled(sound: np.ndarray, sample_rate: int) -> np.ndarray:
    if sample_rate == SAMPLE_RATE:
        return sound
    peak = float(np.abs(sound).max(initial=0.0)) or 1.0  # floats may lie above full scale
    whole = np.round(sound * np.float32(32767.0 / peak)).astype(np.int16)
    ratio = sample_rate / SAMPLE_RATE
    out = np.zeros((2, int(sound.shape[1] / ratio)), np.float32)
    one, none = np.float32(peak / 32767.0), np.float32(0.0)
    cut_out(whole, 0, ratio, one, none, none, one, out)
    return out


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    p.add_argument("root", type=Path)
    p.add_argument("--out", type=Path, required=True, help="a pool, new or not")
    p.add_argument("--name", help="of the collection: another import of that name is replaced (default: name of ROOT)")
    return p


if __name__ == "__main__":
    main()
