"""Drum patterns as machines play them, invented: a kit's lines, pitched percussion, stutters, bars of blips alone."""

from __future__ import annotations

import numpy as np

from models.separation.electronic import BLIPS, BOOMS, GLITCHES, PERCUSSION, SECOND_BLIPS, TOMS, ZAPS
from models.separation.songs import DRUM_CHANNEL

STEPS = 16  # a bar
Row = tuple[float, float, int, int, int, int, float]
KICKS = (35, 36, *BOOMS)
DRUMS = frozenset((*KICKS, 38, 39, 40, 42, 46, 49, 51))  # what sounds as a drum kit does
PLAYED = tuple(sorted((*TOMS, *PERCUSSION)))
TONAL = 0.22  # share of the patterns without any of DRUMS
BARE = 0.3  # share of the patterns with bars in which DRUMS rest, if anything else is there
STUTTERING, BOOMING = 0.45, 0.3


def euclid(k: int, n: int) -> np.ndarray:
    """k onsets spread evenly over n steps."""
    return np.arange(n) * k % n < k


def beats(rng: np.random.Generator, n_bars: int) -> list[Row]:
    """Rows of a song, their times in steps of a sixteenth."""
    tonal = rng.random() < TONAL
    lines = ({} if tonal else _kit(rng)) | _percussion(rng, tonal)
    melodies = [(keys, *_melody(rng, len(keys))) for keys in (BLIPS, SECOND_BLIPS) if rng.random() < (0.85 if tonal else 0.6)]
    if tonal and not melodies:
        melodies = [(BLIPS, *_melody(rng, len(BLIPS)))]
    resting = rng.uniform(0.1, 0.5) if melodies and rng.random() < BARE else 0.0
    stutter = rng.uniform(0.01, 0.08) if rng.random() < STUTTERING else 0.0
    steps = np.arange(STEPS)
    accent = rng.uniform(0.0, 40.0) * (steps % 4 == 0)
    rows: list[Row] = []

    def hit(bar: int, step: int, note: int) -> None:
        velocity = int(np.clip(rng.normal(85.0, 10.0) + accent[step], 20, 127))
        n, parts, slope = (
            (int(rng.integers(3, 9)), int(rng.choice([2, 3, 4])), rng.uniform(0.7, 1.1)) if rng.random() < stutter else (1, 1, 1)
        )
        for i in range(n):  # of a stutter: a 32nd, a 48th or a 64th apart
            loud = int(np.clip(velocity * slope**i, 15, 127))
            rows.append((bar * STEPS + step + i / parts, 0.0, note, loud, 0, DRUM_CHANNEL, 0.8))

    for bar in range(n_bars):
        rests = rng.random() < resting
        silent = {note for note in lines if rng.random() < 0.08 or (rests and note in DRUMS)}
        fill = bar % 4 == 3 and rng.random() < 0.5
        for note in sorted(lines.keys() - silent):
            filled = (rng.random(STEPS) < 0.3) & (steps >= 12) & fill & (note not in KICKS)
            for s in np.flatnonzero(lines[note] | filled).tolist():
                hit(bar, s, note)
        for keys, on, pitch in melodies:
            length = len(on)  # other than a bar: it wanders against it
            for s in range(STEPS):
                i = (bar * STEPS + s) % length
                if on[i]:
                    hit(bar, s, keys[int(pitch[i])])
    return rows


def _kit(rng: np.random.Generator) -> dict[int, np.ndarray]:
    lines: dict[int, np.ndarray] = {}
    steps = np.arange(STEPS)
    kick = int(rng.choice(BOOMS)) if rng.random() < BOOMING else 36
    style = rng.random()
    if style < 0.4:
        lines[kick] = steps % 4 == 0
    elif style < 0.8:
        lines[kick] = (steps == 0) | (rng.random(STEPS) < 0.2)
    else:
        lines[kick] = euclid(int(rng.integers(2, 6)), STEPS)
    if kick in BOOMS:
        if rng.random() < 0.5:  # a short one gives it a beginning
            lines[36] = lines[kick]
        moved = lines[kick] & (rng.random(STEPS) < 0.3)  # some at another pitch
        lines[kick], lines[int(rng.choice([b for b in BOOMS if b != kick]))] = lines[kick] & ~moved, moved
    back = np.isin(steps, (4, 12) if rng.random() < 0.75 else (8,))
    lines[int(rng.choice([38, 39, 40]))] = back | (rng.random(STEPS) < 0.06)
    hat = rng.random()
    lines[42] = steps % 2 == 0 if hat < 0.4 else steps % 4 == 2 if hat < 0.6 else rng.random(STEPS) < 0.8
    lines[46] = (steps % 4 == 2) & (rng.random(STEPS) < 0.3)
    kept = {note for note in lines if note in (*KICKS, 42) or rng.random() < 0.85}
    if rng.random() < 0.12:  # few at all
        kept = set(rng.choice(sorted(kept), min(2, len(kept)), replace=False).tolist())
    return {note: lines[note] for note in sorted(kept)}


def _percussion(rng: np.random.Generator, tonal: bool) -> dict[int, np.ndarray]:
    n = int(rng.integers(2, 7) if tonal else rng.integers(0, 5))
    lines = {
        int(note): np.roll(euclid(int(rng.integers(1, 8)), STEPS), int(rng.integers(STEPS)))
        for note in rng.choice(PLAYED, n, replace=False)
    }
    for keys, share in ((ZAPS, 0.3), (GLITCHES, 0.5)):
        if rng.random() < share:
            for note in rng.choice(keys, int(rng.integers(1, 4)), replace=False):
                lines[int(note)] = rng.random(STEPS) < rng.uniform(0.05, 0.25)
    return lines


def _melody(rng: np.random.Generator, n_pitches: int) -> tuple[np.ndarray, np.ndarray]:
    length = int(rng.choice([STEPS, STEPS, 12, 10, 6, 32]))
    pitches = np.cumsum(rng.integers(-5, 6, length)) % n_pitches if rng.random() < 0.7 else np.full(length, rng.integers(n_pitches))
    return rng.random(length) < rng.uniform(0.15, 0.7), pitches
