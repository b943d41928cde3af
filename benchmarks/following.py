"""Accuracy and cost of score following on performances whose truth is known.

usage: following.py PIECES_DIR [--audio-dir DIR] [--midi] [--method NAME] [--pred-dir DIR] [--output FILE]

PIECES_DIR/<piece>/ holds score.musicxml (or score.mid), gt.csv (score_quarter, score_time_s, perf_time_s[, segment]) and perf.wav, or
perf.mid with --midi. DIR/<piece>/perf.wav is taken with --audio-dir. --pred-dir keeps the rows as ``rtserver follow`` writes them.

Onset error: when the estimate first reaches an onset's position (in nominal seconds, 1 ms of slack), minus when it was played; time is
that at which the last audio used had arrived. An onset never reached counts as wrong at every tolerance. Lost: share of onsets at which the
estimate is more than 2 s of performance time off. Where the performer jumps (`segment`), an onset counts within its segment, from the first
estimate inside it on. Cost: `Follower.process` per hop of 10 ms, microseconds, features not counted.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from machine import machine, write_result
from tqdm import tqdm

from rtserver.audio.file import read
from rtserver.dsp.features import N_FEATURES, Features
from rtserver.events import Event
from rtserver.following.follower import METHODS, Follower
from rtserver.following.offline import COLUMNS, MIDI_RATE, midi_features
from rtserver.following.score import load_score
from rtserver.node import Spec

TOLERANCES_MS = (25, 50, 100, 200, 500, 1000)
LOST_S, SLACK_S = 2.0, 1e-3
Floats = npt.NDArray[np.float64]
Truth = dict[str, Floats]


def read_truth(path: Path) -> Truth:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


def features_of_audio(path: Path) -> tuple[npt.NDArray[np.float32], int, int]:
    signal, sample_rate = read(path)
    features = Features(sample_rate)
    hop = features.hop_size
    features.prepare(Spec.signal(sample_rate, len(signal), hop))
    x = np.zeros((signal.shape[1] // hop, N_FEATURES), np.float32)
    for n, out in enumerate(x):
        features.process(np.ascontiguousarray(signal[:, n * hop : (n + 1) * hop]), out)
    return x, sample_rate, hop


def track(follower: Follower, x: npt.NDArray[np.float32], sample_rate: int, hop: int) -> tuple[list[Event], Floats]:
    """All events, and what each hop cost in microseconds."""
    events: list[Event] = []
    cost = np.zeros(len(x))
    follower.prepare(Spec(sample_rate, hop, (N_FEATURES,)))
    for n, row in enumerate(x):
        start = time.perf_counter_ns()
        follower.process(row, (n + 1) * hop, events.append)
        cost[n] = (time.perf_counter_ns() - start) / 1000
    return events, cost


def score_seconds(truth: Truth, quarter: Floats) -> Floats:
    """Nominal seconds of positions, on beyond both ends at the rate there."""
    x, first = np.unique(truth["score_quarter"], return_index=True)
    y = truth["score_time_s"][first]
    before = y[0] + (quarter - x[0]) * (y[1] - y[0]) / (x[1] - x[0])
    after = y[-1] + (quarter - x[-1]) * (y[-1] - y[-2]) / (x[-1] - x[-2])
    return np.where(quarter < x[0], before, np.where(quarter > x[-1], after, np.interp(quarter, x, y)))


def parts(truth: Truth, t: Floats) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_], bool]]:
    """Onsets and updates of each stretch between two jumps, and whether the performer jumped there."""
    segment = truth.get("segment", np.zeros(len(truth["score_quarter"])))
    names = np.unique(segment)
    starts = [-np.inf, *(truth["perf_time_s"][segment == name][0] for name in names[1:]), np.inf]
    for k, name in enumerate(names):
        yield np.nonzero(segment == name)[0], (t >= starts[k]) & (t < starts[k + 1]), k > 0


def judge(truth: Truth, t: Floats, quarter: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Onset error in seconds (NaN: never reached), and which onsets found the estimate lost."""
    estimate = score_seconds(truth, quarter)
    error, lost = np.full(len(truth["score_quarter"]), np.nan), np.ones(len(truth["score_quarter"]), bool)
    for onsets, updates, jumped in parts(truth, t):
        s, p = truth["score_time_s"][onsets], truth["perf_time_s"][onsets]
        at, there = t[updates], estimate[updates]
        if not len(at):
            continue
        inside = (there >= s[0] - 1.0) & (there <= s[-1] + 1.0) if jumped else np.ones(len(at), bool)
        first = int(np.argmax(inside)) if inside.any() else len(at)
        furthest = np.maximum.accumulate(there[first:])
        reached = np.searchsorted(furthest, s - SLACK_S)
        ok = reached < len(furthest)
        error[onsets[ok]] = at[first:][reached[ok]] - p[ok]
        unique, index = np.unique(s, return_index=True)
        rate = (p[index][-1] - p[index][0]) / max(unique[-1] - unique[0], 1e-9)
        where = np.interp(there, unique, p[index])
        where = np.where(there < unique[0], p[0] + (there - unique[0]) * rate, where)
        where = np.where(there > unique[-1], p[index][-1] + (there - unique[-1]) * rate, where)
        newest = np.searchsorted(at, p, side="right") - 1
        lost[onsets] = ~((newest >= 0) & (np.abs(where[np.maximum(newest, 0)] - p) <= LOST_S))
    return error, lost


def row(name: str, error: Floats, lost: npt.NDArray[np.bool_], cost: Floats) -> dict[str, float | str]:
    late = np.nan_to_num(np.abs(error), nan=np.inf) * 1000
    within = {f"<={ms}": round(100 * float(np.mean(late <= ms)), 1) for ms in TOLERANCES_MS}
    return {
        "piece": name,
        **within,
        "median_ms": round(float(np.nanmedian(np.abs(error)) * 1000), 1),
        "signed_ms": round(float(np.nanmedian(error) * 1000), 1),
        "lost_%": round(100 * float(np.mean(lost)), 2),
        "p50_us": round(float(np.percentile(cost, 50)), 1),
        "p99_us": round(float(np.percentile(cost, 99)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pieces", type=Path)
    parser.add_argument("--audio-dir", type=Path)
    parser.add_argument("--midi", action="store_true")
    parser.add_argument("--method", choices=METHODS, default="dixon")
    parser.add_argument("--pred-dir", type=Path)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    folders = sorted(path.parent for path in arguments.pieces.glob("*/gt.csv"))
    if not folders:
        parser.error(f"{arguments.pieces} holds no PIECE/gt.csv")
    found: dict[str, list[tuple[str, Floats, npt.NDArray[np.bool_], Floats]]] = {"linear": [], "with jumps": []}
    for folder in tqdm(folders, unit="piece"):
        score = next(path for name in ("score.musicxml", "score.mid") if (path := folder / name).exists())
        follower = Follower(load_score(score), arguments.method)
        if arguments.midi:
            x, sample_rate, hop = midi_features(folder / "perf.mid"), MIDI_RATE, MIDI_RATE // 100
        else:
            x, sample_rate, hop = features_of_audio((arguments.audio_dir / folder.name if arguments.audio_dir else folder) / "perf.wav")
        events, cost = track(follower, x, sample_rate, hop)
        table = np.array([(e.available_frame / sample_rate, e.quarter, e.beat, e.tempo_bpm, e.confidence) for e in events])
        truth = read_truth(folder / "gt.csv")
        jumps = len(np.unique(truth.get("segment", np.zeros(1)))) > 1
        found["with jumps" if jumps else "linear"].append((folder.name, *judge(truth, table[:, 0], table[:, 1]), cost))
        if arguments.pred_dir:
            arguments.pred_dir.mkdir(parents=True, exist_ok=True)
            with (arguments.pred_dir / f"{folder.name}.csv").open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(COLUMNS)
                writer.writerows([*values, event.state] for values, event in zip(table.tolist(), events, strict=True))
    rows = [row(*piece) for pieces in found.values() for piece in pieces]
    for name, pieces in found.items():
        if pieces:
            rows.append(row(f"all {name} ({len(pieces)})", *(np.concatenate(column) for column in list(zip(*pieces, strict=True))[1:])))
    print(" | ".join(rows[0]))
    for values in rows:
        print(" | ".join(str(value) for value in values.values()))
    if arguments.output:
        source = {"method": arguments.method, "input": "MIDI" if arguments.midi else "audio"}
        write_result("following", {**source, "rows": rows, "machine": machine()}, arguments.output)


if __name__ == "__main__":
    main()
