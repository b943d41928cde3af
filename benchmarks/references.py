"""Accuracy and cost of time warping by what the input is compared with: the score itself, or what a synthesiser makes of it.

usage: references.py PIECES_DIR [--methods NAME ...] [--fonts FONT ...] [--output FILE]

PIECES_DIR, onset error and the other columns are those of ``following.py``. Each method runs with the reference that is written down from
the score, with the usual sound font and with every FONT. A reference played by the instrument of the performances flatters: name another.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from following import Outcome, features_of, outcome, read_truth, table, track
from machine import machine, write_result
from tqdm import tqdm

from rtserver.audio.file import read
from rtserver.config import Following
from rtserver.events import Position
from rtserver.following.follower import REFERENCED, Follower
from rtserver.following.score import load_score
from rtserver.references import make_reference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pieces", type=Path)
    parser.add_argument("--methods", nargs="+", choices=REFERENCED, default=list(REFERENCED))
    parser.add_argument("--fonts", nargs="*", default=[])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    folders = sorted(path.parent for path in arguments.pieces.glob("*/gt.csv"))
    if not folders:
        parser.error(f"{arguments.pieces} holds no PIECE/gt.csv")
    chosen = {"score": Following("arzt"), "rendered": Following("arzt", reference="rendered")}
    chosen |= {Path(font).stem: Following("arzt", reference="rendered", sound_font=font) for font in arguments.fonts}
    found: dict[tuple[str, str], list[Outcome]] = {(method, name): [] for method in arguments.methods for name in chosen}
    made_s: dict[str, list[float]] = {name: [] for name in chosen}
    for folder in tqdm(folders, unit="piece", leave=False):
        score, truth = load_score(folder / "score.mid"), read_truth(folder / "gt.csv")
        signal, sample_rate = read(folder / "perf.wav")
        x, hop = features_of(signal, sample_rate)
        for name, following in chosen.items():
            begun = time.perf_counter()
            reference = make_reference(score, following)
            made_s[name].append(round(time.perf_counter() - begun, 2))
            for method in arguments.methods:
                events, cost = track(Follower(score, method, reference), x, sample_rate, hop)
                told = np.array([(e.available_frame / sample_rate, e.quarter) for e in events if isinstance(e, Position)])
                found[method, name].append(outcome(folder.name, truth, told[:, 0], told[:, 1], cost))
    rows = [row for (method, name), all_of in found.items() for row in table({"method": method, "reference": name}, all_of)]
    write_result("references", {"machine": machine(), "rows": rows, "made_s": made_s}, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
