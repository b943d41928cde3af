"""The recorded demonstration lived through again, offline, and compared with what was played: the same, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtserver.audio import file as audio_file
from rtserver.errors import RtserverError
from rtserver.events import Note
from rtserver.recording.log import from_line
from rtserver.replay import PERFORMED, Log


@dataclass(frozen=True)
class Again:
    """What the replay of a recording gave.

    Frames compared and frames that differ; notes that the performer made in either, how many of them are the same, and those that are not.
    """

    n_frames: int
    n_different: int
    n_notes: int
    n_same_notes: int
    unlike: tuple[str, ...] = ()


def again(recording: Path, folder: Path) -> Again:
    """Replay the recording in a folder into another."""
    command = [sys.executable, "-m", "rtserver", "render", str(recording / "input.wav"), "-o", str(folder), "--replay", str(recording)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RtserverError(f"the replay failed: {done.stderr.strip()}")
    live, _ = audio_file.read(recording / "played.wav")
    replayed, _ = audio_file.read(folder / "played.wav")
    n = min(live.shape[1], replayed.shape[1])
    different = (live[:, :n] != replayed[:, :n]).any(axis=0)
    log = Log.read(recording)
    lines = (folder / "events.jsonl").read_bytes().splitlines()
    live_notes, notes_again = zip(log.decks, log.events, strict=True), map(from_line, lines)
    notes, played = ({(deck, e) for deck, e in said if isinstance(e, Note) and e.part in PERFORMED} for said in (live_notes, notes_again))
    return Again(n, int(np.count_nonzero(different)), len(notes | played), len(notes & played), tuple(sorted(map(str, notes ^ played))))
