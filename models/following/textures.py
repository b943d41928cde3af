"""Piano writing that the scores of the corpus lack: arpeggios under a pedal, octaves, tremolos, trills, repeated chords, runs.

Two hands each play a figure over the same random harmonies for some seconds and then another. Nothing is quoted from any piece.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CHORDS = ((0, 4, 7), (0, 3, 7), (0, 4, 7, 10), (0, 3, 6, 9), (0, 3, 7, 10), (0, 4, 7, 11), (0, 5, 7), (0, 4, 8))
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 11), tuple(range(12)), (0, 2, 4, 7, 9))
HARMONY_S = (0.4, 3.0)
FIGURE_S = (1.5, 8.0)
STEP_S = (0.04, 0.3)  # 25 to 3 notes a second
LOWEST, HIGHEST = 21, 108
Note = tuple[float, float, int]  # when and how long, in seconds, and pitch
Figure = Callable[[np.random.Generator, list[int], float, float, int], list[Note]]


def _tones(chord: list[int], low: int, high: int) -> list[int]:
    return [p for p in range(low, high + 1) if p % 12 in chord]


def arpeggio(rng: np.random.Generator, chord: list[int], length: float, step: float, centre: int) -> list[Note]:
    tones = _tones(chord, centre - 14, centre + 14)
    shape = list(range(len(tones))) if rng.random() < 0.5 else list(rng.permutation(len(tones)))
    shape = shape + shape[::-1] if rng.random() < 0.6 else shape
    return [(i * step, step * rng.uniform(0.8, 3.0), tones[shape[i % len(shape)]]) for i in range(int(length / step))]


def octaves(rng: np.random.Generator, chord: list[int], length: float, step: float, centre: int) -> list[Note]:
    notes: list[Note] = []
    pitch = centre
    step = max(step, 0.1)
    for i in range(int(length / step)):
        pitch = int(np.clip(pitch + rng.choice([-4, -3, -2, -1, 1, 2, 3, 4, 5]), centre - 12, centre + 12))
        notes += [(i * step, step * 0.9, pitch), (i * step, step * 0.9, pitch + 12)]
    return notes


def tremolo(rng: np.random.Generator, chord: list[int], length: float, step: float, centre: int) -> list[Note]:
    tones = _tones(chord, centre - 8, centre + 8)
    low, high = tones[: len(tones) // 2] or tones, tones[len(tones) // 2 :]
    step = min(step, 0.09)
    return [(i * step, step * 1.2, p) for i in range(int(length / step)) for p in (low[-2:] if i % 2 else high[:2])]


def trill(rng: np.random.Generator, chord: list[int], length: float, step: float, centre: int) -> list[Note]:
    step, up = min(step, 0.08), int(rng.integers(1, 3))
    return [(i * step, step, centre + (up if i % 2 else 0)) for i in range(int(min(length, 2.5) / step))]


def chords(rng: np.random.Generator, chord: list[int], length: float, step: float, centre: int) -> list[Note]:
    tones = _tones(chord, centre - 9, centre + 9)
    step = max(step, 0.12) * float(rng.choice([1.0, 2.0, 4.0]))
    notes: list[Note] = []
    for i in range(max(int(length / step), 1)):
        first = int(rng.integers(0, max(len(tones) - 3, 1)))
        notes += [(i * step, step * rng.uniform(0.3, 1.0), p) for p in tones[first : first + int(rng.integers(2, 6))]]
    return notes


def run(rng: np.random.Generator, chord: list[int], length: float, step: float, centre: int) -> list[Note]:
    scale = SCALES[rng.integers(len(SCALES))]
    ladder = [p for p in range(centre - 20, centre + 21) if (p - chord[0]) % 12 in scale]
    notes: list[Note] = []
    at, way = int(rng.integers(len(ladder))), int(rng.choice([-1, 1]))
    interval = int(rng.choice([0, 0, 2, 7 if len(scale) == 12 else 5]))  # alone, in thirds, in sixths
    for i in range(int(length / step)):
        notes.append((i * step, step * 1.1, ladder[at]))
        if interval and at + interval < len(ladder):
            notes.append((i * step, step * 1.1, ladder[at + interval]))
        if not 0 <= at + way < len(ladder) or rng.random() < 0.06:
            way = -way
        at = int(np.clip(at + way, 0, len(ladder) - 1))
    return notes


def melody(rng: np.random.Generator, chord: list[int], length: float, step: float, centre: int) -> list[Note]:
    notes: list[Note] = []
    now = 0.0
    while now < length:
        each = float(rng.choice([0.15, 0.3, 0.45, 0.6, 1.2]))
        notes.append((now, each, int(rng.choice(_tones(chord, centre - 9, centre + 9)))))
        now += each
    return notes


FIGURES: tuple[Figure, ...] = (arpeggio, arpeggio, octaves, tremolo, trill, chords, chords, run, run, melody)


def hand(rng: np.random.Generator, harmonies: list[tuple[float, list[int]]], centre: int, seconds: float) -> list[Note]:
    """One hand over the harmonies, each (when it begins, pitch classes)."""
    notes: list[Note] = []
    until, step, figure = 0.0, 0.1, FIGURES[0]
    for (begin, chord), (end, _) in zip(harmonies, [*harmonies[1:], (seconds, [])], strict=True):
        if begin >= until:
            figure = FIGURES[rng.integers(len(FIGURES))]
            step = float(np.exp(rng.uniform(*np.log(STEP_S))))
            until = begin + rng.uniform(*FIGURE_S)
        if rng.random() < 0.08:
            continue  # a rest
        notes += [(begin + t, length, p) for t, length, p in figure(rng, chord, end - begin, step, centre)]
    return notes


def texture(rng: np.random.Generator, seconds: float) -> list[Note]:
    """Both hands for so long, in order of time."""
    harmonies: list[tuple[float, list[int]]] = []
    now, root = 0.0, int(rng.integers(12))
    while now < seconds:
        root = (root + int(rng.choice([0, 5, 7, 2, 9, 1, 3]))) % 12
        harmonies.append((now, [(root + i) % 12 for i in CHORDS[rng.integers(len(CHORDS))]]))
        now += rng.uniform(*HARMONY_S)
    left = hand(rng, harmonies, int(rng.integers(36, 58)), seconds)
    right = hand(rng, harmonies, int(rng.integers(60, 90)), seconds)
    return sorted(note for note in left + right if LOWEST <= note[2] <= HIGHEST)
