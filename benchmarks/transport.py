"""How evenly the musical clock runs that a follower drives.

usage: transport.py [PIECES_DIR] [--only PREFIX ...] [--keys] [--direct] [--output FILE]

Without PIECES_DIR the piece is the demonstration's. PIECES_DIR/<piece>/ holds score.mid, gt.csv, perf.wav and perf.mid, as for
following.py. The positions of `semimarkov` drive the clock hop by hop, each 20 ms after the audio that it was made from, as in the
performer. A click is to sound at every eighth of the score; it is committed once, when it is due within the next 50 ms, as notes are.
Judged between the jumps of the player and away from his pauses, against when he was there (his onsets, straight lines between). --direct
takes every position as it is, without the loop.

error       of a click against the player, ms: median and 95th percentile of its size
jitter      what an interval between two clicks differs from the player's, ms: the same
uneven      what an interval between two clicks differs from the one before, ms: the same; `player` is the player's own
step        the largest move of the clock in a hop of 10 ms beyond the piece's mean pace, ms of music, where it does not leap
back, leaps how often it moves backwards without a leap; how often it leaps
tempo       95th percentile of how much the clock's speed changes within 0.1 s, percent
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from following import features_of, read_truth, track
from machine import machine, write_result
from tqdm import tqdm

from rtserver.audio.file import read
from rtserver.demo import PERFORMANCE, RECORDING, SCORE, TRUTH
from rtserver.events import Position
from rtserver.following.follower import Follower
from rtserver.following.offline import MIDI_RATE, follow_midi
from rtserver.following.score import load_score
from rtserver.following.states import FOLLOWING, JUMPED
from rtserver.transport import Transport

Floats = npt.NDArray[np.float64]
EFFECT_HOPS, HORIZON_S, EIGHTH = 2, 0.05, 0.5
PAUSE = 2.5  # an interval so much longer than the piece's median pace says is a pause, and no clock can know its length


def positions(score: Path, wav: Path, midi: Path, keys: bool) -> tuple[list[Position], int]:
    """What the follower says, and the sample rate that its frames count in."""
    follower = Follower(load_score(score))
    if keys:
        rows = follow_midi(follower, midi)
        return [Position(round(t * MIDI_RATE), round(t * MIDI_RATE), q, b, bpm, c, state) for t, q, b, bpm, c, state in rows], MIDI_RATE
    signal, rate = read(wav)
    x, hop = features_of(signal.mean(axis=0, keepdims=True), rate)
    return [e for e in track(follower, x, rate, hop)[0] if isinstance(e, Position)], rate


def clicks(told: list[Position], rate: int, direct: bool) -> tuple[list[tuple[float, float, int]], Floats, npt.NDArray[np.int64], Floats]:
    """(quarter, second, epoch) of every click; quarter, epoch and tempo of the clock at each hop."""
    transport, hop, n_hops = Transport(rate), rate // 100, told[-1].frame // (rate // 100)
    found: list[tuple[float, float, int]] = []
    line = np.zeros((n_hops, 3))
    coming, k, upcoming, epoch = list(told), 0, 0.0, -1
    state = ""
    for n in range(n_hops):
        frame = (n + 1) * hop
        while k < len(coming) and coming[k].frame + EFFECT_HOPS * hop <= frame:
            position = coming[k]
            k += 1
            if position.state in FOLLOWING and direct:
                transport.update(position.frame, position.quarter, position.tempo_bpm)
            elif position.state in FOLLOWING:
                leapt = position.state == JUMPED != state
                transport.follow(frame, position, leapt)
            else:
                transport.stop(position.frame)
            state = position.state
        if transport.running:
            if transport.epoch != epoch:
                epoch = transport.epoch
                upcoming = np.ceil(transport.quarter_at(frame) / EIGHTH - 1e-9) * EIGHTH
            while (due := transport.frame_of(upcoming)) < frame + HORIZON_S * rate:
                found.append((upcoming, max(due, frame) / rate, epoch))
                upcoming += EIGHTH
        line[n] = transport.quarter_at(frame), transport.epoch, transport.running
    return found, line[:, 0], line[:, 1].astype(np.int64), line[:, 2]


def judged(told: list[Position], rate: int, truth: dict[str, Floats], direct: bool = False) -> dict[str, Floats]:
    """Values to be summed up over the pieces."""
    found, quarter, epoch, running = clicks(told, rate, direct)
    segment = truth.get("segment", np.zeros(len(truth["score_quarter"])))
    errors, jitters, uneven, own = list[float](), list[float](), list[float](), list[float]()
    for name in np.unique(segment):
        here = segment == name
        q, first = np.unique(truth["score_quarter"][here], return_index=True)
        t = truth["perf_time_s"][here][first]
        pace = np.diff(t) / np.diff(q)
        calm = np.append(pace < PAUSE * np.median(pace), False)
        begin, end = t[0] + (2.0 if name else 0.0), t[-1]
        last: tuple[float, float, int, float, float] | None = None
        interval: tuple[float, float] | None = None
        for click in found:
            at, second, its = click
            k = int(np.searchsorted(q, at, side="right")) - 1
            if not (0 <= k < len(q) - 1 and calm[k] and begin <= second <= end):
                last = None
                continue
            true = t[k] + (at - q[k]) * pace[k]
            if abs(second - true) > 1.0:  # lost, or elsewhere: told of by the follower's own figures
                last = None
                continue
            errors.append(1000 * (second - true))
            if last is not None and last[2] == its and abs(at - last[0] - EIGHTH) < 1e-6:
                jitters.append(errors[-1] - last[1])
                now = 1000 * second - last[3], 1000 * true - last[4]
                if interval is not None:
                    uneven.append(now[0] - interval[0])
                    own.append(now[1] - interval[1])
                interval = now
            else:
                interval = None
            last = (at, errors[-1], its, 1000 * second, 1000 * true)
    moves = np.diff(quarter)
    steady = (np.diff(epoch) == 0) & (running[1:] > 0) & (running[:-1] > 0)
    pace = 0.01 * np.ptp(truth["score_quarter"]) / np.ptp(truth["perf_time_s"])
    speed = np.convolve(moves, np.ones(10) / 10, "same")
    change = np.abs(np.log(np.maximum(speed[10:], 1e-6) / np.maximum(speed[:-10], 1e-6)))[steady[10:] & steady[:-10]]
    return {
        "error": np.array(errors),
        "jitter": np.array(jitters),
        "uneven": np.array(uneven),
        "player": np.array(own),
        "step": 10.0 * (moves[steady] / pace - 1.0),
        "back": np.array([np.sum(moves[steady] < -1e-9)]),
        "leaps": np.array([np.sum(np.diff(epoch) != 0)]),
        "tempo": change,
    }


def row(name: str, found: list[dict[str, Floats]]) -> dict[str, object]:
    every = {key: np.concatenate([f[key] for f in found]) for key in found[0]}

    def size(key: str, q: float) -> float:
        return round(float(np.percentile(np.abs(every[key]), q)), 1)

    return {
        "piece": name,
        "error p50": size("error", 50),
        "error p95": size("error", 95),
        "signed": round(float(np.median(every["error"])), 1),
        "jitter p50": size("jitter", 50),
        "jitter p95": size("jitter", 95),
        "uneven p50": size("uneven", 50),
        "uneven p95": size("uneven", 95),
        "player p50": size("player", 50),
        "player p95": size("player", 95),
        "step": round(float(every["step"].max()), 1),
        "back": int(every["back"].sum()),
        "leaps": int(every["leaps"].sum()),
        "tempo p95 %": round(100 * float(np.expm1(np.percentile(every["tempo"], 95))), 1),
        "clicks": len(every["error"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pieces", type=Path, nargs="?")
    parser.add_argument("--only", nargs="+", default=[""], help="pieces whose names begin so")
    parser.add_argument("--keys", action="store_true")
    parser.add_argument("--direct", action="store_true")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    sources = {"demo": (SCORE, RECORDING, PERFORMANCE, TRUTH)}
    if options.pieces:
        folders = sorted(f.parent for f in options.pieces.glob("*/gt.csv") if f.parent.name.startswith(tuple(options.only)))
        sources = {f.name: (f / "score.mid", f / "perf.wav", f / "perf.mid", f / "gt.csv") for f in folders}
    found: list[dict[str, Floats]] = []
    rows: list[dict[str, object]] = []
    for name, (score, wav, midi, truth) in tqdm(sources.items(), unit="piece"):
        found.append(judged(*positions(score, wav, midi, options.keys), read_truth(truth), options.direct))
        rows.append(row(name, found[-1:]))
        tqdm.write(str(rows[-1]))
    if len(found) > 1:
        rows.append(row("all", found))
        print(rows[-1])
    write_result("transport", {"machine": machine(), "keys": options.keys, "direct": options.direct, "rows": rows}, options.output)


if __name__ == "__main__":
    main()
