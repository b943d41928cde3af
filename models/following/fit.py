"""Fit the odds of `rtserver.following.odds`: ``python -m models.following.fit RENDERINGS VALIDATION``.

Both are folders of renderings with scores (`models.following.corpus --scores`; the pieces of VALIDATION with ``--validation``). True
examples: every moment that was played, at the hop of its onset. False ones: at the hop of another moment's onset, the moments from one
before it to three after; and at random hops, the one that sounds and two after; unless they begin within ten hops of there. Both classes
count the same, so that the odds are those of what is heard, without what is expected.

First the table of templates, a logistic regression for each age on (1, strength, cosine, their product); then, on what templates and
network say up to each age, how much each word weighs. Prints the tables to copy, and what they are worth on VALIDATION: nats gained
over knowing nothing (ln 2).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.following.corpus import ONSET, QUARTER
from rtserver.dsp.features import FIRST_PITCH
from rtserver.following import odds
from rtserver.following.chords import Chords, chords_of
from rtserver.following.heard import Heard
from rtserver.following.onsetnet import N_PITCHES
from rtserver.following.score import load_score

HOPS_A_SECOND = 100
BEFORE, AFTER = 1, 3  # moments around one that begins
GOING_ON = 2  # moments after one that sounds
SETTLED = 10  # hops into a rendering
RIDGE = 1e-5
FOR_TEMPLATES = (odds.TEMPLATES, odds.ONE)  # what there is without a network


@dataclass(frozen=True)
class Examples:
    """What was heard at (moment, hop of its onset) pairs, true and false ones.

    Attributes
    ----------
    true : bool (n,)
    rise : float64 (n, n_ages, 4)
        1, strength, cosine and their product at each age.
    words : float64 (n, n_ages, 8)
        As the columns of `odds.WEIGHTS` are; that of the templates is empty.
    """

    true: np.ndarray
    rise: np.ndarray
    words: np.ndarray


class Sound:
    """All hops of a rendering, as heard against the chords of its score."""

    def __init__(self, semitones: np.ndarray, chords: Chords) -> None:
        self._chords = chords
        ear = Heard(chords)
        self.n_hops = len(semitones)
        self._strength, self._rise = np.zeros(self.n_hops), np.zeros((self.n_hops, semitones.shape[1]))
        self._nats = np.zeros((self.n_hops, odds.N_AGES, N_PITCHES))
        for n, row in enumerate(semitones):
            ear.process(row)
            self._strength[n], self._rise[n], self._nats[n] = ear.strength, ear.rise, ear.nats

    def of(self, moment: int, hop: int) -> tuple[np.ndarray, np.ndarray]:
        """`Examples.rise` and `Examples.words` of a moment that may have begun in a hop."""
        u = self._chords.chord[moment]
        ages = np.arange(odds.N_AGES)
        s = self._strength[hop + ages]
        c = np.clip(self._rise[hop + ages] @ self._chords.onset[u], 0.0, 1.0)
        index = self._chords.pitch[self._chords.start[u] : self._chords.start[u + 1]] - FIRST_PITCH
        index = index[(index >= 0) & (index < N_PITCHES)]
        said = self._nats[hop + ages, ages][:, index] if len(index) else np.zeros((odds.N_AGES, 1))
        size = np.full(odds.N_AGES, np.log(max(len(index), 1)))
        one = np.ones(odds.N_AGES)
        rise = np.stack([one, s, c, s * c], -1)
        return rise, np.stack([0.0 * one, said.sum(1), said.mean(1), said.min(1), said.max(1), s, size, one], -1)


def examples(folder: Path, rng: np.random.Generator) -> Examples:
    """Those of all renderings of a folder."""
    paths = [path for path in sorted(folder.glob("*.npz")) if path.with_suffix(".mid").exists()]
    if not paths:
        raise SystemExit(f"{folder} holds no renderings with scores: make them with python -m models.following.corpus --scores")
    parts = [_of_piece(path, rng) for path in paths]
    return Examples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _of_piece(path: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    events = load_score(path.with_suffix(".mid")).events()
    chords = chords_of(events)
    data = np.load(path)
    sound = Sound(data["semitones"].astype(np.float32), chords)
    begun = first_hops(data["notes"], events.quarter)
    played = np.flatnonzero((begun >= 0) & (begun < sound.n_hops - odds.N_AGES))
    order = played[np.argsort(begun[played], kind="stable")]
    pitches = [set(chords.pitch[chords.start[u] : chords.start[u + 1]].tolist()) for u in chords.chord]
    pairs: list[tuple[int, int, bool]] = []
    for i, k in enumerate(order):
        pairs.append((int(k), int(begun[k]), True))
        around = order[max(i - BEFORE, 0) : i + AFTER + 1]
        pairs += [(int(q), int(begun[k]), False) for q in around if not pitches[q] & pitches[k]]
        n = int(rng.integers(SETTLED, sound.n_hops - odds.N_AGES))
        here = max(int(np.searchsorted(begun[order], n, side="right")) - 1, 0)
        pairs += [(int(q), n, False) for q in order[here : here + GOING_ON + 1]]
    pairs = [(k, n, true) for k, n, true in pairs if true or abs(begun[k] - n) >= odds.N_AGES]
    heard = [sound.of(k, n) for k, n, _ in pairs]
    return np.array([true for _, _, true in pairs]), np.array([rise for rise, _ in heard]), np.array([words for _, words in heard])


def first_hops(notes: np.ndarray, quarter: np.ndarray) -> np.ndarray:
    """The hop in which each moment's first note begins; -1 where none does."""
    known = notes[np.isfinite(notes[:, QUARTER])]
    moment = np.searchsorted(quarter, known[:, QUARTER] + 1e-3, side="right") - 1
    begun = np.full(len(quarter), np.inf)
    np.minimum.at(begun, moment, known[:, ONSET])
    return np.where(np.isfinite(begun), np.floor(np.where(np.isfinite(begun), begun, 0.0) * HOPS_A_SECOND), -1).astype(int)


def logistic(x: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Weights (n_columns,) of a logistic regression by Newton's method; both classes count the same."""
    weight = np.where(true, 0.5 / max(true.sum(), 1), 0.5 / max((~true).sum(), 1))
    w = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ w, -30.0, 30.0)))
        slope = x.T @ (weight * (true - p)) - RIDGE * w
        curve = (x * (weight * p * (1.0 - p))[:, None]).T @ x + RIDGE * np.eye(len(w))
        step = np.linalg.solve(curve, slope)
        w = w + step
        if np.abs(step).max() < 1e-8:
            break
    return w


def gained(said: np.ndarray, true: np.ndarray) -> float:
    """Nats that log odds are worth over knowing nothing, with both classes counting the same."""
    loss = np.logaddexp(0.0, np.where(true, -said, said))
    return float(np.log(2.0) - 0.5 * (loss[true].mean() + loss[~true].mean()))


def fit_template(some: Examples) -> np.ndarray:
    """The table of templates (7, 4)."""
    return np.stack([logistic(some.rise[:, a], some.true) for a in range(odds.N_TEMPLATE_AGES)])


def words(some: Examples, template: np.ndarray) -> np.ndarray:
    """`Examples.words` with what `template` has said up to each age."""
    said = np.zeros(some.words.shape[:2])
    said[:, : len(template)] = np.clip(np.einsum("nac,ac->na", some.rise[:, : len(template)], template), odds.LEAST, odds.MOST)
    full = some.words.copy()
    full[:, :, odds.TEMPLATES] = np.cumsum(said, axis=1)
    return full


def fit_weights(x: np.ndarray, true: np.ndarray, columns: tuple[int, ...]) -> np.ndarray:
    """Weights (n_ages, 8) of `words`; columns that may not speak are 0."""
    weights = np.zeros((odds.N_AGES, x.shape[2]))
    for a in range(odds.N_AGES):
        weights[a, columns] = logistic(x[:, a][:, columns], true)
    return weights


def show(name: str, table: np.ndarray, worth: list[float]) -> None:
    print(f"{name} = np.array(\n    [")
    for row, nats in zip(table, worth, strict=True):
        print(f"        [{', '.join(f'{x:.2f}' if x else '0' for x in row)}],  # {nats:.3f}")
    print("    ]\n)")


def main(arguments: list[str] | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("renderings", type=Path)
    p.add_argument("validation", type=Path)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args(arguments)
    rng = np.random.default_rng(args.seed)
    some, others = examples(args.renderings, rng), examples(args.validation, rng)
    print(f"{some.true.sum()} true and {(~some.true).sum()} false pairs; on validation {others.true.sum()} and {(~others.true).sum()}")
    template = fit_template(some)
    show("TEMPLATE", template, [gained(others.rise[:, a] @ row, others.true) for a, row in enumerate(template)])
    x, y = words(some, template), words(others, template)
    both = fit_weights(x, some.true, tuple(range(x.shape[2])))
    alone = fit_weights(x, some.true, FOR_TEMPLATES)
    for name, weights in (("WEIGHTS", both), ("WEIGHTS_TEMPLATES", alone)):
        show(name, weights, [gained(y[:, a] @ weights[a], others.true) for a in range(odds.N_AGES)])
    return template, both, alone


if __name__ == "__main__":
    main()
