"""Kernel additive modelling beside median filtering: what it separates and what it takes, live and over whole files, in one run.

usage: kam.py CLIPS [--rounds N] [--no-librosa] [--output FILE]

CLIPS holds clips as `hpss_quality.py` takes them: `drums` is the percussive truth, the sum of all other stems the harmonic one.
Each clip is taken twice: as it is, and apart: drums, made mono, on the left and the rest on the right, each with 0.3 of itself on the other
side.

off, paper and power are what `Kam` calls `spatial`. Live: preset `default`, from samples to samples. Whole: windows of 4096, hop 1024.
SI-SDR / SDR in dB, means over the clips of a group. Time: microseconds a hop, all methods taking turns. The live ones are called from
Python as the engine does: the node alone, from spectrum to parts; p50 and p99 over all hops. The ones over whole files: a run by its hops.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
from hpss_quality import LIBROSA, Stems, load, score, table
from machine import machine, write_result
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent))

from models.separation.clips import folders
from models.separation.librosa_hpss import has_librosa, separate_librosa
from models.separation.playing import play
from rtserver.config import Separation
from rtserver.dsp.backfitting import backfit, separate
from rtserver.dsp.hpss import PRESETS, Hpss
from rtserver.dsp.kam import Kam
from rtserver.dsp.spatial import Spatial
from rtserver.node import Spec
from rtserver.separation.wholefile import WHOLE, default_kernels, source, spectra

SPATIAL: tuple[Spatial, ...] = get_args(Spatial)
BLEED = 0.3
LIVE = (1, 2, 3, 5, 10)  # iterations
OFFLINE = (1, 2, 3, 5, 10)
TIMED = range(1, 11)
HOPS = 200  # a turn of a live method
Method = Callable[[np.ndarray, int], np.ndarray]  # (mixture, sample rate) -> (2, n_channels, n_frames)


def node_of(preset: str, sample_rate: int, **options: Any) -> Hpss:
    """A preset's node that separates; with options, that of kernel additive modelling."""
    chosen = PRESETS[preset].at(sample_rate)
    return Kam(chosen.n_past, chosen.n_around, chosen.past_step, **options) if options else chosen.nodes()[1]


def live(mixture: np.ndarray, sample_rate: int, **options: Any) -> np.ndarray:
    """Hop by hop, exactly as live, the latency cut off; with options, by kernel additive modelling."""
    return play(Separation(method="kam", **options) if options else Separation(), mixture, sample_rate)


def whole(mixture: np.ndarray, sample_rate: int, iterations: int, spatial: Spatial) -> np.ndarray:
    """Algorithm 1 over all of it."""
    x = spectra(mixture, sample_rate)
    model = backfit(x, list(default_kernels(sample_rate).values()), iterations, spatial=spatial)
    harmonic = source(model, x, 0, mixture.shape[1], sample_rate)
    return np.stack([harmonic, mixture - harmonic])


def methods(with_librosa: bool) -> dict[str, Method]:
    """Everything that is compared, by name."""
    found: dict[str, Method] = {"mixture": lambda x, _rate: np.stack([x, x]), "live, hpss": live}
    for spatial in SPATIAL:
        for n in LIVE:
            found[f"live, kam {n}, {spatial}"] = lambda x, rate, n=n, s=spatial: live(x, rate, iterations=n, spatial=s)
    for spatial in SPATIAL:
        for n in OFFLINE:
            found[f"whole, kam {n}, {spatial}"] = lambda x, rate, n=n, s=spatial: whole(x, rate, n, s)
    if with_librosa:
        for name, sizes in LIBROSA.items():
            found[name] = lambda x, _rate, sizes=sizes: separate_librosa(sizes, x)
    return found


def put_apart(truth: Stems) -> Stems:
    """Drums on the left, the rest on the right."""
    harmonic, percussive = (truth[stem].mean(axis=0, dtype=np.float32) for stem in ("harmonic", "percussive"))
    near, far = np.float32(1.0), np.float32(BLEED)
    return {"harmonic": np.stack([far * harmonic, near * harmonic]), "percussive": np.stack([near * percussive, far * percussive])}


def quality(clips: list[Path], with_librosa: bool) -> dict[str, Any]:
    """Scores by the way a clip is taken, method and clip; prints the tables."""
    result: dict[str, Any] = {}
    for way in ("as it is", "apart"):
        scores: dict[str, Any] = {}
        for folder in tqdm(clips, unit="clip", desc=way, disable=None):
            truth, rate = load(folder)
            truth = truth if way == "as it is" else put_apart(truth)
            for name, method in methods(with_librosa).items():
                scores.setdefault(name, {})[folder.name] = score(truth, method(truth["harmonic"] + truth["percussive"], rate))
        print(f"\n{way}\n{table(scores)}")
        result[way] = {m: {c: {k: round(v, 3) for k, v in of.items()} for c, of in clips.items()} for m, clips in scores.items()}
    return result


def live_times(rounds: int, with_librosa: bool) -> list[dict[str, Any]]:
    """p50 and p99 of the node of `default` in stereo at 48 kHz; prints them. librosa gets as many past spectra as the node keeps."""
    rate, n_channels = 48000, 2
    rng = np.random.default_rng(0)
    nodes: dict[str, Hpss] = {"hpss": node_of("default", rate)}
    for spatial in SPATIAL:
        for n in TIMED:
            nodes[f"kam {n}, {spatial}"] = node_of("default", rate, iterations=n, spatial=spatial)
    preset = PRESETS["default"].at(rate)
    spec = Spec(rate, preset.hop_size, (n_channels, preset.window_size // 2 + 1), np.dtype(np.complex64))
    hops = (rng.standard_normal((HOPS, *spec.shape)) + 1j * rng.standard_normal((HOPS, *spec.shape))).astype(np.complex64)
    outs = {name: node.prepare(spec).empty() for name, node in nodes.items()}
    times: dict[str, list[float]] = {name: [] for name in nodes}
    turns: dict[str, tuple[Callable[[np.ndarray], object], np.ndarray]] = {
        name: (lambda x, node=node, out=outs[name]: node.process(x, out), hops) for name, node in nodes.items()
    }
    if with_librosa:
        import librosa

        sizes = preset.n_past, preset.n_around
        past = hops[: 5 * preset.n_past].reshape(5, preset.n_past, *spec.shape).transpose(0, 2, 3, 1)
        turns["librosa.decompose.hpss"] = (lambda x: librosa.decompose.hpss(x, kernel_size=sizes), np.ascontiguousarray(past))
        times["librosa.decompose.hpss"] = []
    for i in tqdm(range(rounds + 1), unit="round", desc="live", disable=None):  # the first round warms up
        for name, (process, inputs) in turns.items():
            for x in inputs:
                start = time.perf_counter_ns()
                process(x)
                if i > 0:
                    times[name].append((time.perf_counter_ns() - start) / 1e3)
    rows = [
        {"method": name, "p50_us": round(float(np.median(t)), 2), "p99_us": round(float(np.percentile(t, 99)), 2)}
        for name, t in times.items()
    ]
    hop_us = spec.hop_s * 1e6
    print(f"\nlive, stereo, a hop of {hop_us:.0f} µs\n| method | p50 / p99 µs | of the hop |\n|---|---|---|")
    for row in rows:
        print(f"| {row['method']} | {row['p50_us']:.1f} / {row['p99_us']:.1f} | {100 * row['p50_us'] / hop_us:.2f} % |")
    return rows


def whole_times(with_librosa: bool, turns: int = 3) -> list[dict[str, Any]]:
    """Ten seconds of stereo spectra, separated at once: the least of some turns, by the hop; prints them."""
    rate = 44100
    preset = WHOLE.at(rate)
    n_spectra = 10 * rate // preset.hop_size
    rng = np.random.default_rng(0)
    shape = (2, preset.window_size // 2 + 1, n_spectra)
    x = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)
    kernels = list(default_kernels(rate).values())
    runs: dict[str, Callable[[], object]] = {}
    for spatial in SPATIAL:
        for n in TIMED:
            runs[f"kam {n}, {spatial}"] = lambda n=n, s=spatial: separate(x, kernels, n, s)
    if with_librosa:
        import librosa

        runs["librosa.decompose.hpss"] = lambda: librosa.decompose.hpss(x, kernel_size=(preset.n_past, preset.n_around))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in tqdm(range(turns), unit="turn", desc="whole", disable=None):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * 1e6 / n_spectra)
    rows = [{"method": name, "least_us": round(min(t), 1), "median_us": round(float(np.median(t)), 1)} for name, t in times.items()]
    hop_us = preset.hop_size / rate * 1e6
    print(f"\nwhole, stereo, a hop of {hop_us:.0f} µs\n| method | µs a hop | times faster than it sounds |\n|---|---|---|")
    for row in rows:
        print(f"| {row['method']} | {row['least_us']:.0f} | {hop_us / row['least_us']:.0f} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, metavar="CLIPS")
    parser.add_argument("--rounds", type=int, default=10, help=f"of {HOPS} hops of each live method (default: %(default)s)")
    parser.add_argument("--no-librosa", action="store_true")
    parser.add_argument("--output", type=Path, help="default: results/kam-DATE.json beside this script")
    args = parser.parse_args()
    found = folders(args.clips)
    with_librosa = not args.no_librosa and has_librosa()
    result = {
        "live": live_times(args.rounds, with_librosa),
        "whole": whole_times(with_librosa),
        "scores_db": quality(found, with_librosa),
    }
    write_result("kam", result | {"machine": machine()}, args.output)


if __name__ == "__main__":
    main()
