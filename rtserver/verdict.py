"""What a preflight found of a song, kept: a song that passed before, unchanged, need not be looked at again before it plays.

A verdict lies in the cache of kernels, for it holds as long as they do: whoever empties the cache has everything checked and compiled
anew. It goes by all of the package's sources, the score's content and whatever of the configuration the check looks at.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import msgspec

from rtserver.config import Config
from rtserver.config.separation import is_path
from rtserver.errors import SynthesisError
from rtserver.kernelcache import cache_folder
from rtserver.plan import Plan
from rtserver.synthesis import font_of
from rtserver.zoo import FOLDER, MANIFEST

SCORE_FILE, VERDICT_FILE = "score.npz", "verdict.json"
WHOLE_FILE = "whole.npz"  # beside the score, where that has not all parts as they are written
REFERENCE_FILE = "reference.npz"  # beside the score, where the follower is not to write one down from it
KEEP = 64  # verdicts, each with a parsed score of some tens of kilobytes; a reference of other than the score takes 3 MB a minute
LOOKED_AT = ("audio", "inputs", "outputs", "separation", "score", "following", "cues", "generation")
_PACKAGE = Path(__file__).parent


class Verdict(msgspec.Struct, frozen=True):
    """A song has passed: the delays of its outputs, and what is to be said of its score."""

    plan: Plan
    warnings: list[str] = []


def write_verdict(verdict: Verdict, folder: Path) -> None:
    """Leave it in `folder`, beside the parsed score."""
    (folder / VERDICT_FILE).write_bytes(msgspec.json.encode(verdict))


def read_verdict(folder: Path) -> Verdict | None:
    """The verdict in `folder`, if there is a whole one."""
    try:
        return msgspec.json.decode((folder / VERDICT_FILE).read_bytes(), type=Verdict)
    except (OSError, msgspec.MsgspecError):
        return None


def recall(config: Config, folder: Path) -> bool:
    """Put what is kept of a song into `folder`. False if nothing is, or not of this song."""
    kept = _place(config)
    if kept is None or read_verdict(kept) is None:
        return False
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        os.utime(kept)
    except OSError:
        return False
    return True


def keep(config: Config, folder: Path) -> None:
    """Keep what a preflight left in `folder`, whole or not at all; drop what was not recalled for longest. A full disk costs time alone."""
    place = _place(config)
    if place is None:
        return
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent.parent) as scratch:
            copy = Path(scratch) / place.name
            copy.mkdir()
            for name in (VERDICT_FILE, SCORE_FILE, WHOLE_FILE, REFERENCE_FILE):
                if (folder / name).exists():
                    shutil.copyfile(folder / name, copy / name)
            shutil.rmtree(place, ignore_errors=True)
            copy.rename(place)
        for old in sorted(place.parent.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True)[KEEP:]:
            shutil.rmtree(old, ignore_errors=True)


def _place(config: Config) -> Path | None:
    """Where the verdict of a song is kept; None if one of its files cannot be read, which the preflight will say."""
    key = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        key.update(path.read_bytes())
    key.update(msgspec.json.encode({name: getattr(config, name) for name in LOOKED_AT}))
    for model in config.separation_models:
        path = FOLDER if not is_path(model) else Path(model).parent
        try:
            key.update((path / MANIFEST).read_bytes())  # which knows the hash of the file
        except OSError:
            return None
    if config.score.file:
        try:
            key.update(Path(config.score.file).read_bytes())
        except OSError:
            return None
    following = config.following
    if config.score.file and following.reference != "score":
        # A sound font has a hundred megabytes, a recording as well: they go by size and date.
        try:
            if following.reference == "rendered":
                key.update(_stamp(font_of(following.sound_font)))
            else:
                key.update(_stamp(Path(following.recording)) + Path(following.recording_beats).read_bytes())
        except (OSError, SynthesisError):
            return None
    return cache_folder() / "verdicts" / key.hexdigest()[:32]


def _stamp(path: Path) -> bytes:
    """What changes when a file does."""
    there = path.stat()
    return f"{path} {there.st_size} {there.st_mtime_ns} ".encode()
