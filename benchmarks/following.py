"""Accuracy and cost of score following on performances whose truth is known.

usage: following.py [PIECES_DIR] [--methods NAME ...] [--conditions NAME ...] [--audio-dir NAME=DIR ...] [--matchmaker PYTHON] [--sizes]
                    [--pred-dir DIR] [--output FILE]

PIECES_DIR/<piece>/ holds score.musicxml, score.mid, gt.csv (score_quarter, score_beat, score_time_s, perf_time_s[, segment]), perf.wav
and perf.mid. A condition is a change of the score, the sound or the input (see `CONDITIONS`); --audio-dir adds one in which
DIR/<piece>/perf.wav is heard. --matchmaker gives the Python of an environment in which pymatchmaker is installed, and adds it as a row
(condition `musicxml`). --pred-dir keeps the rows as ``rtserver follow`` writes them. --sizes measures cost, loading and memory on scores
made at random.

Onset error: when the estimate first reaches an onset's position (in nominal seconds, 1 ms of slack), minus when it was played; time is
that at which the last audio used had arrived. An onset never reached counts as wrong at every tolerance. Lost: share of onsets at which the
estimate is more than 2 s of performance time off. Where the performer jumps (`segment`), an onset counts within its segment, from the first
estimate inside it on. Failed: lost over the last tenth of a piece, or on more than half. Re-lock: seconds from a jump until the estimate
is within 1 s, and stays so for 1 s. False jumps: how often the estimate moves by more than 3 nominal seconds at once, beyond once a jump.
Cost: processor time of `Follower.process` per hop of 10 ms, microseconds, features not counted.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from machine import machine, write_result
from tqdm import tqdm

from rtserver.audio.file import read
from rtserver.dsp.features import Features
from rtserver.dsp.layout import N_FEATURES
from rtserver.events import Event, Position
from rtserver.following.follower import HEARS_KEYS, METHODS, Follower
from rtserver.following.offline import COLUMNS, MIDI_RATE, follow_midi
from rtserver.following.score import Notes, Score, load_score
from rtserver.node import Spec

TOLERANCES_MS = (25, 50, 100, 200, 500, 1000)
LOST_S, SLACK_S = 2.0, 1e-3
RELOCKED_S, JUMP_S = 1.0, 3.0
Floats = npt.NDArray[np.float64]
Truth = dict[str, Floats]


@dataclass(frozen=True)
class Condition:
    """What is different: the score's file, its nominal tempo, noise over the music, a room, another rendering, keys instead of sound."""

    score: str = "score.mid"
    tempo: float = 1.0
    snr_db: float = np.inf
    reverberation_s: float = 0.0
    keys: bool = False
    audio: Path | None = None


CONDITIONS = {
    "plain": Condition(),
    "musicxml": Condition(score="score.musicxml"),
    "half tempo": Condition(tempo=0.5),
    "double tempo": Condition(tempo=2.0),
    "noise 20 dB": Condition(snr_db=20.0),
    "noise 10 dB": Condition(snr_db=10.0),
    "room": Condition(reverberation_s=1.2),
    "keys": Condition(keys=True),
    "keys, musicxml": Condition(keys=True, score="score.musicxml"),
}


@dataclass
class Outcome:
    """What one method made of one piece."""

    piece: str
    error: Floats  # s, NaN where never reached
    lost: npt.NDArray[np.bool_]
    cost_us: Floats
    relock_s: list[float]
    n_false: int
    jumps: bool

    @property
    def failed(self) -> bool:
        return bool(self.lost[-max(len(self.lost) // 10, 1) :].all() or self.lost.mean() > 0.5)


def read_truth(path: Path) -> Truth:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


def sound(path: Path, condition: Condition) -> tuple[npt.NDArray[np.float32], int]:
    """The recording (n_channels, frames), with the condition's room and pink noise over it."""
    signal, sample_rate = read(path)
    random = np.random.default_rng(0)
    if condition.reverberation_s:
        # As much energy as the direct sound, 15 ms after it, 60 dB less after the time of reverberation.
        n = int(1.3 * condition.reverberation_s * sample_rate)
        tail = random.standard_normal(n) * 10.0 ** (-3.0 * np.arange(n) / (condition.reverberation_s * sample_rate))
        tail[: round(0.015 * sample_rate)] = 0.0
        tail /= np.linalg.norm(tail)
        tail[0] = 1.0
        size = 1 << int(np.ceil(np.log2(signal.shape[1] + n)))
        wet = np.fft.irfft(np.fft.rfft(signal, size) * np.fft.rfft(tail, size), size)[:, : signal.shape[1]]
        signal = (wet * (np.abs(signal).max() / np.abs(wet).max())).astype(np.float32)
    if condition.snr_db < np.inf:
        spectrum = np.fft.rfft(random.standard_normal(signal.shape[1]))
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
        spectrum[0] = 0.0
        pink = np.fft.irfft(spectrum, signal.shape[1])
        pink *= np.sqrt(np.mean(signal**2) / np.mean(pink**2)) * 10.0 ** (-condition.snr_db / 20.0)
        signal = (0.8 * (signal + pink)).astype(np.float32)
    return signal, sample_rate


def features_of(signal: npt.NDArray[np.float32], sample_rate: int) -> tuple[npt.NDArray[np.float32], int]:
    features = Features(sample_rate)
    hop = features.hop_size
    features.prepare(Spec.signal(sample_rate, len(signal), hop))
    x = np.zeros((signal.shape[1] // hop, N_FEATURES), np.float32)
    for n, out in enumerate(x):
        features.process(np.ascontiguousarray(signal[:, n * hop : (n + 1) * hop]), out)
    return x, hop


def track(follower: Follower, x: npt.NDArray[np.float32], sample_rate: int, hop: int) -> tuple[list[Event], Floats]:
    """All events, and what each hop cost in microseconds."""
    events: list[Event] = []
    cost = np.zeros(len(x))
    follower.prepare(Spec(sample_rate, hop, (N_FEATURES,)))
    for n, row in enumerate(x):
        start = time.thread_time_ns()
        follower.process(row, (n + 1) * hop, events.append)
        cost[n] = (time.thread_time_ns() - start) / 1000
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


def relocks(truth: Truth, t: Floats, quarter: Floats) -> tuple[list[float], int]:
    """Seconds until the estimate was back after each jump (infinite: never), and how many of its own leaps no jump explains."""
    estimate = score_seconds(truth, quarter)
    back: list[float] = []
    for onsets, updates, jumped in parts(truth, t):
        if not jumped:
            continue
        s, first = np.unique(truth["score_time_s"][onsets], return_index=True)
        p = truth["perf_time_s"][onsets][first]
        at = t[updates]
        near = np.abs(np.interp(estimate[updates], s, p, left=-np.inf, right=p[-1]) - at) < RELOCKED_S
        far = np.append(at[~near], np.inf)
        held = near & (far[np.searchsorted(far, at)] > at + RELOCKED_S)
        back.append(float(at[np.argmax(held)] - p[0]) if held.any() else np.inf)
    leaps = int(np.sum(np.abs(np.diff(estimate)) > JUMP_S))
    return back, max(leaps - len(back), 0)


def outcome(piece: str, truth: Truth, t: Floats, quarter: Floats, cost_us: Floats) -> Outcome:
    jumps = len(np.unique(truth.get("segment", np.zeros(1)))) > 1
    return Outcome(piece, *judge(truth, t, quarter), cost_us, *relocks(truth, t, quarter), jumps)


def row(name: str, found: list[Outcome]) -> dict[str, float | str | list[float]]:
    error, lost = np.concatenate([o.error for o in found]), np.concatenate([o.lost for o in found])
    cost = np.concatenate([o.cost_us for o in found])
    off = np.nan_to_num(np.abs(error), nan=np.inf) * 1000
    within = {f"<={ms}": round(100 * float(np.mean(off <= ms)), 1) for ms in TOLERANCES_MS}
    return {
        "piece": name,
        **within,
        "median_ms": round(float(np.nanmedian(np.abs(error)) * 1000), 1),
        "signed_ms": round(float(np.nanmedian(error) * 1000), 1),
        "lost_%": round(100 * float(np.mean(lost)), 2),
        "failed": sum(o.failed for o in found),
        "false_jumps": sum(o.n_false for o in found),
        "relock_s": [round(s, 2) for o in found for s in o.relock_s],
        "p50_us": round(float(np.percentile(cost, 50)), 1),
        "p99_us": round(float(np.percentile(cost, 99)), 1),
    }


def table(source: dict[str, str], found: list[Outcome]) -> list[dict[str, object]]:
    """A row a piece, and one for the linear pieces and for those with jumps; the last ones are shown."""
    rows: list[dict[str, object]] = [source | row(o.piece, [o]) for o in found]
    for name, chosen in (("linear", [o for o in found if not o.jumps]), ("with jumps", [o for o in found if o.jumps])):
        if chosen:
            rows.append(source | row(f"all {name} ({len(chosen)})", chosen))
            print(" | ".join(str(value) for value in rows[-1].values()), flush=True)
    return rows


def run(condition: Condition, methods: list[str], folders: list[Path], pred_dir: Path | None) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {method: [] for method in methods}
    for folder in tqdm(folders, unit="piece", leave=False):
        score = load_score(folder / condition.score)
        score = replace(score, tempo_bpm=score.tempo_bpm * condition.tempo)
        truth = read_truth(folder / "gt.csv")
        if not condition.keys:
            signal, sample_rate = sound((condition.audio / folder.name if condition.audio else folder) / "perf.wav", condition)
            x, hop = features_of(signal, sample_rate)
        for method in methods:
            follower = Follower(score, method)
            if condition.keys:
                stamps: list[int] = []
                rows = follow_midi(follower, folder / "perf.mid", lambda _: stamps.append(time.thread_time_ns()))  # noqa: B023
                cost = np.diff(stamps) / 1000
                positions = [(*r[:5],) for r in rows]
                states = [r[5] for r in rows]
            else:
                events, cost = track(follower, x, sample_rate, hop)
                told = [e for e in events if isinstance(e, Position)]
                positions = [(e.available_frame / sample_rate, e.quarter, e.beat, e.tempo_bpm, e.confidence) for e in told]
                states = [e.state for e in told]
            values = np.array(positions)
            found[method].append(outcome(folder.name, truth, values[:, 0], values[:, 1], cost))
            if pred_dir:
                (pred_dir / method).mkdir(parents=True, exist_ok=True)
                with (pred_dir / method / f"{folder.name}.csv").open("w", newline="") as file:
                    writer = csv.writer(file)
                    writer.writerow(COLUMNS)
                    writer.writerows([*p, state] for p, state in zip(positions, states, strict=True))
    return found


def run_matchmaker(python: Path, folders: list[Path], output: Path) -> list[Outcome]:
    """Matchmaker on the same recordings, in its own environment."""
    script = Path(__file__).parent / "run_matchmaker.py"
    subprocess.run([python, script, output, "perf.wav", *folders], check=True)
    found: list[Outcome] = []
    for folder in folders:
        truth, told = read_truth(folder / "gt.csv"), read_truth(output / f"{folder.name}.csv")
        # Beats are put on the axis of quarters by the pairs that the truth holds.
        beat, first = np.unique(truth["score_beat"], return_index=True)
        quarter = truth["score_quarter"][first]
        slope = np.median(np.diff(quarter) / np.diff(beat))
        at = np.interp(told["score_beat"], beat, quarter)
        at += slope * (np.minimum(told["score_beat"] - beat[0], 0.0) + np.maximum(told["score_beat"] - beat[-1], 0.0))
        found.append(outcome(folder.name, truth, told["t_avail"], at, told["cost_us"]))
    return found


def made(n_notes: int) -> Score:
    """Two moments a quarter at 120, of one to six random notes each: nearly every chord is another."""
    random = np.random.default_rng(0)
    size = np.minimum(random.geometric(0.45, n_notes) + 1, 6)
    size = size[: np.searchsorted(np.cumsum(size), n_notes)]
    pitch = np.concatenate([np.sort(random.choice(np.arange(36, 96), n, replace=False)) for n in size]).astype(np.int32)
    onset = np.repeat(np.arange(len(size)) / 2, size)
    notes = Notes(onset, np.full(len(onset), 0.5), pitch, np.zeros(len(onset), np.int32))
    line = np.array([0.0, onset[-1] + 1.0])
    return Score(
        title="made at random",
        parts=("piano",),
        notes=notes,
        written=notes,
        segments=np.array([[0.0, line[1], 0.0]]),
        skips=np.empty((0, 2)),
        tempo_quarter=np.zeros(1),
        tempo_bpm=np.array([120.0]),
        beat_quarter=line,
        beat=line,
        bar_quarter=np.zeros(1),
        bar_number=np.ones(1, np.int32),
    )


def cost_of(n_notes: int) -> dict[str, float]:
    """Seconds to prepare, megabytes, and microseconds a hop: a minute from the middle of a score with two leaps, on sound and on keys, and
    the sound of other notes.
    """
    import tracemalloc

    from rtserver.following.reference import features_of as written_down

    score = made(n_notes)
    spec = Spec(MIDI_RATE, MIDI_RATE // 100, (N_FEATURES,))
    tracemalloc.start()
    Follower(score).prepare(spec)
    memory = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    follower = Follower(score)
    begun = time.perf_counter()
    follower.prepare(spec)
    result: dict[str, float] = {"notes": n_notes, "moments": len(score.events()), "loading_s": round(time.perf_counter() - begun, 3)}
    result["memory_mb"] = round(memory, 1)
    middle = score.length_quarter / 2
    at = score.notes.onset_quarter
    stretches = [np.nonzero((at >= q) & (at < q + 40))[0] for q in (middle, middle / 2, middle)]
    index = np.concatenate(stretches)
    onset = np.concatenate([20.0 * k + (at[stretch] - at[stretch[0]]) / 2 for k, stretch in enumerate(stretches)])
    hops = np.round(onset * 100).astype(int)
    right = score.notes.pitch[index]
    for kind, pitch in (("sound", right), ("keys", right), ("other", np.random.default_rng(1).permutation(right))):
        notes = Notes(onset, np.full(len(onset), 0.25), pitch, score.notes.part[index])
        x = np.ascontiguousarray(written_down(onset, onset + 0.25, notes, 6000, np.ones(len(onset))), np.float32)
        cost, count = np.zeros(6000), np.zeros(6000)
        follower.seek(float(at[index[0]]))
        for n in range(6000):
            struck = pitch[hops == n].tolist()
            start = time.thread_time_ns()
            if kind == "keys":
                follower.process_keys(struck, n, lambda _: None)
            else:
                follower.process(x[n], n, lambda _: None)
            cost[n] = (time.thread_time_ns() - start) / 1000
            count[n] = len(follower.method._space.events)  # type: ignore[attr-defined]
        result |= {f"{kind}_p50_us": round(float(np.percentile(cost, 50)), 1), f"{kind}_p99_us": round(float(np.percentile(cost, 99)), 1)}
        result |= {f"{kind}_max_us": round(float(cost.max()), 1), f"{kind}_hypotheses_p99": round(float(np.percentile(count, 99)))}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pieces", type=Path, nargs="?")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--conditions", nargs="*", choices=CONDITIONS, default=["plain"])
    parser.add_argument("--audio-dir", nargs="*", default=[], metavar="NAME=DIR")
    parser.add_argument("--matchmaker", type=Path, metavar="PYTHON")
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--pred-dir", type=Path)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    result: dict[str, object] = {"machine": machine()}
    if arguments.sizes:
        result["sizes"] = [cost_of(n) for n in (1000, 10_000, 50_000)]
        print(*result["sizes"], sep="\n")
    if arguments.pieces:
        folders = sorted(path.parent for path in arguments.pieces.glob("*/gt.csv"))
        if not folders:
            parser.error(f"{arguments.pieces} holds no PIECE/gt.csv")
        chosen = {name: CONDITIONS[name] for name in arguments.conditions}
        chosen |= {name: Condition(audio=Path(folder)) for name, _, folder in (pair.partition("=") for pair in arguments.audio_dir)}
        rows: list[dict[str, object]] = []
        for name, condition in chosen.items():
            methods = [method for method in arguments.methods if not condition.keys or method in HEARS_KEYS]
            pred_dir = arguments.pred_dir / name if arguments.pred_dir else None
            for method, found in run(condition, methods, folders, pred_dir).items():
                rows += table({"method": method, "condition": name}, found)
        if arguments.matchmaker:
            with tempfile.TemporaryDirectory() as output:
                rows += table(
                    {"method": "matchmaker", "condition": "musicxml"}, run_matchmaker(arguments.matchmaker, folders, Path(output))
                )
        result["rows"] = rows
    write_result("following", result, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
