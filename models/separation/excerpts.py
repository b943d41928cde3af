"""One excerpt of a song, rendered: its stems, their notes, and where they come from. What is drawn depends on the seed alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.separation.instruments import bass_patch, other_patch, parts, placed, play_patch
from models.separation.kits import draw_kit, play_drums
from models.separation.songs import Song, read_song
from models.separation.stems import SAMPLE_RATE, STEMS, Stems

SECONDS = 24.0
FEWEST = {"drums": 12, "bass": 4, "other": 6}  # notes of an excerpt
TEMPO = (0.85, 1.2)  # times the song's


@dataclass
class Part:
    """A stem of an excerpt."""

    sound: np.ndarray  # (2, n_frames) float32
    source: str  # samples, electronic, synthesis, soundfont or loops
    label: str  # kit or patches
    notes: np.ndarray | None = None  # (n, 3) float32: key, onset frame, end frame; None: unknown


@dataclass
class Excerpt:
    """Stems that belong together; a stem may be absent."""

    song: str
    parts: dict[str, Part] = field(default_factory=dict)


def draw_song(stems: Stems, rng: np.random.Generator, seconds: float = SECONDS) -> tuple[str, Song]:
    """A stretch of a random song in which all stems play, a little quicker or slower; after twenty tries, any."""
    name, song = "", None
    for _ in range(20):
        name = stems.songs[rng.integers(len(stems.songs))]
        song = read_song(stems.folder / name).faster(float(rng.uniform(*TEMPO)))
        begin = float(rng.uniform(0.0, max(0.0, song.seconds - seconds)))
        song = song.between(begin, seconds)
        name = f"{name}@{begin:.1f}"
        if all(len(song.stem(stem)) >= FEWEST[stem] for stem in STEMS):
            break
    assert song is not None
    return name, song


def sampled(stems: Stems, rng: np.random.Generator) -> Excerpt:
    """A song on real samples."""
    name, song = draw_song(stems, rng)
    n_frames = int(SECONDS * SAMPLE_RATE)
    excerpt = Excerpt(name)
    kit = draw_kit(stems, rng)
    excerpt.parts["drums"] = Part(play_drums(kit, song.drums, n_frames, rng), "samples", kit.name)
    for stem in ("bass", "other"):
        excerpt.parts[stem] = pitched(stems, stem, song.stem(stem), n_frames, rng)
    return excerpt


def pitched(stems: Stems, stem: str, notes: np.ndarray, n_frames: int, rng: np.random.Generator) -> Part:
    """Bass or other, each of its parts on a patch of its own."""
    out = np.zeros((2, n_frames), np.float32)
    heard, labels = [np.zeros((0, 3), np.float32)], []
    for part in parts(notes):
        patch = bass_patch(stems, rng) if stem == "bass" else other_patch(stems, int(part[0, 4]), rng)
        sound, played = play_patch(stems, patch, part, n_frames, rng)
        out += placed(sound, part, stem, rng)
        heard.append(played)
        labels.append(patch.name)
    return Part(out, "samples", ", ".join(labels), np.concatenate(heard))
