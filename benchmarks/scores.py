"""What it takes to load a score: seconds and memory, by its number of notes.

usage: scores.py [--sizes N ...] [--output FILE.json]

A piano score of sixteenths and held basses is written as MusicXML and as MIDI, and loaded in a process of its own: seconds of
`load_score`, of `Score.events`, of `Score.from_npz` from what was kept, its bytes on disk, and by how much the largest memory of the
process grew (Linux).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mido
import numpy as np
from machine import machine, write_result
from tqdm import tqdm

STEPS = {0: "C", 2: "D", 4: "E", 5: "F", 7: "G", 9: "A", 11: "B"}
BAR = 17  # notes in a bar: sixteen and a bass


def write_scores(n_notes: int, folder: Path) -> list[Path]:
    """The same notes as MusicXML and as MIDI."""
    random = np.random.default_rng(n_notes)
    text = ['<score-partwise><part-list><score-part id="P1"><part-name>Piano</part-name></score-part></part-list><part id="P1">']
    file = mido.MidiFile(ticks_per_beat=4)
    upper, lower = file.add_track(), file.add_track()
    for bar in range(max(1, n_notes // BAR)):
        text.append(f'<measure number="{bar + 1}">')
        if bar == 0:
            text.append("<attributes><divisions>4</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>")
        pitches = random.choice([p for p in range(60, 90) if p % 12 in STEPS], BAR).tolist()
        for pitch in pitches[:-1]:
            text.append(_note(pitch, 1, 1))
            upper += [mido.Message("note_on", note=pitch), mido.Message("note_off", note=pitch, time=1)]
        text.append(f"<backup><duration>16</duration></backup>{_note(pitches[-1] - 36, 16, 2)}</measure>")
        lower += [mido.Message("note_on", note=pitches[-1] - 36), mido.Message("note_off", note=pitches[-1] - 36, time=16)]
    text.append("</part></score-partwise>")
    (folder / "score.musicxml").write_text("".join(text))
    file.save(folder / "score.mid")
    return [folder / "score.musicxml", folder / "score.mid"]


def _note(pitch: int, duration: int, voice: int) -> str:
    place = f"<pitch><step>{STEPS[pitch % 12]}</step><octave>{pitch // 12 - 1}</octave></pitch>"
    return f"<note>{place}<duration>{duration}</duration><voice>{voice}</voice><staff>{voice}</staff></note>"


def peak_memory() -> int:
    """Bytes that this process had in memory at most. (The usual count, ru_maxrss, begins with the parent's.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def load(path: Path) -> dict[str, Any]:
    """Load it once, in this process."""
    from rtserver.following import parse  # noqa: F401  what every load needs
    from rtserver.following.score import Score, load_score

    before = peak_memory()
    start = time.perf_counter()
    score = load_score(path)
    loaded = time.perf_counter()
    events = score.events()
    done = time.perf_counter()
    peak = peak_memory()
    kept = path.with_suffix(".npz")
    score.to_npz(kept)
    again = time.perf_counter()
    Score.from_npz(kept)
    return {
        "format": path.suffix,
        "notes": len(score.notes),
        "onsets": len(events),
        "file_bytes": path.stat().st_size,
        "load_s": round(loaded - start, 3),
        "events_s": round(done - loaded, 4),
        "from_npz_s": round(time.perf_counter() - again, 4),
        "npz_bytes": kept.stat().st_size,
        "peak_memory_mb": round((peak - before) / 2**20, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 50_000, 100_000], metavar="N")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load is not None:
        print(json.dumps(load(arguments.load)))
        return
    rows: list[dict[str, Any]] = []
    for size in tqdm(arguments.sizes, desc="scores"):
        with tempfile.TemporaryDirectory() as folder:
            for path in write_scores(size, Path(folder)):
                command = [sys.executable, __file__, "--load", str(path)]
                rows.append(json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout))
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    write_result("scores", {"machine": machine(), "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
