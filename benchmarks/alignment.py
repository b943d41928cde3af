"""Accuracy of off-line alignment on performances whose truth is known.

usage: alignment.py PIECES_DIR [--output FILE]

PIECES_DIR as for following.py; pieces with jumps are left out, as `rtserver align` takes a performance of the whole score. Two rows: time
warping alone, and what `rtserver align` writes. Error: when an onset is said to be, minus when it was played (the mean of its notes).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from following import TOLERANCES_MS, read_truth
from machine import machine, write_result
from tqdm import tqdm

from rtserver.following.alignment import heard_times, onset_times
from rtserver.following.offline import audio_features
from rtserver.following.score import load_score

WAYS = {"time warping": onset_times, "rtserver align": heard_times}


def row(way: str, piece: str, error: np.ndarray, took_s: float, lasts_s: float) -> dict[str, object]:
    off = np.abs(error) * 1000
    within = {f"<={ms}": round(100 * float(np.mean(off <= ms)), 1) for ms in TOLERANCES_MS}
    return {
        "way": way, "piece": piece, **within, "median_ms": round(float(np.median(off)), 1),
        "signed_ms": round(float(np.median(error)) * 1000, 1), "of_real_time": round(took_s / lasts_s, 4),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pieces", type=Path)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    found: dict[str, list[tuple[str, np.ndarray, float, float]]] = {way: [] for way in WAYS}
    for path in tqdm(sorted(arguments.pieces.glob("*/gt.csv")), unit="piece", leave=False):
        truth = read_truth(path)
        if len(np.unique(truth.get("segment", np.zeros(1)))) > 1:
            continue
        score = load_score(path.parent / "score.mid")
        features = audio_features(path.parent / "perf.wav", score.tuning_hz)
        for way, times in WAYS.items():
            begun = time.process_time()
            quarters, seconds = times(score, features)
            took = time.process_time() - begun
            error = np.interp(truth["score_quarter"], quarters, seconds) - truth["perf_time_s"]
            found[way].append((path.parent.name, error, took, len(features) / 100))
    rows: list[dict[str, object]] = []
    for way, pieces in found.items():
        if not pieces:
            parser.error(f"{arguments.pieces} holds no PIECE/gt.csv of a performance without jumps")
        rows += [row(way, *piece) for piece in pieces]
        _, errors, took, lasts = zip(*pieces, strict=True)
        rows.append(row(way, f"all ({len(pieces)})", np.concatenate(errors), sum(took), sum(lasts)))
        print(" | ".join(str(value) for value in rows[-1].values()), flush=True)
    write_result("alignment", {"machine": machine(), "rows": rows}, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
