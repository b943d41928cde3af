"""Music as machines play it, invented: drums (`beats`), a bass line, arpeggios, chords and drones at one tempo."""

from __future__ import annotations

import numpy as np

from models.separation.beats import STEPS, Row, beats, euclid
from models.separation.songs import DRUMS_S, Song

SCALES = ((0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 5, 7, 9, 11), (0, 3, 5, 7, 10), (0, 2, 4, 7, 9), (0, 2, 3, 6, 7, 8, 11))
PAD, ARPEGGIO, LEAD, DRONE = range(4)  # channels of the other stem


def pattern(rng: np.random.Generator, seconds: float, step_s: float | None = None) -> Song:
    """A song of `seconds`, a sixteenth lasting `step_s`; without it 70 to 175 quarters a minute."""
    step_s = step_s or 15.0 / rng.uniform(70.0, 175.0)
    n_bars = int(seconds / (STEPS * step_s)) + 1
    swing = float(rng.uniform(0.0, 0.3)) if rng.random() < 0.35 else 0.0
    scale, root = SCALES[rng.integers(len(SCALES))], int(rng.integers(28, 40))
    drums, bass, other = beats(rng, n_bars), *_pitched(rng, n_bars, scale, root)
    made: dict[str, np.ndarray] = {}
    for stem, rows in (("drums", drums), ("bass", bass), ("other", other)):
        notes = np.array(sorted(rows), np.float64).reshape(-1, 7)
        late = (notes[:, 0] % 2.0 >= 1.0) & (notes[:, 0] % 1.0 == 0.0)
        notes[:, 0] = (notes[:, 0] + swing * late) * step_s
        notes[:, 1] = notes[:, 0] + DRUMS_S if stem == "drums" else notes[:, 1] * step_s
        notes[:, 1] = np.maximum(notes[:, 1], notes[:, 0] + 0.04)
        made[stem] = notes[notes[:, 0] < seconds]
    return Song(**made, seconds=seconds)


def _pitched(rng: np.random.Generator, n_bars: int, scale: tuple[int, ...], root: int) -> tuple[list[Row], list[Row]]:
    def key(degree: int, octave: int) -> int:
        return root + 12 * (octave + degree // len(scale)) + scale[degree % len(scale)]

    degrees = rng.integers(0, len(scale), int(rng.choice([1, 2, 4, 4])))
    on = euclid(int(rng.integers(2, 9)), STEPS) if rng.random() < 0.6 else rng.random(STEPS) < rng.uniform(0.2, 0.8)
    on[0] |= not on.any()
    steps = rng.choice([0, 0, 0, 4, 7], STEPS)  # of the bass line, above the chord's root
    legato = float(rng.uniform(0.3, 1.0))
    voices = rng.random(4) < (0.7, 0.6, 0.35, 0.3)
    voices[rng.integers(4)] = True
    order, every = rng.permutation(int(rng.integers(3, 7))), int(rng.choice([1, 2, 2, 3, 4]))
    bass: list[Row] = []
    other: list[Row] = []
    line = rng.integers(0, 8, STEPS)
    line_on = rng.random(STEPS) < 0.35
    for bar in range(n_bars):
        degree, now = int(degrees[bar % len(degrees)]), bar * STEPS
        at = np.flatnonzero(on).tolist()
        for s, after in zip(at, [*at[1:], STEPS], strict=True):
            bass.append((now + s, now + s + legato * (after - s), key(degree, 0) + int(steps[s]), int(rng.integers(70, 110)), 38, 4, 0.8))
        if voices[PAD]:
            for third in range(0, 2 * int(rng.integers(2, 5)), 2):
                other.append((now, now + STEPS, key(degree + third, 2), int(rng.integers(50, 90)), 88, PAD, 0.7))
        if voices[ARPEGGIO]:
            for n, s in enumerate(range(0, STEPS, every)):
                k = key(degree + 2 * int(order[n % len(order)]), 2)
                other.append((now + s, now + s + 0.9 * every, k, int(rng.integers(60, 110)), 81, ARPEGGIO, 0.7))
        if voices[LEAD] and bar % 4 != 3:
            for s in np.flatnonzero(line_on).tolist():
                other.append(
                    (now + s, now + s + float(rng.uniform(0.8, 4.0)), key(int(line[s]), 3), int(rng.integers(60, 110)), 80, LEAD, 0.8)
                )
        if voices[DRONE] and bar % 4 == 0:
            for k in (key(0, 1), key(0, 1) + 7)[: int(rng.integers(1, 3))]:
                other.append((now, now + 4 * STEPS, k, 80, 95, DRONE, 0.6))
    return bass, other
