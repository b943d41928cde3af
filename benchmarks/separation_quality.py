"""Everything that separates here, held against each other on clips whose stems are known: one table.

    python benchmarks/separation_quality.py --clips FOLDER [--only CLIP ...] [--networks NAME ...] [--blends 0.3 ...]
                                            [--per-clip] [--museval] [--no-librosa] [--json FILE]

FOLDER holds one folder a clip with `drums` and further stems (`bass`, all others are "other") as .flac or .wav; clips are grouped by their
name up to the first underscore. Live methods are the graph that plays, hop by hop:

HPSS: every preset. KAM live: preset `default`. Networks: all that separate in the zoo, or those that are named (files too), alone, at the
blend of their manifest, and at --blends; presets `default` and `stage`. HPSS alone: the stems that a network leaves when it says nothing:
the percussive part, the harmonic one below 180 Hz, the rest. Oracle: the ideal ratio mask at the same transform.
Over whole files, which see the future: KAM, and librosa where it is installed (4096/1024/17).

SI-SDR / SDR in dB, harmonic (all but drums) and percussive (drums), bass and other; means over the clips of a group. Then by how much
each is ahead of our causal HPSS in SI-SDR, clip by clip: of `stage` what is as late as that, of `default` the rest; for bass and other, of
HPSS alone. With 95 % of a paired bootstrap over clips, and the worst clip. Then SDR of BSSEval v4, median over seconds and clips, as
published for MUSDB18 (`models/separation/bsseval.py`); with --museval by museval itself, the same figures, which takes minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hpss_quality import LIBROSA
from kam import whole
from machine import machine, write_result
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent))

from models.separation import playing
from models.separation.bsseval import median_sdr
from models.separation.clips import PARTS, SILENT, Difference, Scores, differences, folders, groups_of, means, read_clip, scores, show
from models.separation.librosa_hpss import has_librosa, separate_librosa
from rtserver import zoo
from rtserver.config import Separation
from rtserver.dsp.hpss import PRESETS
from rtserver.separation.model import KIND, read_model

RATE = 44100  # of the names; what a clip is at is what counts
KAM_LIVE, KAM_WHOLE = (1, 3, 5), (1, 3, 5)  # iterations
PLACES = ("off", "power")
HEARD_BY_NETWORKS = ("default", "stage")
STEMS = ("drums", "bass", "other")
OFFLINE = "librosa 4096/1024/17"
Make = Callable[[np.ndarray, np.ndarray, int], np.ndarray]  # (truth, mixture, sample rate) -> stems


@dataclass(frozen=True)
class Method:
    """A name, what makes the stems, the causal method that is beside it, and how many stems it makes; one stands for every part."""

    name: str
    make: Make
    beside: str = "default"  # preset of ours
    n_stems: int = 2


def late(preset: str) -> str:
    return f"{playing.latency_ms(preset, RATE):.1f} ms"


def hpss(preset: str) -> str:
    return f"HPSS {preset}, {late(preset)}"


def medians(preset: str) -> str:
    return f"HPSS alone as stems, {late(preset)}"


def played(options: Separation) -> Make:
    return lambda _truth, mixture, rate: playing.play(options, mixture, rate)


def methods(networks: list[str], blends: list[float], with_librosa: bool) -> list[Method]:
    """All that are compared, in the order of the table."""
    found = [Method("mixture", lambda _truth, mixture, _rate: mixture[None], n_stems=1)]
    found += [Method(hpss(name), played(Separation(name)), "stage" if name == "stage" else "default") for name in PRESETS]
    for spatial in PLACES:
        for n in KAM_LIVE:
            options = Separation(method="kam", iterations=n, spatial=spatial)
            found.append(Method(f"KAM live {n}, {spatial}, {late('default')}", played(options)))
    for spatial in PLACES:
        for n in KAM_WHOLE:
            found.append(Method(f"KAM whole file {n}, {spatial}", lambda _truth, mix, rate, n=n, s=spatial: whole(mix, rate, n, s)))
    if with_librosa:
        found.append(Method(f"{OFFLINE}, whole file", lambda _truth, mixture, _rate: separate_librosa(LIBROSA[OFFLINE], mixture)))
    three = next((name for name in networks if read_model(name).stems == STEMS), "")
    for preset in HEARD_BY_NETWORKS:
        if three:
            options = Separation(preset, model=three)
            found.append(Method(medians(preset), lambda _truth, mix, rate, o=options: playing.medians_alone(o, mix, rate), preset, 3))
        for name in networks:
            model = read_model(name)
            for blend in dict.fromkeys([0.0, model.blend, *blends]):
                options = Separation(preset, model=name, blend=blend)
                how = f", blend {blend:g}" if blend else ""
                found.append(Method(f"{model.name}, {late(preset)}{how}", played(options), preset, len(model.stems)))
        if three:
            model = read_model(three)
            options = Separation(preset, model=three, blend=model.blend, wiener=True)
            found.append(Method(f"{model.name}, {late(preset)}, blend {model.blend:g}, by place", played(options), preset, 3))
        name = f"oracle mask, {late(preset)}"
        found.append(Method(name, lambda truth, _mix, rate, p=preset: playing.oracle(p, truth, rate), preset, 3))
    return found


def measure(clips: list[Path], compared: list[Method], by_museval: bool) -> tuple[dict[str, Scores], dict[str, Any]]:
    """method -> clip -> part -> SI-SDR, SDR; and method -> clip -> stem -> SDR of BSSEval v4, where a method makes three stems or, the
    mixture, stands for each."""
    table: dict[str, Scores] = {method.name: {} for method in compared}
    frames: dict[str, Any] = {method.name: {} for method in compared if method.n_stems != 2}
    with tqdm(total=len(clips) * len(compared), unit="method", disable=None) as bar:
        for folder in clips:
            truth, rate = read_clip(folder)
            mixture = np.ascontiguousarray(truth.sum(axis=0))
            wanted = {k: x for k, x in zip(STEMS, truth, strict=True) if np.sum(x**2) > SILENT * np.sum(mixture**2)}
            for method in compared:
                made = method.make(truth, mixture, rate)
                table[method.name][folder.name] = scores(truth, made)
                if method.n_stems != 2:
                    stems = dict(zip(STEMS, np.broadcast_to(made, truth.shape), strict=True))
                    of = median_sdr(wanted, stems, rate, by_museval)
                    frames[method.name][folder.name] = {k: round(x, 3) for k, x in of.items()}
                bar.update()
    return table, frames


def ahead(table: dict[str, Scores], compared: list[Method]) -> dict[str, dict[str, Difference]]:
    """method -> "group part" -> how far ahead it is of our own causal method."""
    groups, found = groups_of(table), {}
    for method in compared:
        of = table[method.name]
        own: dict[str, Difference] = {}
        if method.name != hpss(method.beside):
            own |= differences(of, table[hpss(method.beside)], groups, PARTS[:2])
        if method.n_stems != 2 and medians(method.beside) in table and method.name != medians(method.beside):
            own |= differences(of, table[medians(method.beside)], groups, PARTS[2:])
        if own:
            found[method.name] = own
    return found


def show_ahead(found: dict[str, dict[str, Difference]]) -> str:
    """Markdown, a table for each part."""
    lines: list[str] = []
    for part in PARTS:
        columns = list(dict.fromkeys(k for of in found.values() for k in of if k.endswith(f" {part}")))
        if not columns:
            continue
        lines += ["", f"| {part}, dB ahead (95 %), worst clip | " + " | ".join(k.removesuffix(f" {part}") for k in columns) + " |"]
        lines += ["|---" * (len(columns) + 1) + "|"]
        for method, of in found.items():
            there = (of.get(k) for k in columns)
            cells = [f"{d.mean:+.2f} ({d.low:+.2f} to {d.high:+.2f}), {d.worst:+.2f} {d.worst_clip}" if d else "" for d in there]
            if any(cells):
                lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines[1:])


def medians_of(frames: dict[str, Any], groups: dict[str, list[str]]) -> dict[str, Any]:
    """method -> group -> stem -> median over clips."""
    out: dict[str, Any] = {}
    for method, of in frames.items():
        for group, members in groups.items():
            for stem in STEMS:
                there = [of[c][stem] for c in members if stem in of.get(c, {})]
                if there:
                    out.setdefault(method, {}).setdefault(group, {})[stem] = [round(float(np.nanmedian(there)), 2)]
    return out


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="only these clips")
    parser.add_argument("--networks", nargs="*", metavar="NAME", help="of the zoo, or files (default: all of the zoo that separate)")
    parser.add_argument("--blends", type=float, nargs="*", default=[], help="beside the network alone and its manifest's own")
    parser.add_argument("--per-clip", action="store_true", help="print every clip too; the JSON always has them")
    parser.add_argument("--museval", action="store_true", help="BSSEval by museval itself (make setup-train)")
    parser.add_argument("--no-librosa", action="store_true")
    parser.add_argument("--output", "--json", type=Path, help="default: results/separation_quality-DATE.json beside this script")
    args = parser.parse_args()
    networks = [name for name, entry in zoo.manifest().items() if entry.get("kind") == KIND] if args.networks is None else args.networks
    clips = folders(args.clips, args.only)
    compared = methods(networks, args.blends, not args.no_librosa and has_librosa())
    table, frames = measure(clips, compared, args.museval)
    groups, averages, found = groups_of(table), means(table), ahead(table, compared)
    seconds = medians_of(frames, groups)
    print(f"SI-SDR / SDR, dB\n\n{show(averages)}\n\n{show_ahead(found)}\n")
    print(f"SDR of BSSEval v4, dB, medians over seconds and clips{', by museval' if args.museval else ''}\n\n{show(seconds)}")
    if args.per_clip:
        for clip in (p.name for p in clips):
            per = {method: {"": {part: list(x) for part, x in of[clip].items()}} for method, of in table.items()}
            print(f"\n{clip}\n\n{show(per)}")
    rounded = {m: {c: {p: [round(x, 3) for x in v] for p, v in parts.items()} for c, parts in of.items()} for m, of in table.items()}
    result = {
        "machine": machine(),
        "clips": groups,
        "networks": {name: {"sha256": zoo.sha256_of(read_model(name).path), "blend": read_model(name).blend} for name in networks},
        "means_db": averages,
        "ahead_of_causal_hpss_db": {m: {k: d._asdict() for k, d in of.items()} for m, of in found.items()},
        "bsseval_v4_db": {"by_museval": args.museval, "medians": seconds, "per_clip": frames},
        "per_clip_db": rounded,
    }
    write_result("separation_quality", result, args.output)


if __name__ == "__main__":
    main()
