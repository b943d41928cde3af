"""Accuracy and cost of time warping by what the input is compared with: the score, what a synthesiser makes of it, or a recording.

usage: references.py PIECES_DIR [--methods NAME ...] [--fonts FONT ...] [--exchange FONT] [--output FILE]

PIECES_DIR, onset error and the other columns are those of ``following.py``. Each method runs with the reference that is written down from
the score, with the usual sound font and with every FONT. A reference played by the instrument of the performances flatters: name another.

--exchange: the performances without jumps are recordings to compare with, their beats all onsets that are known; the input is what FONT
plays of the score at its nominal tempo. There is one performance of each piece, so this is how two that differ in timing are had.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from following import Outcome, Truth, features_of, outcome, read_truth, table, track
from machine import machine, write_result
from tqdm import tqdm

from rtserver.audio.file import read
from rtserver.config import Following
from rtserver.events import Position
from rtserver.following.follower import REFERENCED, Follower
from rtserver.following.recorded import Beats, recorded_reference
from rtserver.following.reference import levelled
from rtserver.following.rendered import as_midi
from rtserver.following.score import Score, load_score
from rtserver.node import Array
from rtserver.references import make_reference
from rtserver.synthesis import synthesise

Found = dict[tuple[str, str], list[Outcome]]
made_s: dict[str, list[float]] = {}


def follow(  # noqa: PLR0917
    found: Found, name: str, follower: Follower, heard: tuple[Array, int], truth: Truth, piece: str
) -> None:
    x, hop = features_of(*heard)
    events, cost = track(follower, x, heard[1], hop)
    told = np.array([(e.available_frame / heard[1], e.quarter) for e in events if isinstance(e, Position)])
    found.setdefault((follower.method_name, name), []).append(outcome(piece, truth, told[:, 0], told[:, 1], cost))


def exchanged(  # noqa: PLR0917
    score: Score, truth: Truth, recording: tuple[Array, int], methods: list[str], font: str, piece: str, found: Found
) -> None:
    """The performance is the reference, and a rendering the input."""
    quarter, first = np.unique(truth["score_quarter"], return_index=True)
    beats = Beats(np.maximum.accumulate(truth["perf_time_s"][first]), quarter - quarter[0])
    reference = recorded_reference(score, *recording, beats)
    signal, sample_rate = synthesise(as_midi(score), font)
    onset = np.unique(score.notes.onset_quarter)
    known = {"score_quarter": onset, "score_time_s": score.seconds_at(onset), "perf_time_s": score.seconds_at(onset)}
    for method in methods:
        follow(found, "recording", Follower(score, method, reference), (levelled(signal), sample_rate), known, piece)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pieces", type=Path)
    parser.add_argument("--methods", nargs="+", choices=REFERENCED, default=list(REFERENCED))
    parser.add_argument("--fonts", nargs="*", default=[])
    parser.add_argument("--exchange", metavar="FONT")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    folders = sorted(path.parent for path in arguments.pieces.glob("*/gt.csv"))
    if not folders:
        parser.error(f"{arguments.pieces} holds no PIECE/gt.csv")
    chosen = {"score": Following("arzt"), "rendered": Following("arzt", reference="rendered")}
    chosen |= {Path(font).stem: Following("arzt", reference="rendered", sound_font=font) for font in arguments.fonts}
    found: Found = {}
    for folder in tqdm(folders, unit="piece", leave=False):
        score, truth, heard = load_score(folder / "score.mid"), read_truth(folder / "gt.csv"), read(folder / "perf.wav")
        if arguments.exchange and len(np.unique(truth.get("segment", np.zeros(1)))) == 1:
            exchanged(score, truth, heard, arguments.methods, arguments.exchange, folder.name, found)
        for name, following in chosen.items():
            begun = time.perf_counter()
            reference = make_reference(score, following)
            made_s.setdefault(name, []).append(round(time.perf_counter() - begun, 2))
            for method in arguments.methods:
                follow(found, name, Follower(score, method, reference), heard, truth, folder.name)
    rows = [row for (method, name), all_of in found.items() for row in table({"method": method, "reference": name}, all_of)]
    write_result("references", {"machine": machine(), "rows": rows, "made_s": made_s}, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
