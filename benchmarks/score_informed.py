"""How much better a network separates when it is told the score, and how much worse when it is told a wrong one.

    python benchmarks/score_informed.py [MODEL ...] [--songs 12 | --midi FOLDER | --clips FOLDER] [--seconds 20] [--preset default ...]
        [--rate 44100 ...] [--sound-font FONT] [--output FILE.json]

MODEL: names in the zoo, or files with a manifest beside them; without any stems3, stems3-int8 and hp-int8, as far as they are there.
Clips are songs made up from seeds, or the MIDI files of a folder, each played by FluidSynth stem by stem with a bent tempo (songs.py); or
with --clips a folder of folders with drums, bass and other (.wav or .flac), score.mid or score.musicxml, and beats.csv, which
``rtserver align SCORE MIXTURE -o beats.csv`` makes.

The network is told: no score; the true one at the true place; the true one where the follower hears it, as live; wrong ones believed
(another piece, the right one 2 s off, all of it a semitone up), which the follower is kept from noticing; and wrong ones followed as live
(another piece, a semitone up). `told`: of all hops the share in which it was told anything. SI-SDR in dB of each stem, and how much it is
above that without a score: mean over clips, and 95 % of a paired bootstrap. Everything runs hop by hop through the nodes that run live.
Printed before are, of the follower's positions, the shares that are LOCKED, that may be told (`trusted`), and that are within 0.1 s of the
truth (`right`).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from machine import machine, write_result
from songs import Clip, in_file, made_up, performed
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent))

from models.separation.clips import SILENT, bootstrap, folders, read_clip
from models.separation.sdr import si_sdr
from rtserver.config import Separation
from rtserver.dsp.features import Features
from rtserver.dsp.layout import N_FEATURES
from rtserver.errors import RtserverError
from rtserver.events import Position
from rtserver.following.follower import Follower
from rtserver.following.recorded import read_beats
from rtserver.following.score import Score, load_score
from rtserver.following.states import FOLLOWING, LOCKED
from rtserver.node import Array, Spec
from rtserver.roles.agenda import EFFECT_S
from rtserver.separation.expected import Expected
from rtserver.separation.graph import SEPARATOR, preset, separation
from rtserver.separation.model import N_SCORE, read_model
from rtserver.separation.prompter import TRUST, Prompter
from rtserver.zoo import manifest

MODELS = ("stems3", "stems3-int8", "hp-int8")
SHIFT_S = 2.0
FIRST_SEED = 10  # with songs of the seeds below it was chosen when a place is trusted
NONE = "no score"
STEP_S = 0.01  # between two positions


@dataclass(frozen=True)
class Told:
    """What a network is told of one clip: a score, and where in it the sound is said to be."""

    score: Score
    positions: list[Position]


def believed(clip: Clip, score: Score, late_s: float = 0.0) -> Told:
    """The place that the clip's truth says `late_s` seconds ago, whatever is heard, known at once."""
    positions: list[Position] = []
    for n in range(1, int(clip.stems.shape[2] / clip.sample_rate / STEP_S)):
        at_s = n * STEP_S
        frame, quarter = round(at_s * clip.sample_rate), clip.quarter_at(at_s - late_s)
        positions.append(Position(frame, frame, quarter, quarter, clip.tempo_at(at_s - late_s), 1.0, LOCKED))
    return Told(score, positions)


def followed(clip: Clip, score: Score) -> Told:
    """Where the follower hears the mixture, known when it is live."""
    follower, positions = Follower(score), list[Position]()
    features = Features(clip.sample_rate, score.tuning_hz)
    hop, effect = features.hop_size, round(EFFECT_S * clip.sample_rate)
    follower.prepare(features.prepare(Spec.signal(clip.sample_rate, 2, hop)))
    x, mixture = np.zeros(N_FEATURES, np.float32), clip.stems.sum(axis=0)
    for n in range(mixture.shape[1] // hop):
        features.process(np.ascontiguousarray(mixture[:, n * hop : (n + 1) * hop]), x)
        follower.process(x, (n + 1) * hop, positions.append)
    return Told(score, [msgspec.structs.replace(position, available_frame=position.frame + effect) for position in positions])


def accuracy(clips: list[Clip], told: list[Told]) -> dict[str, float]:
    """Of the follower's positions: the share that is LOCKED, that has `TRUST`, and of those and of all that are within 0.1 s."""
    rows: list[tuple[bool, bool, bool]] = []
    for clip, said in zip(clips, told, strict=True):
        for p in said.positions:
            at_s = p.frame / clip.sample_rate
            off_s = abs(p.quarter - clip.quarter_at(at_s)) * 60.0 / clip.tempo_at(at_s)
            rows.append((p.state == LOCKED, p.state in FOLLOWING and p.confidence >= TRUST, off_s <= 0.1))
    locked, trusted, right = np.array(rows).T
    return {
        "locked": round(float(locked.mean()), 3),
        "trusted": round(float(trusted.mean()), 3),
        "right_of_trusted": round(float(right[trusted].mean()), 3) if trusted.any() else 0.0,
        "right": round(float(right.mean()), 3),
    }


def transposed(score: Score) -> Score:
    """A semitone up."""
    return replace(score, notes=replace(score.notes, pitch=score.notes.pitch + np.int32(1)))


WAYS: dict[str, Callable[[Clip, Clip], Told | None]] = {
    NONE: lambda clip, other: None,
    "true": lambda clip, other: believed(clip, clip.score),
    "followed": lambda clip, other: followed(clip, clip.score),
    "another piece, believed": lambda clip, other: believed(clip, other.score),
    "2 s off, believed": lambda clip, other: believed(clip, clip.score, SHIFT_S),
    "semitone up, believed": lambda clip, other: believed(clip, transposed(clip.score)),
    "another piece, followed": lambda clip, other: followed(clip, other.score),
    "semitone up, followed": lambda clip, other: followed(clip, transposed(clip.score)),
}


FOLLOWED = [way for way in WAYS if "followed" in way]


def separated(options: Separation, clip: Clip, told: Told | None) -> tuple[Array, float]:
    """Stems (n_stems, 2, frames), aligned with the mixture, and the share of hops in which the network was told anything."""
    rate, hop = clip.sample_rate, preset(options.preset, clip.sample_rate).hop_size
    graph = separation(options, rate)
    graph.prepare(Spec.signal(rate, 2, hop))
    share: list[bool] = []
    if told is not None:
        heard: Array = graph.node(SEPARATOR).score
        prompter = Prompter(Expected.in_score(told.score, rate), rate, hop, hop)
        for position in told.positions:
            prompter.hear(position)  # each holds from its own frame on

        def tell(_x: Array, end: int) -> None:
            before = prompter.n_prompted
            prompter.tell(end - hop, heard)
            share.append(prompter.n_prompted > before)

        graph.tap("input", tell)  # before anything else hears the hop
    made = np.stack(list(graph.freewheel(clip.stems.sum(axis=0)).values()))
    return made, float(np.mean(share)) if share else 0.0


def truth_of(clip: Clip, names: tuple[str, ...]) -> dict[str, Array]:
    """What is scored of a clip: the stems of a model by name, and of three the harmonic part."""
    drums, bass, other = clip.stems
    known = {"drums": drums, "percussive": drums, "bass": bass, "other": other, "harmonic": bass + other}
    return {name: known[name] for name in names}


def scores(clip: Clip, names: tuple[str, ...], made: Array) -> dict[str, float]:
    """SI-SDR of each stem that is not silent."""
    found = dict(zip(names, made, strict=True))
    if "harmonic" not in names:
        found["harmonic"] = found["bass"] + found["other"]
    whole = float(np.sum(clip.stems.sum(axis=0) ** 2))
    truth = truth_of(clip, tuple(found))
    return {name: si_sdr(truth[name], x) for name, x in found.items() if np.sum(truth[name] ** 2) > SILENT * whole}


def measure(options: Separation, clips: list[Clip], told: dict[str, list[Told | None]]) -> dict[str, Any]:
    """way -> ``told`` and stem -> SI-SDR, each a list by clip; NaN where a stem is silent."""
    table: dict[str, dict[str, list[float]]] = {}
    stems = read_model(options.model).stems
    for k, clip in enumerate(tqdm(clips, desc=f"{options.model}, {options.preset}, {clips[0].sample_rate} Hz", unit="clip")):
        for way, of in told.items():
            made, share = separated(options, clip, of[k])
            row = table.setdefault(way, {})
            for name, value in (scores(clip, stems, made) | {"told": share}).items():
                row.setdefault(name, [float("nan")] * len(clips))[k] = value
    return table


def summary(table: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, list[float]]]:
    """way -> stem -> mean SI-SDR; beside it, but where there is no score, the mean gain over none and the bounds of 95 %."""
    rng = np.random.default_rng(0)
    found: dict[str, dict[str, list[float]]] = {}
    for way, row in table.items():
        found[way] = {"told": [round(float(np.mean(row["told"])), 3)]}
        for stem, values in row.items():
            if stem == "told":
                continue
            there = np.array(values)[~np.isnan(values)]
            found[way][stem] = [round(float(there.mean()), 2)]
            if way != NONE:
                gain = np.array(values) - np.array(table[NONE][stem])
                gain = gain[~np.isnan(gain)]
                found[way][stem] += [round(x, 2) for x in bootstrap(gain.tolist(), rng)]
    return found


def show(found: dict[str, dict[str, list[float]]]) -> str:
    """Markdown."""
    stems = [stem for stem in found[NONE] if stem != "told"]
    lines = ["| | told | " + " | ".join(stems) + " |", "|---" * (len(stems) + 2) + "|"]
    for way, row in found.items():
        cells = [
            f"{row[s][0]:.2f}" + (f" ({row[s][1]:+.2f}, {row[s][2]:+.2f} to {row[s][3]:+.2f})" if len(row[s]) > 1 else "") for s in stems
        ]
        lines.append(f"| {way} | {100 * row['told'][0]:.0f} % | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def resampled(clip: Clip, sample_rate: int) -> Clip:
    """The same at another rate."""
    if clip.sample_rate == sample_rate:
        return clip
    from math import gcd

    from scipy.signal import resample_poly

    common = gcd(sample_rate, clip.sample_rate)
    stems = resample_poly(clip.stems, sample_rate // common, clip.sample_rate // common, axis=-1).astype(np.float32)
    return replace(clip, sample_rate=sample_rate, stems=np.ascontiguousarray(stems))


def given(folder: Path) -> Iterator[Clip]:
    """The clips of ``--clips``."""
    for path in folders(folder):
        stems, rate = read_clip(path)
        file = next((path / f"score{suffix}" for suffix in (".mid", ".musicxml") if (path / f"score{suffix}").exists()), None)
        if file is None:
            raise SystemExit(f"{path}: expected score.mid or score.musicxml beside the stems")
        beats = read_beats(path / "beats.csv")
        stereo = np.ascontiguousarray(np.broadcast_to(stems, (len(stems), 2, stems.shape[2])), np.float32)
        yield Clip(path.name, rate, stereo, load_score(file), beats.time_s, beats.quarter)


def played(arguments: argparse.Namespace) -> Iterator[Clip]:
    """The clips of ``--songs`` and ``--midi``."""
    seconds = arguments.seconds
    if arguments.midi is None:
        songs = (made_up(FIRST_SEED + k, seconds + 8.0) for k in range(arguments.songs))
    else:
        songs = (in_file(path, seconds + 8.0) for path in sorted(arguments.midi.glob("*.mid")))
    for k, song in enumerate(songs):
        try:
            yield performed(song, seconds, k, arguments.sound_font)
        except RtserverError as error:
            print(f"left out: {error}")


def cost(clip: Clip, n: int = 20000) -> float:
    """Microseconds that a hop's prompting takes."""
    prompter, out = Prompter(Expected.in_score(clip.score, 48000), 48000, 128, 128), np.zeros(N_SCORE, np.float32)
    position = Position(1, 1, 4.0, 4.0, 100.0, 1.0, LOCKED)
    spent = 0.0
    for k in range(n):
        prompter.hear(msgspec.structs.replace(position, frame=k * 128 + 1, available_frame=k * 128, quarter=k / 400))
        start = time.perf_counter()
        prompter.tell(k * 128, out)
        spent += time.perf_counter() - start
    return round(1e6 * spent / n, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--songs", type=int, default=12, help="how many to make up (default: %(default)s)")
    parser.add_argument("--midi", type=Path, help="a folder of MIDI files to play instead")
    parser.add_argument("--clips", type=Path, help="a folder of clips to take instead")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each song (default: %(default)s)")
    parser.add_argument("--preset", nargs="+", default=["default"], help="default, stage (default: default)")
    parser.add_argument("--rate", nargs="+", type=int, default=[44100, 48000], help="Hz (default: both)")
    parser.add_argument("--sound-font", default="")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    models = arguments.models or [name for name in MODELS if name in manifest()]
    clips = list(tqdm(given(arguments.clips) if arguments.clips else played(arguments), desc="clips", unit="clip"))
    if len(clips) < 2:
        raise SystemExit("expected two clips at least: each is another piece for the next")
    result: dict[str, Any] = {"machine": machine(), "clips": [clip.name for clip in clips], "seconds": arguments.seconds, "figures": {}}
    result["prompting_us"] = cost(clips[0])
    print(f"prompting takes {result['prompting_us']} us a hop")
    for rate in arguments.rate:
        there = [resampled(clip, rate) for clip in clips]
        said = {way: [make(clip, there[k - 1]) for k, clip in enumerate(tqdm(there, desc=way))] for way, make in WAYS.items()}
        for way in FOLLOWED:
            figures = accuracy(there, [of for of in said[way] if of is not None])
            result.setdefault("following", {})[f"{way}, {rate} Hz"] = figures
            print(f"{way}, {rate} Hz: {figures}")
        for name in arguments.preset:
            for model in models:
                table = measure(Separation(name, model=model), there, said)
                result["figures"][f"{model}, {name}, {rate} Hz"] = {"summary": summary(table), "by_clip": table}
                print(f"\n{model}, {name}, {rate} Hz\n" + show(summary(table)))
    write_result("score_informed", result, arguments.output)


if __name__ == "__main__":
    main()
