"""How well models separate: ``python -m models.separation.evaluate MODEL … [--clips FOLDER] [--pool POOL] [--musdb ROOT]``.

MODEL: folder of a run, ONNX file, or model of a zoo (FOLDER/NAME of another zoo than rtserver's). With ``--clips``: clips as `clips` has
them. Printed are SI-SDR / SDR in dB, means over the clips of a group, at 11.6 and 5.8 ms, beside causal HPSS, the oracle mask and the
mixture, and librosa offline where it is installed; and how much better than causal HPSS a model is, with 95 % of a paired bootstrap over
clips. (``benchmarks/separation_quality.py`` holds the networks of the zoo against everything else that separates here.)

With ``--pool``: validation mixtures of a training pool by group, at several blends with HPSS, without and with their score.
With ``--musdb``: MUSDB18-HQ's test tracks (ROOT/test/TRACK/*.wav) in the published form, the median over frames of a second and then over
tracks of BSSEval v4's SDR, of what plays live; to a model without vocals they are a part of "other". ``--museval``: by museval itself,
hours instead of minutes. (MUSDB18 is not licensed for training weights that are shipped; it is for measuring.)
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from tqdm import tqdm

from models.machine import machine
from models.options import number, whole
from models.separation import estimates, musdb, playing, validation
from models.separation.clips import Scores, Signal, differences, folders, groups_of, means, read_clip, scores, show, stem_files
from models.separation.librosa_hpss import has_librosa, separate_librosa
from models.separation.mixing import Pool
from models.separation.train import begin
from rtserver.config import Separation
from rtserver.errors import ModelError

LIBROSA = (4096, 1024, 17)
OWN = ("drums", "bass", "vocals")  # stems that "other" is made without
HOPS = {256: "11.6 ms", 128: "5.8 ms"}
PRESET = {256: "default", 128: "stage"}


def short(models: list[str]) -> dict[str, str]:
    """What each is called in the tables -> what it was given as: the last part of it, unless two of them share that."""
    names = [Path(model).name for model in dict.fromkeys(models)]
    return {model if names.count(name) > 1 else name: model for name, model in zip(names, dict.fromkeys(models), strict=True)}


def on_clips(loaded: dict[str, estimates.Model], folder: Path, blends: tuple[float, ...]) -> dict[str, Scores]:
    """method -> scores of every clip."""
    clips = folders(folder)
    with_librosa, voices = has_librosa(), any("vocals" in model.stems for model in loaded.values())
    table: dict[str, Scores] = {}

    def enter(method: str, clip: str, truth: Signal, made: Signal) -> None:
        table.setdefault(method, {})[clip] = scores(truth, made)

    for clip in tqdm(clips, unit="clip"):
        truth, rate = read_clip(clip, voices)
        mixture = np.ascontiguousarray(truth.sum(axis=0))
        enter("mixture", clip.name, truth, mixture[None])
        for hop, ms in HOPS.items():
            enter(f"causal HPSS, {ms}", clip.name, truth, playing.play(Separation(PRESET[hop]), mixture, rate))
            for name, model in {"untrained": estimates.untrained(), **loaded}.items():
                made = estimates.separate(model, mixture, hop, blends if name != "untrained" else (0.0,))
                for blend, stems in made.items():
                    enter(f"{name}, {ms}" + (f", blend {blend:g}" if blend else ""), clip.name, truth, stems)
            enter(f"oracle mask, {ms}", clip.name, truth, playing.oracle(PRESET[hop], truth, rate))
        if with_librosa:
            enter("librosa offline 4096/1024/17", clip.name, truth, separate_librosa(LIBROSA, mixture))
    return table


def gains(table: dict[str, Scores]) -> dict[str, dict[str, list[float]]]:
    """method -> "group part" -> gain in SI-SDR over causal HPSS at the same latency, and its bounds; ``all`` for all clips."""
    out: dict[str, dict[str, list[float]]] = {}
    for method, of in table.items():
        ms = next((ms for ms in HOPS.values() if ms in method), None)
        if ms is None or method.startswith(("causal HPSS", "oracle", "untrained")):
            continue
        found = differences(of, table[f"causal HPSS, {ms}"], groups_of(table), ("harmonic", "percussive"))
        out[method] = {k: [d.mean, d.low, d.high] for k, d in found.items()}
    return out


def on_pool(model: str, pool: Path, blends: tuple[float, ...], n_each: int) -> dict[str, Any]:
    """Validation mixtures by group: at each blend, and with their score at the first."""
    network = begin(model)
    plain = validation.score(network, validation.material(pool, network.stems, n_each), "cpu", blends)
    told = validation.score(network, validation.material(pool, network.stems, n_each, score=1.0), "cpu", blends[:1])
    for group, of in plain.items():
        if isinstance(of, dict):
            of["with score"] = told[group][f"blend {blends[0]:g}"]
    return plain


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("models", nargs="+", metavar="MODEL")
    p.add_argument("--clips", type=Path)
    p.add_argument("--pool", type=Path)
    p.add_argument("--musdb", type=Path)
    p.add_argument("--hop", type=int, choices=HOPS, default=256, help="of --musdb (default: %(default)s)")
    p.add_argument("--museval", action="store_true", help="--musdb by museval itself (make setup-train): the same figures")
    p.add_argument("--blends", type=number(0.0, 1.0), nargs="+", default=[0.0, 0.2, 0.4, 0.5, 0.6, 0.8], help="shares of HPSS in the masks")
    p.add_argument("--each", type=whole(1), default=24, help="mixtures of each group of --pool")
    p.add_argument("--json", type=Path)
    return p


def check(args: argparse.Namespace) -> None:
    """Exits with a line where something is wrong that is seen before anything is measured."""
    if args.clips is None and args.pool is None and args.musdb is None:
        raise SystemExit("nothing to measure on: name --clips, --pool or --musdb")
    if args.json is not None and (args.json.is_dir() or not os.access(args.json if args.json.exists() else args.json.parent, os.W_OK)):
        raise SystemExit(f"--json {args.json} cannot be written: expected a file in a folder that is there and may be written to")
    made_for: dict[str, tuple[int, ...]] = {}
    for model in args.models:
        made_for[model] = estimates.load(model).sample_rates
        if args.pool is not None:
            begin(model)
        if args.musdb is not None:
            hops = musdb.model_of(model).hops
            if args.hop not in hops:
                expected = " or ".join(map(str, hops))
                raise SystemExit(f"--hop {args.hop}: {model} is made for hops of {expected} frames: choose another --hop, or another model")
    if args.pool is not None:
        Pool(args.pool, "validation", validation.SECONDS)
    if args.clips is not None:
        check_clips(folders(args.clips), made_for)
    if args.musdb is not None:
        check_clips(musdb.tracks(args.musdb), made_for, (musdb.MIXTURE,))


def check_clips(clips: list[Path], made_for: dict[str, tuple[int, ...]], more: tuple[str, ...] = ()) -> None:
    """Exits with a line where a clip cannot be measured: a stem is missing, or they differ, or a model is not made for their rate.

    made_for : model -> sample rates in Hz
    more : files that are read beside the stems
    """
    for clip in clips:
        rate = alike(clip, more)
        for model, rates in made_for.items():
            if rate not in rates:
                expected = " or ".join(map(str, rates))
                raise SystemExit(f"{clip} is at {rate} Hz: expected {expected} Hz, which {model} is made for: convert its files")


def alike(clip: Path, more: tuple[str, ...] = ()) -> int:
    """The sample rate of a clip in Hz. Exits with a line where a stem is missing, or where its stems and the files `more` differ in what
    they have to have in common."""
    found: dict[str, tuple[int, int, int]] = {}
    for path in [*stem_files(clip).values(), *(clip / name for name in more)]:
        try:
            info = soundfile.info(path)
        except soundfile.SoundFileError as e:
            raise SystemExit(f"{path} cannot be read as audio: {e}: export it again") from e
        found[path.name] = (info.frames, info.samplerate, info.channels)
    # What is a part of "other" may have one channel.
    wide = {channels for name, (_, _, channels) in found.items() if channels > 1 or Path(name).stem in OWN}
    if len({(n, rate) for n, rate, _ in found.values()}) > 1 or len(wide) > 1:
        told = "; ".join(f"{name} {n} frames, {rate} Hz, {channels} channels" for name, (n, rate, channels) in found.items())
        raise SystemExit(f"{clip}: expected stems of one length, rate and number of channels, got {told}: export them alike")
    return next(rate for _, rate, _ in found.values())


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    check(args)
    blends = tuple(args.blends)
    figures: dict[str, Any] = {}
    tell: Callable[[str], None] = print
    if args.clips is not None:
        loaded = {name: estimates.load(model) for name, model in short(args.models).items()}
        table = on_clips(loaded, args.clips, blends)
        figures["files"] = {name: model.sha256 for name, model in loaded.items()}
        figures |= {"clips": means(table), "gain_over_hpss": gains(table), "per_clip": table}
        tell(show(figures["clips"]))
        for method, of in figures["gain_over_hpss"].items():
            tell(f"{method}: " + ", ".join(f"{k} {m:+.2f} ({a:+.2f}..{b:+.2f})" for k, (m, a, b) in of.items()))
    for model in args.models:
        if args.pool is not None:
            figures.setdefault("pool", {})[model] = made = on_pool(model, args.pool, blends, args.each)
            groups = {g: of for g, of in made.items() if isinstance(of, dict)}
            hows = next(iter(groups.values()))
            tell(show({how: {g: {p: [x] for p, x in of[how].items()} for g, of in groups.items()} for how in hows}))
        if args.musdb is not None:
            try:
                found = musdb.measure(model, args.musdb, PRESET[args.hop], args.museval)
            except ModelError as e:
                raise SystemExit(str(e)) from e
            figures.setdefault("musdb", {})[model] = found
            tell(musdb.show(found))
    if args.json is not None:
        today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        args.json.write_text(json.dumps({"date": today, "machine": machine(), "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main(parser().parse_args())
