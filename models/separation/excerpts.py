"""One excerpt of a song, rendered: its stems, their notes, and where they come from. What is drawn depends on the seed alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from models.separation import drumbus, loops, soundfont
from models.separation.atmosphere import PUMPED, pump, surround
from models.separation.electronic import draw_electronic
from models.separation.instruments import amplified, bass_patch, other_patch, parts, placed, play_patch
from models.separation.kits import draw_kit, humanised, play_drums
from models.separation.patterns import pattern
from models.separation.songs import END, ONSET, PROGRAM, Song, read_song
from models.separation.stems import SAMPLE_RATE, STEMS, Stems
from models.separation.synths import draw_synth, play_synth

SECONDS = 24.0
N_FRAMES = int(SECONDS * SAMPLE_RATE)
FEWEST = {"drums": 12, "bass": 4, "other": 6}  # notes of an excerpt
TEMPO = (0.85, 1.2)  # times the song's
INVENTED = 0.7  # share of the electronic excerpts that play a pattern and no song


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


def possible(stems: Stems) -> list[str]:
    """The kinds of excerpts that there is material for."""
    loops_of = {s.stem for s in stems.samples if s.collection == "loops"}
    played = {s.stem for s in stems.samples if s.collection != "loops"}
    kinds = ["electronic", "soundfont"]
    return kinds + ["samples"] * (played == set(STEMS)) + ["loops"] * ({"drums", "other"} <= loops_of)


def draw_song(stems: Stems, rng: np.random.Generator) -> tuple[str, Song]:
    """A stretch of a random song in which all stems play, a little quicker or slower; after twenty tries, any."""
    name, song = "", None
    for _ in range(20):
        name = stems.songs[rng.integers(len(stems.songs))]
        song = read_song(stems.folder / name).faster(float(rng.uniform(*TEMPO)))
        begin = float(rng.uniform(0.0, max(0.0, song.seconds - SECONDS)))
        song = song.between(begin, SECONDS)
        name = f"{name}@{begin:.1f}"
        if all(len(song.stem(stem)) >= FEWEST[stem] for stem in STEMS):
            break
    assert song is not None
    return name, song


def sampled(stems: Stems, rng: np.random.Generator) -> Excerpt:
    """A song on real samples; a fifth of the parts of other are synthesised."""
    name, song = draw_song(stems, rng)
    kit = draw_kit(stems, rng)
    played = play_drums(kit, humanised(song.drums, rng), N_FRAMES, rng)
    excerpt = Excerpt(name, {"drums": Part(drumbus.live(played, rng), "samples", kit.name)})
    for stem in ("bass", "other"):
        excerpt.parts[stem] = _pitched(stems, stem, song.stem(stem), rng, 0.0 if stem == "bass" else 0.2)
    return excerpt


def electronic(stems: Stems, rng: np.random.Generator) -> Excerpt:
    """A pattern or a song on an electronic kit and synthesisers."""
    name, song = ("pattern", pattern(rng, SECONDS)) if rng.random() < INVENTED else draw_song(stems, rng)
    kit = draw_electronic(rng)
    excerpt = Excerpt(name, {"drums": Part(drumbus.machine(play_drums(kit, song.drums, N_FRAMES, rng), rng), "electronic", kit.name)})
    for stem in ("bass", "other"):
        excerpt.parts[stem] = _pitched(stems, stem, song.stem(stem), rng, 1.0)
    if rng.random() < PUMPED:
        pump(excerpt.parts["bass"].sound, song.drums, rng)
    other = excerpt.parts["other"]
    other.sound, noted = surround(other.sound, song.drums, rng)
    other.notes = other.notes if noted else None
    return excerpt


def looped(stems: Stems, rng: np.random.Generator) -> Excerpt:
    """Loops: no bass, and no notes of other."""
    drums, name = loops.drum_loop(stems, N_FRAMES, rng)
    _, song = draw_song(stems, rng)
    other, label = loops.tonal_loop(stems, song.other, N_FRAMES, rng)
    return Excerpt("loops", {"drums": Part(drums, "loops", name), "other": Part(other, "loops", label)})


def on_soundfont(stems: Stems, rng: np.random.Generator, n: int, font: Path) -> list[Excerpt]:
    """n songs on a sound font, rendered in one go."""
    drawn = [draw_song(stems, rng) for _ in range(n)]
    made = soundfont.render([song for _, song in drawn], stems.split, font, rng)
    for each in made:
        drumbus.live(each["drums"][0], rng)
        amplified(each["bass"][0], rng)
    return [
        Excerpt(name, {stem: Part(sound, "soundfont", label, notes) for stem, (sound, label, notes) in each.items()})
        for (name, _), each in zip(drawn, made, strict=True)
    ]


def _pitched(stems: Stems, stem: str, notes: np.ndarray, rng: np.random.Generator, synthesised: float) -> Part:
    """Bass or other, each of its parts on a patch of its own, a share of them synthesised."""
    out = np.zeros((2, N_FRAMES), np.float32)
    heard, labels, source, tuned = [np.zeros((0, 3), np.float32)], [], "samples", True
    for part in parts(notes):
        if rng.random() < synthesised:
            synth = draw_synth(rng, stem, float(np.median(part[:, END] - part[:, ONSET])))
            (sound, played), name = play_synth(synth, part, N_FRAMES), f"synth {synth.name}"
            source = "synthesis" if synthesised == 1.0 else source
        else:
            patch = bass_patch(stems, rng) if stem == "bass" else other_patch(stems, int(part[0, PROGRAM]), rng)
            (sound, played), name = play_patch(stems, patch, part, N_FRAMES, rng), patch.name
            tuned &= patch.tuned
            if stem == "bass":
                amplified(sound, rng)
        out += placed(sound, part, stem, rng)
        heard.append(played)
        labels.append(name)
    return Part(out, source, ", ".join(labels), np.concatenate(heard) if tuned else None)
