"""Processor time of one hop of every feature, beside the same feature from librosa, all in one run.

usage: features.py [--rates HZ ...] [--rounds N] [--output FILE]

ours   the node's `process`, called from Python every 10 ms of white noise, one channel
live   librosa called every hop on the newest window, as a program would that has nothing else: ``melspectrogram`` and ``power_to_db``,
       ``chroma_stft``, ``cqt`` (24 bins an octave, 7 octaves, the newest 1.2 s, one frame). It designs its filters anew in every call
batch  librosa on half a minute at once, in hops of 10 ms (cqt: the nearest multiple of 64 frames), divided by their number: what it costs
       where nothing is live

They take turns. p50 and p99 in microseconds over all hops; of batch the median. `Features` has no
counterpart in librosa. The last rows are distances of one embedding to a window of a reference (`rtserver.following.embedding`), by
the kernel and by numpy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
from machine import machine, write_result
from tqdm import tqdm

from rtserver.dsp.chroma import Chroma
from rtserver.dsp.cqt import BINS_PER_OCTAVE, N_CQT, Cqt, frequencies
from rtserver.dsp.features import Features, window_sizes
from rtserver.dsp.mel import MAX_HZ, MIN_HZ, Mel, window_size
from rtserver.following.embedding import distance_row
from rtserver.following.oltw import EUCLIDEAN
from rtserver.node import Node, Spec

Call = Callable[[np.ndarray], object]
CALLS_A_ROUND = {"ours": 200, "live": 2}
BATCH_S = 30
N_BATCHES = 3
CQT_STEP = 64  # librosa halves the rate, and the hop with it, six times
NODES: dict[str, Callable[[int], Node]] = {
    "features": Features,
    "chroma": Chroma,
    "mel 80": Mel,
    "mel 128": lambda rate: Mel(rate, 128),
    "cqt": Cqt,
    "cqt, filter_scale 0.5": lambda rate: Cqt(rate, filter_scale=0.5),
}


def ours(node: Node, sample_rate: int) -> tuple[Call, np.ndarray]:
    """One hop of a node, and noise to feed it with."""
    hop = sample_rate // 100
    out = node.prepare(Spec.signal(sample_rate, 1, hop)).empty()
    return lambda x: node.process(x, out), np.random.default_rng(0).uniform(-0.5, 0.5, (1, hop)).astype(np.float32)


def theirs(name: str, sample_rate: int) -> tuple[Call, np.ndarray, Call] | None:
    """The same from librosa on a newest window, that window, and on a long signal; None where it has no such thing or is missing."""
    try:
        import librosa
    except ImportError:
        print("librosa is not installed: its columns are left out (make setup)")
        return None
    kind = name.split(",", maxsplit=1)[0].split(maxsplit=1)[0]
    if kind == "features":
        return None
    hop = sample_rate // 100
    scale = 0.5 if "0.5" in name else 1.0

    def mel(y: np.ndarray, hop_length: int) -> object:
        n_mels, size = int(name.split()[1]), window_size(sample_rate)
        power = librosa.feature.melspectrogram(
            y=y, sr=sample_rate, n_fft=size, hop_length=hop_length, center=False, n_mels=n_mels, fmin=MIN_HZ, fmax=MAX_HZ
        )
        return librosa.power_to_db(power, top_db=None)

    def chroma(y: np.ndarray, hop_length: int) -> object:
        size = window_sizes(sample_rate)[0]
        return librosa.feature.chroma_stft(y=y, sr=sample_rate, n_fft=size, hop_length=hop_length, center=False, tuning=0.0)

    def cqt(y: np.ndarray, hop_length: int) -> object:
        hop_length = max(round(hop_length / CQT_STEP), 1) * CQT_STEP
        return np.abs(
            librosa.cqt(
                y,
                sr=sample_rate,
                hop_length=hop_length,
                fmin=frequencies()[0],
                n_bins=N_CQT,
                bins_per_octave=BINS_PER_OCTAVE,
                filter_scale=scale,
            )
        )

    call = {"mel": mel, "chroma": chroma, "cqt": cqt}[kind]
    size = {"mel": window_size(sample_rate), "chroma": window_sizes(sample_rate)[0], "cqt": int(1.2 * scale * sample_rate)}[kind]
    newest = np.random.default_rng(1).uniform(-0.5, 0.5, size).astype(np.float32)
    return lambda y: call(y, 2 * len(y)), newest, lambda y: call(y, hop)


def timed(call: Call, x: np.ndarray, n: int) -> list[float]:
    """Microseconds of each of `n` calls."""
    spent = []
    for _ in range(n):
        begun = time.process_time_ns()
        call(x)
        spent.append((time.process_time_ns() - begun) / 1e3)
    return spent


def summary(times: list[float]) -> dict[str, float]:
    return {"p50_us": round(float(np.median(times)), 2), "p99_us": round(float(np.percentile(times, 99)), 2)}


def measure(name: str, sample_rate: int, rounds: int) -> dict[str, object]:
    """One row: a feature at a rate."""
    node = NODES[name](sample_rate)
    calls = {"ours": ours(node, sample_rate)}
    other = theirs(name, sample_rate)
    row: dict[str, object] = {"feature": name, "sample_rate": sample_rate}
    if other is not None:
        calls["live"] = other[:2]
    times: dict[str, list[float]] = {kind: [] for kind in calls}
    for i in range(rounds + 1):  # the first round warms up
        for kind, (call, x) in calls.items():
            spent = timed(call, x, CALLS_A_ROUND[kind])
            times[kind] += spent if i else []
    row |= {kind: summary(t) for kind, t in times.items()}
    if other is not None:
        long = np.random.default_rng(2).uniform(-0.5, 0.5, BATCH_S * sample_rate).astype(np.float32)
        spent = timed(other[2], long, N_BATCHES + 1)[1:]
        row["batch"] = {"p50_us": round(float(np.median(spent)) / (100 * BATCH_S), 2)}
    return row


def distances(size: int, n: int, rounds: int) -> dict[str, object]:
    """Distances of one embedding to `n` of a reference."""
    rng = np.random.default_rng(0)
    reference, x, out = (
        rng.standard_normal((60000, size)).astype(np.float32),
        rng.standard_normal(size).astype(np.float32),
        np.zeros(n, np.float32),
    )
    calls: dict[str, Call] = {
        "ours": lambda x: distance_row(x, reference, 20000, EUCLIDEAN, out),
        "numpy": lambda x: np.linalg.norm(reference[20000 : 20000 + n] - x, axis=1),
    }
    times: dict[str, list[float]] = {kind: [] for kind in calls}
    for i in range(rounds + 1):
        for kind, call in calls.items():
            spent = timed(call, x, 50)
            times[kind] += spent if i else []
    return {"size": size, "n": n} | {kind: summary(t) for kind, t in times.items()}


def cell(row: dict[str, object], kind: str) -> str:
    of = row.get(kind)
    return " / ".join(f"{v:.0f}" for v in of.values()) if isinstance(of, dict) else "—"


def main() -> None:
    """Measure every feature and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="+", default=[44100, 48000])
    parser.add_argument("--rounds", type=int, default=50, help="of 200 hops of ours and 2 of librosa live")
    parser.add_argument("--output", type=Path, help="default: results/features-DATE.json beside this script")
    args = parser.parse_args()
    rows = [measure(name, rate, args.rounds) for rate, name in tqdm([(r, n) for r in args.rates for n in NODES], disable=None)]
    print("| feature | Hz | ours p50 / p99 µs | librosa live p50 / p99 µs | batch µs |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['feature']} | {row['sample_rate']} | {cell(row, 'ours')} | {cell(row, 'live')} | {cell(row, 'batch')} |")
    compared = [distances(64, n, args.rounds) for n in (100, 1000)]
    print("| embeddings of 64 | ours p50 / p99 µs | numpy p50 / p99 µs |\n|---|---|---|")
    for row in compared:
        print(f"| {row['n']} | {cell(row, 'ours')} | {cell(row, 'numpy')} |")
    versions = {"librosa": metadata.version("librosa")} if any("live" in row for row in rows) else {}
    write_result("features", {"features": rows, "distances": compared, "machine": machine() | versions}, args.output)


if __name__ == "__main__":
    main()
