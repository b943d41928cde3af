"""How well models separate: ``python -m models.separation.evaluate MODEL … [--clips FOLDER] [--pool POOL] [--musdb ROOT]``.

MODEL: folder of a run, ONNX file, or model of a zoo (FOLDER/NAME of another zoo than rtserver's). With ``--clips``: one folder a clip with
`drums` and further stems (`bass`, all others are "other") as .flac or .wav; clips are grouped by their name up to the first underscore.
Printed are SI-SDR / SDR in dB, means over the clips of a group, at 11.6 and 5.8 ms, beside causal HPSS, the oracle mask and the mixture,
and librosa offline where it is installed; and how much better than causal HPSS a model is, with 95 % of a paired bootstrap over clips.

With ``--pool``: validation mixtures of a training pool by group, at several blends with HPSS, without and with their score.
With ``--musdb``: MUSDB18-HQ's test tracks (ROOT/test/TRACK/*.wav), medians over frames and tracks as museval makes them; its vocals count
as "other". Needs ``pip install museval``. (MUSDB18 is not licensed for training weights that are shipped; it is for measuring.)
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from tqdm import tqdm

from benchmarks.hpss_quality import has_librosa, sdr, separate_librosa, si_sdr
from benchmarks.hpss_quality import separate as separate_by_preset
from models.separation import estimates, validation
from models.separation.train import begin
from rtserver.dsp.hpss import PRESETS

LIBROSA = (4096, 1024, 17)
HOPS = {256: "11.6 ms", 128: "5.8 ms"}
PARTS = ("harmonic", "percussive", "bass", "other")
SILENT = 1e-6  # of the mixture's energy: such a stem is not scored
N_BOOTSTRAP = 4000
Scores = dict[str, dict[str, tuple[float, float]]]  # clip -> part -> SI-SDR, SDR

Signal = np.ndarray


def read_clip(folder: Path) -> tuple[Signal, int]:
    """(drums, bass, other), each (2, frames), and the sample rate; what a clip lacks is silent."""
    found: dict[str, Signal] = {}
    rate = 0
    for path in sorted([*folder.glob("*.flac"), *folder.glob("*.wav")]):
        if path.stem not in ("mix", "mixture"):
            data, rate = soundfile.read(path, dtype="float32", always_2d=True)
            found[path.stem] = np.ascontiguousarray(data.T)
    if "drums" not in found or len(found) < 2:
        raise SystemExit(f"{folder}: expected drums and at least one other stem, found {sorted(found)}")
    silent = np.zeros_like(found["drums"])
    other = sum((x for k, x in found.items() if k not in ("drums", "bass")), silent)
    return np.stack([found["drums"], found.get("bass", silent), other]), rate


def parts_of(stems: Signal) -> dict[str, Signal]:
    """What is scored, of (drums, bass, other) or (harmonic, percussive)."""
    if len(stems) == 2:
        return {"harmonic": stems[0], "percussive": stems[1]}
    return {"harmonic": stems[1] + stems[2], "percussive": stems[0], "bass": stems[1], "other": stems[2]}


def scores(truth: Signal, made: Signal) -> dict[str, tuple[float, float]]:
    """SI-SDR and SDR of each part that the estimate has and that is not silent."""
    wanted, got = parts_of(truth), parts_of(made)
    whole = float(np.sum(truth.sum(axis=0) ** 2))
    return {k: (si_sdr(wanted[k], x), sdr(wanted[k], x)) for k, x in got.items() if np.sum(wanted[k] ** 2) > SILENT * whole}


def on_clips(models: list[str], folder: Path, blends: tuple[float, ...]) -> dict[str, Scores]:
    """method -> scores of every clip."""
    clips = [p for p in sorted(folder.iterdir()) if p.is_dir()]
    if not clips:
        raise SystemExit(f"{folder}: no clip folders found")
    loaded = {Path(name).name: estimates.load(name) for name in models}
    with_librosa = has_librosa()
    table: dict[str, Scores] = {}

    def enter(method: str, clip: str, truth: Signal, made: Signal) -> None:
        table.setdefault(method, {})[clip] = scores(truth, made)

    for clip in tqdm(clips, unit="clip"):
        truth, rate = read_clip(clip)
        mixture = np.ascontiguousarray(truth.sum(axis=0))
        enter("mixture", clip.name, truth, np.stack([mixture, mixture]))
        for hop, ms in HOPS.items():
            preset = {256: "default", 128: "stage"}[hop]
            enter(f"causal HPSS, {ms}", clip.name, truth, separate_by_preset(PRESETS[preset], mixture, rate))
            for name, model in {"untrained": estimates.untrained(), **loaded}.items():
                made = estimates.separate(model, mixture, hop, blends if name != "untrained" else (0.0,))
                for blend, stems in made.items():
                    enter(f"{name}, {ms}" + (f", blend {blend:g}" if blend else ""), clip.name, truth, stems)
            enter(f"oracle mask, {ms}", clip.name, truth, estimates.oracle(truth, mixture, hop))
        if with_librosa:
            enter("librosa offline 4096/1024/17", clip.name, truth, separate_librosa(LIBROSA, mixture))
    return table


def groups_of(table: dict[str, Scores]) -> dict[str, list[str]]:
    clips = sorted({clip for of in table.values() for clip in of})
    return {g: [c for c in clips if c.split("_")[0] == g] for g in sorted({c.split("_")[0] for c in clips})}


def means(table: dict[str, Scores]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """method -> group -> part -> SI-SDR, SDR."""
    out: dict[str, Any] = {}
    for method, of in table.items():
        for group, members in groups_of(table).items():
            for part in PARTS:
                there = [of[c][part] for c in members if part in of[c]]
                if there:
                    out.setdefault(method, {}).setdefault(group, {})[part] = [round(float(x), 2) for x in np.mean(there, axis=0)]
    return out


def bootstrap(differences: list[float], seed: int = 0) -> tuple[float, float, float]:
    """Mean and the bounds of 95 % of the means of as many draws with replacement."""
    x = np.asarray(differences)
    drawn = x[np.random.default_rng(seed).integers(len(x), size=(N_BOOTSTRAP, len(x)))].mean(axis=1)
    return float(x.mean()), float(np.percentile(drawn, 2.5)), float(np.percentile(drawn, 97.5))


def gains(table: dict[str, Scores]) -> dict[str, dict[str, list[float]]]:
    """method -> "group part" -> gain in SI-SDR over causal HPSS at the same latency, and its bounds; ``all`` for all clips."""
    out: dict[str, dict[str, list[float]]] = {}
    for method, of in table.items():
        ms = next((ms for ms in HOPS.values() if ms in method), None)
        if ms is None or method.startswith(("causal HPSS", "oracle", "untrained")):
            continue
        beside = table[f"causal HPSS, {ms}"]
        for group, members in {**groups_of(table), "all": list(of)}.items():
            for part in ("harmonic", "percussive"):
                there = [of[c][part][0] - beside[c][part][0] for c in members if part in of[c]]
                if there:
                    out.setdefault(method, {})[f"{group} {part}"] = [round(x, 2) for x in bootstrap(there)]
    return out


def show(found: dict[str, dict[str, dict[str, list[float]]]]) -> str:
    """Markdown."""
    columns = [(g, p) for g in sorted({g for of in found.values() for g in of}) for p in PARTS]
    lines = ["| | " + " | ".join(f"{g} {p}" for g, p in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for method, of in found.items():
        cells = [" / ".join(f"{x:.2f}" for x in of.get(g, {}).get(p, [])) for g, p in columns]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def on_pool(model: str, pool: Path, blends: tuple[float, ...], n_each: int) -> dict[str, Any]:
    """Validation mixtures by group: at each blend, and with their score at the first."""
    network = begin(model)
    plain = validation.score(network, validation.material(pool, network.stems, n_each), "cpu", blends)
    told = validation.score(network, validation.material(pool, network.stems, n_each, score=1.0), "cpu", blends[:1])
    for group, of in plain.items():
        if isinstance(of, dict):
            of["with score"] = told[group][f"blend {blends[0]:g}"]
    return plain


def on_musdb(name: str, root: Path, hop: int) -> dict[str, dict[str, float]]:
    """track -> part -> median over frames of 1 s of museval's SDR (BSSEval v4); ``median`` over tracks."""
    try:
        import museval
    except ImportError as e:
        raise SystemExit("museval is not installed: pip install museval") from e
    model = estimates.load(name)
    tracks = [p for p in sorted((root / "test").iterdir()) if p.is_dir()] if (root / "test").exists() else []
    if not tracks:
        raise SystemExit(f"{root}: expected test/TRACK/mixture.wav and stems, as in MUSDB18-HQ")
    out: dict[str, dict[str, float]] = {}
    for track in tqdm(tracks, unit="track"):
        truth, rate = read_clip(track)
        made = estimates.separate(model, np.ascontiguousarray(truth.sum(axis=0)), hop)[0.0]
        wanted, got = parts_of(truth), parts_of(made)
        pair = ("percussive", "bass", "other") if len(made) == 3 else ("percussive", "harmonic")
        stacked = [np.stack([of[k].T for k in pair]).astype(np.float64) for of in (wanted, got)]
        found = museval.metrics.bss_eval(*stacked, window=rate, hop=rate, mode="v4")[0]
        out[track.name] = {k: round(float(np.nanmedian(x)), 3) for k, x in zip(pair, found, strict=True)}
    out["median"] = {k: round(float(np.median([of[k] for of in out.values()])), 3) for k in next(iter(out.values()))}
    return out


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("models", nargs="+", metavar="MODEL")
    p.add_argument("--clips", type=Path)
    p.add_argument("--pool", type=Path)
    p.add_argument("--musdb", type=Path)
    p.add_argument("--hop", type=int, choices=HOPS, default=256, help="of --musdb (default: %(default)s)")
    p.add_argument("--blends", type=float, nargs="+", default=[0.0, 0.2, 0.4, 0.5, 0.6, 0.8], help="shares of HPSS in the masks")
    p.add_argument("--each", type=int, default=24, help="mixtures of each group of --pool")
    p.add_argument("--json", type=Path)
    return p


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    blends = tuple(args.blends)
    figures: dict[str, Any] = {}
    tell: Callable[[str], None] = print
    if args.clips is not None:
        table = on_clips(args.models, args.clips, blends)
        figures |= {"clips": means(table), "gain_over_hpss": gains(table), "per_clip": table}
        tell(show(figures["clips"]))
        for method, of in figures["gain_over_hpss"].items():
            tell(f"{method}: " + ", ".join(f"{k} {m:+.2f} ({a:+.2f}..{b:+.2f})" for k, (m, a, b) in of.items()))
    for model in args.models:
        if args.pool is not None:
            figures.setdefault("pool", {})[model] = made = on_pool(model, args.pool, blends, args.each)
            tell(show({how: {g: {p: [x] for p, x in of[how].items()} for g, of in made.items() if g != "behind"} for how in made["midi"]}))
        if args.musdb is not None:
            figures.setdefault("musdb", {})[model] = medians = on_musdb(model, args.musdb, args.hop)
            for track, of in medians.items():
                tell(f"{track}: " + ", ".join(f"{k} {x:.2f}" for k, x in of.items()))
    if args.json is not None:
        today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        args.json.write_text(json.dumps({"date": today, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main(parser().parse_args())
