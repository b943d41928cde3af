"""Fit the odds of `rtserver.following.heard`: ``python -m models.following.fit RENDERINGS VALIDATION``.

Both are folders of renderings with scores (`models.following.corpus --scores`; the pieces of VALIDATION with ``--validation``). For every
age the odds are a logistic regression on (1, strength, cosine, their product). Positives: every moment that was played, at that age.
Negatives: at random hops, the moments from one before to three after the one that sounds, unless they have just begun; both classes
count the same. Prints the table to copy, and what each age's odds are worth on VALIDATION: nats gained over knowing nothing (ln 2).

At last it fits how much the sum over all ages of the tempered table and the network's word for the chord should count beside each other:
the two weights stand in `heard.TEMPER` and `learned.WEIGHT`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.following.corpus import ONSET, QUARTER
from rtserver.dsp.features import FIRST_PITCH
from rtserver.following import heard, learned
from rtserver.following.chords import chords_of
from rtserver.following.onsetnet import N_PITCHES, OnsetNetwork
from rtserver.following.score import load_score

HOPS_A_SECOND = 100
BEFORE, AFTER = 1, 3  # moments around the one that sounds from which negatives are drawn
SETTLED = 10  # hops into a rendering
RIDGE = 1e-5


@dataclass(frozen=True)
class Examples:
    """What was heard at (moment, hop of its onset) pairs, true and false ones.

    Attributes
    ----------
    true : bool (n,)
    inputs : float64 (n, n_ages, 4)
        1, strength, cosine and their product at each age.
    network : float64 (n,)
        What the network says of all pitches of the moment at the last age, in nats, before weighting.
    """

    true: np.ndarray
    inputs: np.ndarray
    network: np.ndarray


def examples(folder: Path, rng: np.random.Generator) -> Examples:
    """Those of all renderings of a folder."""
    paths = [path for path in sorted(folder.glob("*.npz")) if path.with_suffix(".mid").exists()]
    if not paths:
        raise SystemExit(f"{folder} holds no renderings with scores: make them with python -m models.following.corpus --scores")
    network = OnsetNetwork()
    parts = [_of_piece(path, network, rng) for path in paths]
    return Examples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _of_piece(path: Path, network: OnsetNetwork, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    events = load_score(path.with_suffix(".mid")).events()
    chords = chords_of(events)
    data = np.load(path)
    semitones = data["semitones"].astype(np.float32)
    n_hops, n_ages = len(semitones), heard.N_AGES
    ear = heard.Heard(chords, learned=False)
    network.reset()
    strength, rise = np.zeros(n_hops), np.zeros((n_hops, semitones.shape[1]))
    pitches = np.zeros((n_hops, learned.N_AGES, N_PITCHES))
    for n, row in enumerate(semitones):
        ear.process(row)
        strength[n], rise[n] = ear.strength, ear.rise
        network.process(row)
        learned.of_pitches(network.nats, learned.SPREAD, learned.LEFT_OUT, learned.ADDED, pitches[n])

    begun = first_hops(data["notes"], events.quarter)
    played = np.flatnonzero((begun >= 0) & (begun < n_hops - n_ages))
    order = played[np.argsort(begun[played], kind="stable")]
    pairs = [(k, int(begun[k]), True) for k in order]
    for n in rng.integers(SETTLED, n_hops - n_ages, len(order)):
        here = int(np.searchsorted(begun[order], n, side="right")) - 1
        attacks = {int(chords.chord[k]) for k in order if abs(begun[k] - n) < n_ages}
        for j in range(max(here - BEFORE, 0), min(here + AFTER + 1, len(order))):
            if int(chords.chord[order[j]]) not in attacks:
                pairs.append((int(order[j]), int(n), False))
    true = np.array([t for _, _, t in pairs])
    inputs, said = np.zeros((len(pairs), n_ages, 4)), np.zeros(len(pairs))
    for i, (k, n, _) in enumerate(pairs):
        u = chords.chord[k]
        s, c = strength[n : n + n_ages], np.clip(rise[n : n + n_ages] @ chords.onset[u], 0.0, 1.0)
        inputs[i] = np.stack([np.ones(n_ages), s, c, s * c], -1)
        index = chords.pitch[chords.start[u] : chords.start[u + 1]] - FIRST_PITCH
        said[i] = pitches[n + n_ages - 1, n_ages - 1, index[(index >= 0) & (index < N_PITCHES)]].sum()
    return true, inputs, said


def first_hops(notes: np.ndarray, quarter: np.ndarray) -> np.ndarray:
    """The hop in which each moment's first note begins; -1 where none does."""
    known = notes[np.isfinite(notes[:, QUARTER])]
    moment = np.searchsorted(quarter, known[:, QUARTER] + 1e-3, side="right") - 1
    begun = np.full(len(quarter), np.inf)
    np.minimum.at(begun, moment, known[:, ONSET])
    return np.where(np.isfinite(begun), np.floor(np.where(np.isfinite(begun), begun, 0.0) * HOPS_A_SECOND), -1).astype(int)


def logistic(x: np.ndarray, true: np.ndarray, offset: np.ndarray | float = 0.0) -> np.ndarray:
    """Weights (n_columns,) of a logistic regression by Newton's method; both classes count the same."""
    weight = np.where(true, 0.5 / max(true.sum(), 1), 0.5 / max((~true).sum(), 1))
    w = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ w + offset, -30.0, 30.0)))
        slope = x.T @ (weight * (true - p)) - RIDGE * w
        curve = (x * (weight * p * (1.0 - p))[:, None]).T @ x + RIDGE * np.eye(len(w))
        step = np.linalg.solve(curve, slope)
        w = w + step
        if np.abs(step).max() < 1e-8:
            break
    return w


def gained(odds: np.ndarray, true: np.ndarray) -> float:
    """Nats that log odds are worth over knowing nothing, with both classes counting the same."""
    loss = np.logaddexp(0.0, np.where(true, -odds, odds))
    return float(np.log(2.0) - 0.5 * (loss[true].mean() + loss[~true].mean()))


def fit(some: Examples) -> np.ndarray:
    """The table (n_ages, 4)."""
    return np.stack([logistic(some.inputs[:, a], some.true) for a in range(some.inputs.shape[1])])


def totals(some: Examples, table: np.ndarray) -> np.ndarray:
    """(n, 2): what the table says over all ages, each limited but not tempered, and what the network says."""
    nats = np.clip(np.einsum("nac,ac->na", some.inputs, table), heard.LEAST, heard.MOST)
    return np.stack([nats.sum(1), some.network], -1)


def main(arguments: list[str] | None = None) -> np.ndarray:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("renderings", type=Path)
    p.add_argument("validation", type=Path)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args(arguments)
    rng = np.random.default_rng(args.seed)
    some, others = examples(args.renderings, rng), examples(args.validation, rng)
    table = fit(some)
    print(f"{some.true.sum()} true and {(~some.true).sum()} false pairs; on validation {others.true.sum()} and {(~others.true).sum()}")
    for a, row in enumerate(table):
        before = gained(others.inputs[:, a] @ heard.ODDS[a], others.true)
        print(
            f"    [{', '.join(f'{x:.2f}' for x in row)}],  # {gained(others.inputs[:, a] @ row, others.true):.3f} nats; as is {before:.3f}"
        )
    both, check = totals(some, table), totals(others, table)
    for name, columns in (("table alone", [0]), ("network alone", [1]), ("both", [0, 1])):
        x = np.concatenate([both[:, columns], np.ones((len(both), 1))], -1)
        w = logistic(x, some.true)
        worth = gained(check[:, columns] @ w[:-1] + w[-1], others.true)
        print(f"{name}: weights {np.round(w[:-1], 3).tolist()}, {worth:.3f} nats")
    return table


if __name__ == "__main__":
    main()
