"""A pool of stems to train on: ``python -m models.separation.pool STEMS_FOLDER --out POOL``.

POOL holds for each excerpt and stem NAME_STEM.npy, int16 (2, n_frames) at 44.1 kHz; for each excerpt NAME_notes.npy, float32 (n, 4): key,
onset frame, end frame, stem index; and excerpts.jsonl with a line an excerpt: name, split, song, and for each stem its source, its label,
the gain that brings it to the reference loudness, whether its notes are known, and of recordings the gain that keeps their balance.
sources.json says whose samples were played. Excerpts that were rendered into POOL before are replaced, the last of them once all new ones
are there; imported recordings stay.
An excerpt is the same whatever the others are, and however many processes render: it depends on the seed and its number alone.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from models.options import number, whole
from models.separation import excerpts, soundfont
from models.separation.stems import POOLED, SAMPLE_RATE, SPLITS, Stems, read_stems, sources

INDEX, SOURCES, LOCK = "excerpts.jsonl", "sources.json", "lock"
VALIDATION = 0.12  # share of the excerpts
BATCH = 8  # excerpts of one run of FluidSynth
WEIGHTS = {"samples": 0.4, "electronic": 0.3, "soundfont": 0.17, "loops": 0.13}  # of the kinds of excerpts
KINDS = {"samples": excerpts.sampled, "electronic": excerpts.electronic, "loops": excerpts.looped}
REFERENCE = 0.1  # RMS of the loud parts of a stem, -20 dB re full scale
PEAK = 0.95
SILENT = 1e-4  # a stem whose loud parts are below has nothing in it
WINDOW_S = 0.4
_stems: dict[tuple[Path, str], Stems] = {}  # one a process: what is decoded stays


def loudness(sound: np.ndarray, sample_rate: int = SAMPLE_RATE) -> float:
    """RMS of the loud parts: of windows of 0.4 s the one that a tenth of all windows exceed."""
    n = int(WINDOW_S * sample_rate)
    whole = sound[:, : max(1, sound.shape[1] // n) * n]
    power = np.square(whole, dtype=np.float32).reshape(2, -1, min(n, whole.shape[1])).mean(axis=(0, 2))
    return math.sqrt(float(np.quantile(power, 0.9)))


def write_excerpt(out: Path, name: str, split: str, excerpt: excerpts.Excerpt) -> dict[str, Any] | None:
    """Write the stems that sound; returns the line of the index, None where none does."""
    line: dict[str, Any] = {"name": name, "split": split, "song": excerpt.song, "stems": {}}
    rows, levels = [np.zeros((0, 4), np.float32)], list[float]()
    for i, stem in enumerate(POOLED):
        part = excerpt.parts.get(stem)
        if part is None:
            continue
        level, peak = loudness(part.sound), float(np.abs(part.sound).max())
        if not math.isfinite(peak) or level < SILENT:
            continue
        levels.append(level)
        scale = PEAK / peak
        np.save(out / f"{name}_{stem}.npy", np.round(part.sound * np.float32(scale * 32767.0)).astype(np.int16))
        gain = REFERENCE / (level * scale)
        notes = part.notes
        line["stems"][stem] = {"source": part.source, "label": part.label, "gain": round(gain, 5), "notes": notes is not None}
        if part.source == "recorded":  # what is recorded has a balance of its own
            line["stems"][stem]["unscaled"] = 1.0 / scale
        if notes is not None and len(notes):
            rows.append(np.concatenate([notes, np.full((len(notes), 1), i, np.float32)], axis=1, dtype=np.float32))
    if not line["stems"]:
        return None
    for told in line["stems"].values():
        if "unscaled" in told:
            told["balance"] = round(told.pop("unscaled") * REFERENCE / float(np.mean(levels)), 5)
    notes = np.concatenate(rows)
    np.save(out / f"{name}_notes.npy", notes[np.argsort(notes[:, 1], kind="stable")])
    return line


def read_index(pool: Path) -> list[dict[str, Any]]:
    """The lines of a pool's index. Exits with a line that says what is missing."""
    path = pool / INDEX
    if not path.is_file():
        raise SystemExit(f"{path} is missing: build a pool with python -m models.separation.pool STEMS_FOLDER --out {pool}")
    lines: dict[str, dict[str, Any]] = {}
    for i, text in enumerate(path.read_text().splitlines(), 1):
        try:
            line = json.loads(text)
            lines[line["name"]] = line  # what was rendered again comes later
        except (ValueError, KeyError, TypeError):
            raise SystemExit(f"{path}, line {i}: expected an excerpt as JSON, got {text[:40]!r}: cut short? Remove the line") from None
    return list(lines.values())


def write_index(pool: Path, lines: list[dict[str, Any]]) -> None:
    """Write beside its place, then move."""
    unfinished = (pool / INDEX).with_suffix(".part")
    unfinished.write_text("".join(json.dumps(line) + "\n" for line in lines))
    unfinished.replace(pool / INDEX)


def read_sources(pool: Path) -> list[str]:
    """Whose samples were played in a pool, as far as it says so. Exits with a line where what says so is damaged."""
    path = pool / SOURCES
    if not path.is_file():
        return ["of a folder that is not on record"]
    text = path.read_bytes().decode(errors="replace")
    try:
        named = json.loads(text)
    except ValueError:
        named = None
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise SystemExit(
            f"{path}: expected a list of names as JSON, got {text[:40]!r}: write anew whose samples the pool plays, or remove it"
        )
    return named


def _write_sources(pool: Path, named: list[str]) -> None:
    unfinished = (pool / SOURCES).with_suffix(".part")
    unfinished.write_text(json.dumps(named, indent=1) + "\n")
    unfinished.replace(pool / SOURCES)


@contextmanager
def alone(pool: Path) -> Iterator[None]:
    """Make the folder, and nobody else writes a pool there meanwhile. Exits with a line where somebody does."""
    try:
        pool.mkdir(parents=True, exist_ok=True)
        lock = (pool / LOCK).open("w")
    except OSError as e:
        raise SystemExit(f"{pool}: expected a folder to write a pool to: {e.strerror}: name another --out") from None
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SystemExit(f"{pool} is being written by another process: wait for it") from None
        yield


@dataclass(frozen=True)
class Job:
    """What is rendered in one go: `n` excerpts of a kind."""

    kind: str
    split: str
    first: int  # number of the first excerpt
    n: int = 1


def plan(n: int, split: str, first: int, kinds: dict[str, float]) -> list[Job]:
    """Jobs for n excerpts by the weights of `kinds`, in an order that has the right shares at any time."""
    total = sum(kinds.values())
    wanted = {kind: weight / total for kind, weight in kinds.items()}
    made = dict.fromkeys(kinds, 0)
    jobs: list[Job] = []
    while sum(made.values()) < n:
        done = sum(made.values())
        kind = max(wanted, key=lambda k: wanted[k] * (done + 1) - made[k])
        size = min(BATCH if kind == "soundfont" else 1, n - done)
        jobs.append(Job(kind, split, first + done, size))
        made[kind] += size
    return jobs


def render(job: Job, *, folder: Path, out: Path, seed: int, fonts: list[Path]) -> list[dict[str, Any]]:
    """Render and write one job; the lines of the index that it adds."""
    if (folder, job.split) not in _stems:
        _stems[folder, job.split] = read_stems(folder, job.split)
    stems, rng = _stems[folder, job.split], np.random.default_rng([seed, job.first])
    if job.kind == "soundfont":
        made = excerpts.on_soundfont(stems, rng, job.n, fonts[rng.integers(len(fonts))])
    else:
        made = [KINDS[job.kind](stems, rng)]
    lines = [write_excerpt(out, f"{seed}_{job.first + i:05d}", job.split, excerpt) for i, excerpt in enumerate(made)]
    return [line for line in lines if line]


def main(arguments: list[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    # What is wrong with the folder is said before anything is written.
    able = {split: excerpts.possible(read_stems(args.folder, split)) for split in SPLITS}
    weights = dict(WEIGHTS)
    fonts = soundfont.fonts(args.fonts)
    for font in args.fonts or ():
        if font not in fonts:
            raise SystemExit(f"{font}: no such file, or FluidSynth is not installed")
        if not soundfont.is_font(font):
            raise SystemExit(f"{font}: expected a sound font (.sf2 or .sf3), and it is none: name another one, or leave --fonts out")
    if not fonts:
        del weights["soundfont"]
        print("FluidSynth or each of " + ", ".join(str(f) for f in soundfont.FONTS) + " is missing: the pool goes without sound fonts")
    n = max(2, round(args.minutes * 60.0 / excerpts.SECONDS))
    n_held = max(1, round(VALIDATION * n))
    # Validation first: a pool that grows can be used.
    jobs: list[Job] = []
    for split, size, first in (("validation", n_held, n - n_held), ("train", n - n_held, 0)):
        lacking = sorted(weights.keys() - set(able[split]))
        if lacking:
            print(f"{split}: {args.folder} has too few samples for {', '.join(lacking)}: the pool goes without")
        jobs += plan(size, split, first, {kind: w for kind, w in weights.items() if kind in able[split]})
    each = partial(render, folder=args.folder, out=args.out, seed=args.seed, fonts=fonts)
    with alone(args.out), tqdm(total=n, unit="excerpt", mininterval=5) as bar:
        there = read_index(args.out) if (args.out / INDEX).is_file() else []
        played = sources(args.folder)
        before = read_sources(args.out) if any("dataset" not in line for line in there) else []
        _write_sources(args.out, sorted({*played, *before}))
        made: list[dict[str, Any]] = []
        write_index(args.out, there)
        with (args.out / INDEX).open("a") as index:
            for job, lines in zip(jobs, _all(each, jobs, args.processes), strict=True):
                index.write("".join(json.dumps(line) + "\n" for line in lines))
                index.flush()
                made += lines
                bar.update(job.n)
        write_index(args.out, [line for line in there if "dataset" in line] + made)
        _write_sources(args.out, played)


def _all(each: Callable[[Job], list[dict[str, Any]]], jobs: list[Job], processes: int) -> Iterator[list[dict[str, Any]]]:
    if processes == 1:
        yield from map(each, jobs)
        return
    try:
        # multiprocessing.Pool would wait for ever where a worker exits with a line
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(each, jobs)
    except BrokenProcessPool:
        raise SystemExit("a process that rendered was killed, as happens where memory is short: try fewer --processes") from None


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    p.add_argument("folder", type=Path, help="with manifest.csv, splits.json, samples and songs")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--minutes", type=number(above=True), default=160.0, help="of each stem; a minute of all takes at most 32 MB")
    p.add_argument("--fonts", type=Path, nargs="+", help="General MIDI sound fonts, as a rule those of Debian whose licence is MIT")
    p.add_argument("--processes", type=whole(1), default=1)
    p.add_argument("--seed", type=whole(0), default=1)
    return p


if __name__ == "__main__":
    main()
