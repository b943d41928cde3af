"""Follow recordings with Matchmaker (PyPI: pymatchmaker), hop by hop and without threads, in an environment of its own.

usage: run_matchmaker.py OUTPUT_DIR WAV_NAME PIECE_DIR ...

Writes OUTPUT_DIR/<piece>.csv: t_avail, the end of the last audio that had been consumed, in seconds; score_beat; cost_us of that hop,
features and following. Matchmaker's own time stamp is that of the start of its window, and is not used. Default method and settings
(chroma, on-line time warping by Arzt, 30 frames a second); nominal tempo from PIECE_DIR/meta.json where that is there.
"""

import csv
import json
import sys
import time
from pathlib import Path

import numpy as np
from matchmaker import Matchmaker


def follow(piece: Path, wav: Path, output: Path) -> None:
    meta = json.loads((piece / "meta.json").read_text()) if (piece / "meta.json").exists() else {}
    score = piece / "score.musicxml"
    begun = time.perf_counter()
    made = Matchmaker(
        score_file=score,
        performance_file=wav,
        input_type="audio",
        tempo=meta.get("bpm_nominal"),
    )
    loading_s = time.perf_counter() - begun
    stream, follower = made.stream, made.score_follower
    hop, sample_rate = stream.hop_length, made.sample_rate
    signal = stream._preloaded_audio
    rows = []
    for start in range(0, len(signal) - hop + 1, hop):
        begun = time.perf_counter()
        stream._process_feature(np.ascontiguousarray(signal[start : start + hop]), 0.0)
        if stream.queue.empty():
            continue
        item = stream.queue.get()
        if not follower.is_still_following():
            break
        beat = follower(*item)
        if beat is not None:
            rows.append(((start + hop) / sample_rate, float(beat), (time.perf_counter() - begun) * 1e6))
    with output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("t_avail", "score_beat", "cost_us"))
        writer.writerows(rows)
    print(f"{piece.name}: {len(rows)} hops of {1000 * hop / sample_rate:.1f} ms, loaded in {loading_s:.1f} s", flush=True)


if __name__ == "__main__":
    folder, name = Path(sys.argv[1]), sys.argv[2]
    folder.mkdir(parents=True, exist_ok=True)
    for argument in sys.argv[3:]:
        follow(Path(argument), Path(argument) / name, folder / f"{Path(argument).name}.csv")
