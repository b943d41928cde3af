"""How well the performer hears chords through drums: from the harmonic part of the sound, and from all of it.

usage: harmony.py [--programs PROGRAM ...] [--levels DB ...] [--seed N] [--preset NAME] [--output FILE]

FluidSynth plays triads, a new one every two quarters at 100 bpm, with one of the General MIDI programs, and a drum pattern with an RMS
`level` dB above them. The server's own graph turns the sound into what the performer role is given, and the listener hears that: with the
chroma of the whole, with that of the harmonic part, and with that of the whole whose mean was not taken away. Right is what it hears from
the keys of the same chords. `cosine` is the mean likeness of both at the middle of every quarter, in percent; `chord` is how often the
three strongest pitch classes just before the next chord are those of the chord. The listener's own way to sharpen chroma was chosen with
programs 0, 19 and 25 and other chords.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import mido
import numpy as np
import numpy.typing as npt
from machine import machine, write_result

from rtserver.audio.file import read
from rtserver.config import Config, Generation, Separation
from rtserver.dsp.layout import HARMONIC_CHROMA, HARMONIC_LEVEL, LEVEL, N_CHROMA, N_FEATURES, N_HEARD
from rtserver.generation.listener import Listener
from rtserver.generation.vocabulary import TICKS_PER_QUARTER
from rtserver.pipeline import build
from rtserver.roles.playing import chroma_of

FONT = "/usr/share/sounds/sf2/FluidR3_GM.sf2"
BPM, N_CHORDS, QUARTERS = 100, 48, 2
DRUMS = (((36, 42), (42,), (38, 42), (42,)), ((36, 42), (42, 36), (38, 46), (42,)), ((36, 51), (51,), (38, 51), (51, 37)))  # by eighths
WAYS = ("whole", "harmonic", "with mean")
F32 = npt.NDArray[np.float32]


def triads(seed: int) -> list[tuple[int, ...]]:
    """Major, minor and diminished ones, in three inversions."""
    rng = np.random.default_rng(seed)
    chords: list[tuple[int, ...]] = []
    for _ in range(N_CHORDS):
        root, shape = int(rng.integers(48, 60)), ((0, 4, 7), (0, 3, 7), (0, 3, 6))[rng.choice(3, p=(0.45, 0.45, 0.1))]
        inversion = int(rng.integers(3))
        chords.append(tuple(root + step + 12 * (i < inversion) for i, step in enumerate(shape)))
    return chords


def played(notes: list[tuple[float, float, int, int]], program: int, channel: int, rate: int) -> F32:
    """Sound (2, frames) of notes (quarter, until, pitch, velocity)."""
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(BPM))])
    if channel != 9:
        track.append(mido.Message("program_change", program=program, channel=channel))
    messages = [(a, 1, mido.Message("note_on", note=p, velocity=v, channel=channel)) for a, _, p, v in notes]
    messages += [(b, 0, mido.Message("note_off", note=p, channel=channel)) for _, b, p, _ in notes]
    last = 0
    for at, _, message in sorted(messages, key=lambda m: m[:2]):
        track.append(message.copy(time=round(480 * at) - last))
        last = round(480 * at)
    with tempfile.TemporaryDirectory() as folder:
        path, wav = Path(folder, "x.mid"), Path(folder, "x.wav")
        mido.MidiFile(ticks_per_beat=480, tracks=[track]).save(path)
        command = ["fluidsynth", "-ni", "-q", "-g", "0.5", "-r", str(rate), "-O", "float", "-T", "wav", "-F", str(wav), FONT, str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return read(wav)[0]


def heard(signal: F32, config: Config) -> F32:
    """What the performer role is given of a signal, (n_hops, N_HEARD)."""
    graph = build(config)["main"]
    row, rows = np.zeros(N_HEARD, np.float32), list[F32]()

    def harmony(x: Any, _: int) -> None:
        row[HARMONIC_CHROMA:HARMONIC_LEVEL], row[HARMONIC_LEVEL] = x[:N_CHROMA], x[LEVEL]

    def features(x: Any, _: int) -> None:
        row[:N_FEATURES] = x
        rows.append(row.copy())

    graph.tap("harmony", harmony)
    graph.tap("features", features)
    graph.freewheel(signal)
    return np.array(rows)


def listened(rows: F32, chords: list[tuple[int, ...]], way: str) -> tuple[list[float], list[bool]]:
    """Cosines with what is heard from the keys, and whether each chord was made out."""
    ear, keys = Listener("sound"), Listener("keys")
    per_hop = TICKS_PER_QUARTER * BPM / 6000.0
    cosines: list[float] = []
    right: list[bool] = []
    for n, row in enumerate(rows):
        tick = (n + 1) * per_hop
        at, before = (int(t / TICKS_PER_QUARTER) for t in (tick, tick - per_hop))
        if at >= QUARTERS * len(chords):
            break
        chord = chords[at // QUARTERS]
        keys.advance(tick)
        ear.advance(tick)
        if n == 0 or (at != before and at % QUARTERS == 0):
            if n:
                right.append(set(np.argsort(ear.heard)[-3:].tolist()) == {p % 12 for p in chords[before // QUARTERS]})
            for pitch in tuple(keys.keys):
                keys.key(pitch, False)
            for pitch in chord:
                keys.key(pitch, True)
        ear.chroma(chroma_of(row) if way == "harmonic" else row[:N_CHROMA])
        if way == "with mean":
            ear.active[:] = row[:N_CHROMA]
        half = TICKS_PER_QUARTER / 2
        if int((tick + half) / TICKS_PER_QUARTER) != int((tick - per_hop + half) / TICKS_PER_QUARTER):
            norm = float(np.linalg.norm(ear.heard) * np.linalg.norm(keys.heard))
            cosines.append(float(ear.heard @ keys.heard) / norm if norm else 0.0)
    return cosines, right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, nargs="+", default=[4, 16, 24, 48], help="General MIDI, from 0")
    parser.add_argument("--levels", type=float, nargs="+", default=[-6.0, 0.0, 6.0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--preset", default=Separation().preset)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    config = Config(generation=Generation(harmony="harmonic"), separation=Separation(preset=options.preset))
    rate = config.audio.sample_rate
    rows: list[dict[str, object]] = []
    for level in (None, *options.levels):
        found: dict[str, tuple[list[float], list[bool]]] = {way: ([], []) for way in WAYS}
        for i, program in enumerate(options.programs):
            chords = triads(options.seed * 100 + i)
            pattern = DRUMS[i % len(DRUMS)]
            music = played([(2.0 * k, 2.0 * k + 1.9, p, 90) for k, c in enumerate(chords) for p in c], program, 0, rate)
            hits = [(e / 2, e / 2 + 0.4, p, 100) for e in range(4 * len(chords)) for p in pattern[e % len(pattern)]]
            drums = played(hits, 0, 9, rate)
            n = min(music.shape[1], drums.shape[1])
            signal = music[:, :n]
            if level is not None:
                ratio = float(np.sqrt(np.mean(np.square(music)) / np.mean(np.square(drums))))
                signal = signal + np.float32(ratio * 10 ** (level / 20)) * drums[:, :n]
            signal = np.ascontiguousarray(signal / max(1.0, float(np.abs(signal).max())), np.float32)
            given = heard(signal[: len(config.inputs["main"].channels)], config)
            for way, (cosines, right) in found.items():
                a, b = listened(given, chords, way)
                cosines += a
                right += b
        row: dict[str, object] = {"drums": "none" if level is None else f"{level:+.0f} dB"}
        for way, (cosines, right) in found.items():
            row |= {f"{way} cosine %": round(100 * float(np.mean(cosines)), 1), f"{way} chord %": round(100 * float(np.mean(right)), 1)}
        rows.append(row)
        print(row, flush=True)
    if options.output:
        told = {k: v for k, v in vars(options).items() if k != "output"}
        write_result("harmony", {"machine": machine(), "options": told, "rows": rows}, options.output)


if __name__ == "__main__":
    main()
