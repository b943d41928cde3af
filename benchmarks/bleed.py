"""What it costs the follower to hear the server's own notes, and what taking them away gives back.

usage: bleed.py [PIECES_DIR] [--sounds PROGRAM ...] [--levels DB ...] [--methods NAME ...] [--delay S] [--output FILE]

Without PIECES_DIR the piece is the demonstration's. PIECES_DIR/<piece>/ holds score.mid, gt.csv and perf.wav, as for following.py. The
accompaniment is what the performer plays to that recording: the follower's positions turn its clock, chroma is its harmony. FluidSynth
gives it another sound (General MIDI programs, from 0); it is mixed into the recording, `delay` seconds late, with an RMS `level` dB above
the recording's. The follower is judged as in following.py: without it (`no bleed`); with it, and the notes not told to the follower
(`heard`); with it, and told (`told`). `told, not heard`: the notes are told, but are not in the sound, as with a player who wears
headphones. Shares in percent of all onsets of all pieces.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

import mido
import numpy as np
import numpy.typing as npt
from following import features_of, judge, read_truth
from machine import machine, write_result
from tqdm import tqdm

from rtserver.audio.file import read
from rtserver.demo import RECORDING, SCORE, TRUTH
from rtserver.dsp.layout import N_CHROMA, N_FEATURES
from rtserver.events import Event, Note, Position
from rtserver.following.bleed import OwnNote
from rtserver.following.follower import Follower
from rtserver.following.score import Score, load_score
from rtserver.following.states import FOLLOWING
from rtserver.generation.constraints import Constraints
from rtserver.generation.modes import Accompanist
from rtserver.generation.performer import Performer
from rtserver.node import Spec
from rtserver.transport import Transport

FONT = "/usr/share/sounds/sf2/FluidR3_GM.sf2"
EFFECT_HOPS, HORIZON_S = 2, 0.05
F32 = npt.NDArray[np.float32]


def follow(score: Score, method: str, x: F32, rate: int, notes: list[Note]) -> list[Position]:
    """Positions, one a hop; `notes` are told to the follower hop by hop."""
    hop = rate // 100
    follower = Follower(score, method)
    follower.prepare(Spec(rate, hop, (N_FEATURES,)))
    events: list[Event] = []
    coming = sorted(notes, key=lambda note: note.available_frame)
    for n, row in enumerate(x):
        frame = (n + 1) * hop
        while coming and coming[0].available_frame + EFFECT_HOPS * hop <= frame:
            note = coming.pop(0)
            follower.own_note(OwnNote(note.pitch, note.velocity, note.channel, (note.frame - frame) // hop + 1))
        follower.process(row, frame, events.append)
    return [event for event in events if isinstance(event, Position)]


def accompaniment(positions: list[Position], x: F32, rate: int, seed: int) -> list[Note]:
    """What the performer plays to somebody who is followed so."""
    hop = rate // 100
    transport = Transport(rate)
    notes: list[Event] = []
    accompanist = Accompanist(
        Performer(seed=seed, temperature=0.9), transport, constraints=Constraints(low=48, high=84, polyphony=3, grid=12)
    )
    coming = list(positions)
    for n, row in enumerate(x):
        frame = (n + 1) * hop
        while coming and coming[0].frame + EFFECT_HOPS * hop <= frame:
            position = coming.pop(0)
            if position.state in FOLLOWING:
                transport.follow(frame, position)
            else:
                transport.stop(position.frame)
        accompanist.hear_chroma(frame, row[:N_CHROMA])
        accompanist.advance(frame, round(HORIZON_S * rate), notes.append)
    return [note for note in notes if isinstance(note, Note)]


def played(notes: list[Note], program: int, rate: int, n_frames: int, delay_s: float) -> F32:
    """FluidSynth's rendering of `notes` (1, n_frames), `delay_s` late."""
    messages: list[tuple[float, int, mido.Message]] = []
    for note in notes:
        messages.append((note.frame / rate, 1, mido.Message("note_on", note=note.pitch, velocity=note.velocity)))
        messages.append(((note.frame + note.duration) / rate, 0, mido.Message("note_off", note=note.pitch)))
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000), mido.Message("program_change", program=program)])
    last = 0
    for at, _, message in sorted(messages, key=lambda m: m[:2]):
        tick = round(1000 * (at + delay_s))
        track.append(message.copy(time=tick - last))
        last = tick
    with tempfile.TemporaryDirectory() as folder:
        path, wav = Path(folder, "own.mid"), Path(folder, "own.wav")
        mido.MidiFile(ticks_per_beat=500, tracks=[track]).save(path)
        command = ["fluidsynth", "-ni", "-q", "-g", "0.5", "-r", str(rate), "-O", "float", "-T", "wav", "-F", str(wav), FONT, str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        sound = read(wav)[0].mean(axis=0, keepdims=True)
    out = np.zeros((1, n_frames), np.float32)
    out[:, : min(n_frames, sound.shape[1])] = sound[:, :n_frames]
    return out


def figures(truths: list[dict[str, npt.NDArray[np.float64]]], told: list[list[Position]], rates: list[int]) -> dict[str, float]:
    """Of all onsets of all pieces together."""
    errors, losts = [], []
    for truth, positions, rate in zip(truths, told, rates, strict=True):
        t = np.array([p.available_frame / rate for p in positions])
        error, lost = judge(truth, t, np.array([p.quarter for p in positions]))
        errors.append(np.nan_to_num(np.abs(error), nan=np.inf))
        losts.append(lost)
    off, lost = np.concatenate(errors), np.concatenate(losts)
    within = {f"<= {ms} ms": round(100 * float(np.mean(off <= ms / 1000)), 1) for ms in (50, 100, 500)}
    return {**within, "median ms": round(1000 * float(np.median(off)), 1), "lost %": round(100 * float(np.mean(lost)), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pieces", type=Path, nargs="?")
    parser.add_argument("--only", nargs="+", default=[""], help="pieces whose names begin so")
    parser.add_argument("--sounds", type=int, nargs="+", default=[0, 11, 19, 48])
    parser.add_argument("--levels", type=float, nargs="+", default=[-6.0, 0.0])
    parser.add_argument("--methods", nargs="+", default=["semimarkov"])
    parser.add_argument("--delay", type=float, default=0.015)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.pieces:
        folders = sorted(f for f in options.pieces.iterdir() if (f / "perf.wav").exists() and f.name.startswith(tuple(options.only)))
        sources = [(f / "score.mid", f / "perf.wav", f / "gt.csv") for f in folders]
    else:
        sources = [(SCORE, RECORDING, TRUTH)]
    rows: list[dict[str, object]] = []
    for method in options.methods:
        scores = [load_score(score) for score, _, _ in sources]
        truths = [read_truth(truth) for _, _, truth in sources]
        sounds = [read(path) for _, path, _ in sources]
        rates = [rate for _, rate in sounds]
        signals = [signal.mean(axis=0, keepdims=True) for signal, _ in sounds]
        clean = [features_of(signal, rate)[0] for signal, rate in zip(signals, rates, strict=True)]
        alone = [follow(score, method, x, rate, []) for score, x, rate in zip(scores, clean, rates, strict=True)]
        notes = [accompaniment(p, x, rate, seed) for seed, (p, x, rate) in enumerate(zip(alone, clean, rates, strict=True))]

        def tell(condition: str, told: list[list[Position]]) -> None:
            rows.append({"method": method, "condition": condition, **figures(truths, told, rates)})  # noqa: B023
            tqdm.write(" | ".join(str(value) for value in rows[-1].values()))

        tell("no bleed", alone)
        tell("told, not heard", [follow(*piece) for piece in zip(scores, [method] * len(scores), clean, rates, notes, strict=True)])
        for program in options.sounds:
            own = [played(n, program, rate, s.shape[1], options.delay) for n, rate, s in zip(notes, rates, signals, strict=True)]
            for level in options.levels:
                mixed: list[F32] = []
                for signal, sound, rate in zip(signals, own, rates, strict=True):
                    gain = np.sqrt(np.mean(signal**2) / max(float(np.mean(sound**2)), 1e-12)) * 10 ** (level / 20)
                    mixed.append(features_of((0.5 * (signal + gain * sound)).astype(np.float32), rate)[0])
                pieces = list(zip(scores, [method] * len(scores), mixed, rates, strict=True))
                tell(f"program {program}, {level:+.0f} dB, heard", [follow(*piece, []) for piece in pieces])
                tell(f"program {program}, {level:+.0f} dB, told", [follow(*piece, n) for piece, n in zip(pieces, notes, strict=True)])
    result = {"machine": machine(), "n_notes": [len(n) for n in notes], "delay_s": options.delay, "rows": rows}
    write_result("bleed", result, options.output)


if __name__ == "__main__":
    main()
