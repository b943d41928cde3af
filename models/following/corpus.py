"""Sound with known onsets, from scores: ``python -m models.following.corpus NOTES OUT --fonts A.sf2 B.sf3``.

NOTES is the folder of note lists that the performer is trained on (`models.generation.pieces.FILES`, CC0 1.0). A rendering is a row of
stretches of pieces and of free piano writing (`models.following.textures`), some over each other, played with random tempo, rubato,
articulation, loudness, pedal and transposition through FluidSynth, and heard in a random room (`models.following.acoustics`); kept are
the semitone spectra that the follower sees, and the notes. With ``--scores`` it is one stretch of one piece, and its score lies beside it
as MIDI.

A rendering is an .npz of ``semitones`` float16 (n_hops, 107) and ``notes`` float64 (n, 5): onset and release in seconds, pitch, velocity,
and the quarter of the score at which it is written (NaN: in no score).
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import mido
import numpy as np
from tqdm import tqdm

from models.following.acoustics import heard
from models.following.textures import texture
from models.generation.pieces import FILES
from rtserver.audio.file import read
from rtserver.dsp.features import Features
from rtserver.dsp.layout import N_FEATURES, N_SEMITONES, SEMITONES
from rtserver.node import Spec

SAMPLE_RATE = 44100
EVERY_TENTH = 10  # piece of each file is kept for validation
TICKS = 24  # a quarter
PIANOS = (0, 0, 0, 1, 2)  # General MIDI programs
OTHERS = (4, 6, 11, 13, 19, 24, 40, 41, 42, 46, 56, 60, 65, 68, 71, 73, 79)
LEAD_S = 0.3  # before the first note
SHORTEST_S = 0.05
STRETCH_S = (8.0, 40.0)
FEWEST = 20  # notes of a rendering
OUT_OF_TUNE_CENTS = 6.0  # standard deviation
SEPARATE_S = 0.04  # a key is not struck twice within
ONSET, RELEASE, PITCH, VELOCITY, QUARTER = range(5)
Rows = list[tuple[float, float, int, int, float]]
Written = tuple[np.ndarray, np.ndarray, np.ndarray]  # onset and duration in quarters, pitch


def load(folder: Path, validation: bool) -> list[list[Written]]:
    """The pieces of one side of the split, file by file."""
    files: list[list[Written]] = []
    for file in FILES:
        path = folder / file
        if not path.exists():
            raise SystemExit(f"{path} is missing: the data are {' and '.join(FILES)}, in one folder")
        data = dict(np.load(path))
        ends = np.cumsum(data["length"])
        pieces: list[Written] = []
        for i, (a, b) in enumerate(zip(ends - data["length"], ends, strict=True)):
            if (i % EVERY_TENTH == EVERY_TENTH - 1) == validation:
                onset = np.cumsum(data["donset"][a:b].astype(np.int64)) / TICKS
                pieces.append((onset, data["dur"][a:b] / TICKS, data["pitch"][a:b].astype(np.int64)))
        files.append(pieces)
    return files


def stretch(files: list[list[Written]], rng: np.random.Generator, seconds: float) -> tuple[Written, float] | None:
    """Some bars of a random piece, transposed, some with octaves added, and their tempo in quarters a minute; None where too little is."""
    pieces = files[0] if rng.random() < 0.75 else files[1]
    onset, duration, pitch = pieces[rng.integers(len(pieces))]
    bpm = float(np.exp(rng.uniform(np.log(60.0), np.log(240.0))))
    first = rng.uniform(0.0, max(0.0, onset[-1] - seconds * bpm / 60.0))
    inside = (onset >= first) & (onset < first + 1.3 * seconds * bpm / 60.0)
    onset, duration, pitch = onset[inside], duration[inside], pitch[inside]
    if len(onset) < 5:
        return None
    onset = onset - onset[0]
    pitch = pitch + rng.integers(-7, 8) + 12 * rng.choice([-1, 0, 0, 0, 1])
    if rng.random() < 0.3:
        doubled = rng.random(len(pitch)) < 0.5
        onset, duration = np.concatenate([onset, onset[doubled]]), np.concatenate([duration, duration[doubled]])
        pitch = np.concatenate([pitch, pitch[doubled] + rng.choice([-12, 12])])
    keys = (pitch >= 21) & (pitch <= 108)
    if not keys.any():
        return None
    return (onset[keys] - onset[keys].min(), duration[keys], pitch[keys]), bpm


def perform(written: Written, bpm: float, rng: np.random.Generator, seconds: float) -> Rows:
    """Play it: a random walk of tempo, spread chords, more or less legato, phrases of loudness."""
    onset, duration, pitch = written
    walk = np.cumsum(rng.normal(0.0, 0.06, int(onset.max()) + 5))
    quarters = 60.0 / bpm * np.exp(walk - np.linspace(0.0, walk[-1], len(walk)))
    clock = np.concatenate([[0.0], np.cumsum(quarters)])
    begin = np.interp(onset, np.arange(len(clock)), clock)
    end = np.interp(onset + duration, np.arange(len(clock)), clock)
    return expressive(begin, end - begin, pitch, onset, rng, seconds)


def free(rng: np.random.Generator, seconds: float) -> Rows:
    """Play what no score has."""
    begin, length, pitch = (np.array(column) for column in zip(*texture(rng, seconds), strict=True))
    return expressive(begin, length, pitch.astype(int), np.full(len(begin), np.nan), rng, seconds)


def expressive(  # noqa: PLR0917
    begin: np.ndarray, length: np.ndarray, pitch: np.ndarray, quarter: np.ndarray, rng: np.random.Generator, seconds: float
) -> Rows:
    """Notes of so many seconds by a human hand: more or less legato and together, in phrases of loudness."""
    length = np.maximum(length * rng.uniform(0.4, 1.1), SHORTEST_S)
    begin = np.maximum(begin + rng.normal(0.0, rng.choice([0.0, 0.005, 0.01, 0.02]), len(begin)), 0.0)
    knots = np.arange(0.0, 2.0 * seconds + 4.0, 4.0)
    phrase = np.interp(begin, knots, rng.normal(0.0, 14.0, len(knots)))
    velocity = np.clip(rng.uniform(30.0, 95.0) + phrase + rng.normal(0.0, 9.0, len(begin)), 12, 127)
    rows = zip(begin + LEAD_S, begin + LEAD_S + length, pitch, velocity, quarter, strict=True)
    return [(float(t), float(e), int(p), int(v), float(q)) for t, e, p, v, q in rows if t < seconds + LEAD_S]


def playable(rows: Rows) -> Rows:
    """In order, no key struck while it is down."""
    last: dict[int, int] = {}
    kept: Rows = []
    for row in sorted(rows):
        before = last.get(row[PITCH])
        if before is not None:
            if row[ONSET] - kept[before][ONSET] < SEPARATE_S:
                continue
            cut = min(kept[before][RELEASE], row[ONSET] - 0.005)
            kept[before] = (kept[before][ONSET], cut, *kept[before][PITCH:])
        last[row[PITCH]] = len(kept)
        kept.append(row)
    return kept


def sound(rows: Rows, rng: np.random.Generator, font: Path, piano: bool) -> np.ndarray:
    """Render through FluidSynth, mono float32: a random program, a little out of tune, some pedal, in a random room."""
    events = [(row[ONSET], 1, mido.Message("note_on", note=row[PITCH], velocity=row[VELOCITY])) for row in rows]
    events += [(row[RELEASE], 0, mido.Message("note_off", note=row[PITCH])) for row in rows]
    if piano and rng.random() < 0.7:
        now = LEAD_S
        while now < rows[-1][ONSET]:
            events.append((now + 0.06, 2, mido.Message("control_change", control=64, value=127)))
            now += rng.uniform(0.4, 2.5)
            events.append((now, 0, mido.Message("control_change", control=64, value=0)))
    program = int(rng.choice(PIANOS) if piano else rng.choice(OTHERS))
    bend = int(np.clip(rng.normal(0.0, OUT_OF_TUNE_CENTS), -30.0, 30.0) * 8192 / 200)
    first = [mido.MetaMessage("set_tempo", tempo=1_000_000), mido.Message("program_change", program=program)]
    reverberation = int(rng.random() < 0.6)
    with tempfile.TemporaryDirectory() as scratch:
        midi, wav = Path(scratch) / "a.mid", Path(scratch) / "a.wav"
        write_midi(midi, events, 1000, [*first, mido.Message("pitchwheel", pitch=bend)])
        command = ["fluidsynth", "-ni", "-q", "-R", str(reverberation), "-C", "0", "-g", "0.5", "-r", str(SAMPLE_RATE), "-O", "s16"]
        command += ["-o", "synth.dynamic-sample-loading=1"]  # a font may be large, and only one program of it is heard
        subprocess.run([*command, "-F", str(wav), str(font), str(midi)], check=True, capture_output=True)
        signal, _ = read(wav)
    return heard(signal.mean(axis=0)[: int((rows[-1][ONSET] + 2.0) * SAMPLE_RATE)], rng, SAMPLE_RATE)


def write_midi(path: Path, events: list[tuple[float, int, mido.Message]], ticks: int, start: list[mido.Message]) -> None:
    """A MIDI file of messages at quarters, or at seconds where a quarter lasts one."""
    track = mido.MidiTrack(start)
    now = 0
    for when, _, message in sorted(events, key=lambda e: e[:2]):
        tick = max(now, round(when * ticks))
        track.append(message.copy(time=tick - now))
        now = tick
    mido.MidiFile(ticks_per_beat=ticks, tracks=[track]).save(path)


def write_score(path: Path, written: Written, bpm: float) -> None:
    """The score as MIDI."""
    notes = list(zip(*written, strict=True))
    events = [(q, 1, mido.Message("note_on", note=int(p), velocity=64)) for q, _, p in notes]
    events += [(q + d - 0.01, 0, mido.Message("note_off", note=int(p))) for q, d, p in notes]
    write_midi(path, events, 480, [mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm))])


def semitones_of(y: np.ndarray) -> np.ndarray:
    """The spectra (n_hops, 107) float32 that the follower sees."""
    features = Features(SAMPLE_RATE)
    hop = features.hop_size
    features.prepare(Spec.signal(SAMPLE_RATE, 1, hop))
    out, spectra = np.zeros(N_FEATURES, np.float32), np.zeros((len(y) // hop, N_SEMITONES), np.float32)
    for n, row in enumerate(spectra):
        features.process(y[None, n * hop : (n + 1) * hop].copy(), out)
        row[:] = out[SEMITONES:]
    return spectra


def scored(files: list[list[Written]], rng: np.random.Generator, seconds: float) -> tuple[Written, float, Rows]:
    """One stretch of a piece: (what is written, its tempo, what is played)."""
    while True:
        found = stretch(files, rng, seconds)
        if found is not None:
            rows = playable(perform(*found, rng, seconds))
            if len(rows) >= FEWEST:
                return *found, rows


def medley(files: list[list[Written]], rng: np.random.Generator, seconds: float) -> Rows:
    """Stretches of pieces and free writing, one after the other, some over each other."""
    rows: Rows = []
    now = 0.0
    while now < seconds or len(rows) < FEWEST:
        length = float(rng.uniform(*STRETCH_S))
        layers: Rows = []
        kind = rng.random()
        if kind < 0.65:
            layers += scored(files, rng, length)[2]
        if kind < 0.1:
            layers += scored(files, rng, length)[2]
        if kind > 0.55:
            layers += free(rng, length)
        rows += [(row[ONSET] + now, row[RELEASE] + now, *row[PITCH:]) for row in layers]
        now += length + rng.uniform(0.0, 1.0)
    return playable([row for row in rows if row[ONSET] < seconds + LEAD_S])


def write(i: int, args: argparse.Namespace, files: list[list[Written]]) -> None:
    """Rendering number `i`: the same whatever the others are."""
    rng = np.random.default_rng([args.seed, i])
    path = args.out / f"{args.seed}_{i:03d}.npz"
    if args.scores:
        (onset, duration, pitch), bpm, rows = scored(files, rng, args.seconds)
        kept = onset <= max(row[QUARTER] for row in rows)
        write_score(path.with_suffix(".mid"), (onset[kept], duration[kept], pitch[kept]), bpm * float(np.exp(rng.normal(0.0, 0.2))))
    else:
        rows = medley(files, rng, args.seconds)
    font = args.fonts[rng.integers(len(args.fonts))]
    spectra = semitones_of(sound(rows, rng, font, bool(rng.random() < args.pianos)))
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez(file, semitones=spectra.astype(np.float16), notes=np.array(rows, np.float64))
    unfinished.replace(path)


def main(arguments: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("notes", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--fonts", type=Path, nargs="+", required=True, help="General MIDI sound fonts whose licence lets weights be shipped")
    p.add_argument("--count", type=int, default=120)
    p.add_argument("--seconds", type=float, default=60.0)
    p.add_argument("--pianos", type=float, default=0.8, help="share of renderings on a piano")
    p.add_argument("--validation", action="store_true", help="take every tenth piece, which training never sees")
    p.add_argument("--scores", action="store_true", help="one stretch of one piece each, with its score beside it")
    p.add_argument("--processes", type=int, default=1)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    each = partial(write, args=args, files=load(args.notes, args.validation))
    if args.processes == 1:
        for i in tqdm(range(args.count)):
            each(i)
        return
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for _ in tqdm(pool.imap_unordered(each, range(args.count)), total=args.count):
            pass


if __name__ == "__main__":
    main()
