"""Whether hard constraints hold, and what they cost. Writes a dated JSON with the machine.

For each row of LIMITS the performer writes `--notes` notes (temperature 1, no top-p), and rules that know nothing of its masks go over
what it has written: RULES, plain statements about a list of notes. No note may break any.

The price, in nats a note: at each choice of dt, pitch and duration the network gives a probability p to all that is allowed at that
moment; the price is the mean of -log p, dt, pitch and duration summed. What the vocabulary itself forbids costs nothing: in a chord
pitches rise, a key that is down is not struck again, a duration is at least one tick. As notes are drawn among what is allowed by the
network's own odds, the price is the Kullback-Leibler divergence of what is played from what the network would have played, note by note.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rtserver import zoo
from rtserver.generation import performer as playing
from rtserver.generation import vocabulary as v
from rtserver.generation.constraints import Constraints, Mask, parse_scale
from rtserver.generation.performer import Performer

Notes = np.ndarray  # int64 (n, 3): onset, pitch, duration, in the order in which they were written
HEADS = ("dt", "pitch", "duration")
ANYTHING = {"low": 0, "high": v.N_PITCH - 1, "polyphony": v.N_PITCH}
CHORDS = {"": tuple(range(12)), "Am7": (9, 0, 4, 7)}
# What is measured. Each row beside "none" sets one limit, the last one many.
LIMITS: dict[str, dict[str, Any]] = {
    "none": {},
    "scale: C major": {"scale": "C major"},
    "scale: C major pentatonic": {"scale": "C major pentatonic"},
    "scale: C, E, G alone": {"scale": (0, 4, 7)},
    "chord: Am7": {"chord": "Am7"},
    "range: two octaves": {"low": 60, "high": 84},
    "range: one octave": {"low": 60, "high": 71},
    "polyphony: 4": {"polyphony": 4},
    "polyphony: 1": {"polyphony": 1},
    "grid: sixteenths": {"grid": 6},
    "grid: quarters": {"grid": 24},
    "min_dt: no chords": {"min_dt": 1},
    "min_dt: an eighth": {"min_dt": 12},
    "max_dt: an eighth": {"max_dt": 12},
    "min_duration: a quarter": {"min_duration": 24},
    "max_duration: an eighth": {"max_duration": 12},
    "all of them": {
        "scale": "C major", "low": 48, "high": 84, "polyphony": 3, "grid": 6, "max_dt": 48, "min_duration": 6, "max_duration": 48,
    },
}  # fmt: skip


def _busy(notes: Notes, limits: Constraints) -> int:
    """Onsets at which more keys are down than allowed, the new one included."""
    onset, _, duration = notes.T
    release = onset + duration
    # Of the notes written before, a key outlives four quarters never: few need be looked at.
    return sum(int(np.sum(release[max(0, i - 512) : i] > onset[i])) + 1 > limits.polyphony for i in range(len(notes)))


def _struck_again(notes: Notes, _: Constraints) -> int:
    """Keys that are struck while they are down."""
    until: dict[int, int] = {}
    n = 0
    for onset, pitch, duration in notes.tolist():
        n += until.get(pitch, 0) > onset
        until[pitch] = max(until.get(pitch, 0), onset + duration)
    return n


def _steps(notes: Notes) -> np.ndarray:
    return np.diff(notes[:, 0], prepend=0)


# For each limit how many notes break it, as a statement about the notes alone.
RULES: dict[str, Callable[[Notes, Constraints], int]] = {
    "scale": lambda n, c: int((~np.isin(n[:, 1] % 12, sorted(parse_scale(c.scale)))).sum()),
    "chord": lambda n, c: int((~np.isin(n[:, 1] % 12, CHORDS[c.chord])).sum()),
    "range": lambda n, c: int(((n[:, 1] < c.low) | (n[:, 1] > c.high)).sum()),
    "polyphony": _busy,
    "a key that is down": _struck_again,
    "grid": lambda n, c: int((n[:, 0] % c.grid != 0).sum()),
    "min_dt": lambda n, c: int((_steps(n) < c.min_dt).sum()),
    "max_dt": lambda n, c: int((_steps(n) > c.max_dt).sum()),
    "min_duration": lambda n, c: int((n[:, 2] < c.min_duration).sum()),
    "max_duration": lambda n, c: int((n[:, 2] > c.max_duration).sum()),
}


class Scales:
    """Weighs each choice as the dice are thrown: stands in for `performer.draw` and calls it."""

    def __init__(self, performer: Performer) -> None:
        self.performer = performer
        self.nats = np.zeros(3)
        self.n = 0
        self._head = self._dt = 0
        self._release = np.zeros(v.N_PITCH, np.int64)  # of each key, of what was written
        self._draw = playing.draw

    def __enter__(self) -> Scales:
        playing.draw = self
        return self

    def __exit__(self, *_: object) -> None:
        playing.draw = self._draw

    def start(self) -> None:
        """A new stretch of music."""
        self._release[:] = 0

    def ask(self, limits: Constraints) -> tuple[int, int, int]:
        """The next note, fed: onset, pitch, duration."""
        self._head = 0
        note = self.performer.query(limits)
        self.performer.feed(note)
        self.n += 1
        tick = self.performer.tick
        self._release[note.pitch] = tick + note.duration
        return tick, note.pitch, note.duration

    def __call__(self, logits: np.ndarray, mask: Mask, temperature: float, top_p: float, u: float) -> int:
        chosen = self._draw(logits, mask, temperature, top_p, u)
        head = HEADS[self._head]
        x = logits.astype(np.float64)
        p = np.exp(x - x.max())
        if head == "dt":
            self._dt = chosen
            free = np.ones(len(p), bool)
            free[0] = self._spelt(0).any()  # else nothing above the last key is left to be struck with it
        else:
            free = self._spelt(self._dt) if head == "pitch" else np.arange(len(p)) > 0
        self.nats[self._head] -= math.log(p[mask].sum() / p[free].sum())
        self._head += 1
        return chosen

    def _spelt(self, dt: int) -> Mask:
        """The keys that the vocabulary allows after `dt` ticks."""
        allowed = self._release <= self.performer.tick + dt
        if dt == 0 and self.performer.last.pitch != v.START:
            allowed &= np.arange(v.N_PITCH) > self.performer.last.pitch
        return allowed


def measure(performer: Performer, limits: Constraints, n_notes: int, stretch: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Violations by rule, and the price by head, of `n_notes` notes in stretches of `stretch`, each from silence."""
    broken = dict.fromkeys(RULES, 0)
    with Scales(performer) as scales:
        for i in range(math.ceil(n_notes / stretch)):
            performer.seed = seed * 1_000_003 + i
            performer.reset()
            scales.start()
            notes = np.array([scales.ask(limits) for _ in range(min(stretch, n_notes - i * stretch))], np.int64)
            for name, rule in RULES.items():
                broken[name] += rule(notes, limits)
    heads = scales.nats / scales.n
    price = dict(zip(HEADS, heads.tolist(), strict=True)) | {"note": float(heads.sum())}
    return {
        "notes": scales.n,
        "violations": sum(broken.values()),
        "broken": broken,
        "price": {k: round(x, 4) for k, x in price.items()},
    }


def main() -> None:
    from machine import machine, write_result  # late: the tests, which import this file, have a machine.py of their own

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--notes", type=int, default=100_000, help="for each limit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="performer")
    parser.add_argument("--zoo", type=Path, default=zoo.FOLDER)
    parser.add_argument("--only", help="rows of LIMITS with this in their name")
    parser.add_argument("--output", type=Path, help="default: results/constraints-DATE.json beside this script")
    args = parser.parse_args()
    performer = Performer(args.model, folder=args.zoo)
    found: dict[str, Any] = {}
    rows = [k for k in LIMITS if args.only is None or args.only in k]
    print(f"{'':26s} {'notes':>8s} {'broken':>7s} {'dt':>7s} {'pitch':>7s} {'dur':>7s} {'nats/note':>10s}")
    for name in tqdm(rows, unit="limit"):
        f = found[name] = measure(performer, Constraints(**ANYTHING | LIMITS[name]), args.notes, seed=args.seed)
        tqdm.write(f"{name:26s} {f['notes']:8d} {f['violations']:7d} " + " ".join(f"{x:7.3f}" for x in f["price"].values()))
    result = {"model": args.model, "seed": args.seed, "limits": found, "n_nan": performer.n_nan, "machine": machine()}
    write_result("constraints", result, args.output)
    if any(f["violations"] for f in found.values()):
        raise SystemExit("a constraint was broken: see above")


if __name__ == "__main__":
    main()
