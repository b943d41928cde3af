"""Electronic drum kits: every sound synthesised, drawn anew for each kit (`oneshots`)."""

from __future__ import annotations

import math

import numpy as np

from models.separation import oneshots as o
from models.separation.kits import Hit, Kit, set_up

BLIPS = range(128, 152)  # beyond MIDI's notes: a percussion that plays pitches, semitone by semitone
SECOND_BLIPS = range(152, 176)
ZAPS = range(176, 180)
GLITCHES = range(180, 188)  # the kit's own hits, backwards, crushed or stuttered
BOOMS = range(188, 198)  # a long bass drum, semitone by semitone, below 60 Hz
TOMS = (41, 43, 45, 47, 48, 50)
PERCUSSION = (37, 56, 60, 61, 62, 63, 64, 75, 76, 77, 80, 81)


def draw_electronic(rng: np.random.Generator) -> Kit:
    """A kit: hits for General MIDI's notes, and beyond them pitched percussions, zaps, glitches and pitched bass drums."""
    squares, booming = rng.random() < 0.5, rng.random() < 0.3
    low = o.log_uniform(rng, 3000.0, 9000.0)
    closed = o.log_uniform(rng, 0.012, 0.06)
    sounds: dict[int, list[np.ndarray]] = {
        36: [o.boom(rng, o.log_uniform(rng, 30.0, 60.0))] if booming else _takes(rng, lambda: o.kick(rng)),
        38: _takes(rng, lambda: _snare(rng)),
        39: [o.clap(rng)],
        42: _takes(rng, lambda: o.metal(rng, closed, squares, low)),
        46: [o.metal(rng, o.log_uniform(rng, 0.1, 0.4), squares, low)],
        49: [o.metal(rng, o.log_uniform(rng, 0.3, 0.8), bool(rng.random() < 0.3), o.log_uniform(rng, 1500.0, 5000.0))],
        51: [o.metal(rng, o.log_uniform(rng, 0.15, 0.5), True, o.log_uniform(rng, 2500.0, 7000.0))],
    }
    sounds[35] = sounds[36] if rng.random() < 0.5 else [o.kick(rng)]
    sounds[40] = sounds[38] if rng.random() < 0.5 else [o.snare(rng)]
    gains = {36: 1.0, 35: 1.0, 38: 0.8, 40: 0.8, 39: 0.6, 42: 0.35, 46: 0.35, 49: 0.4, 51: 0.3}
    base, fall, decay = o.log_uniform(rng, 60.0, 110.0), o.log_uniform(rng, 1.2, 3.0), o.log_uniform(rng, 0.08, 0.3)
    modulated = rng.random() < 0.4
    for i, note in enumerate(TOMS):
        hz = base * 2.0 ** (i * 3.0 / 12.0)
        sounds[note] = [o.modulated(rng, hz, decay) if modulated else o.sweep(rng, hz, fall * hz, 0.04, decay)]
        gains[note] = 0.7
    for note in PERCUSSION:
        sounds[note] = [pitched(rng, o.log_uniform(rng, 150.0, 3000.0))]
        gains[note] = float(rng.uniform(0.25, 0.6))
    for note in ZAPS:
        sounds[note], gains[note] = [o.zap(rng)], float(rng.uniform(0.25, 0.6))
    sources = sorted(sounds)
    for note in GLITCHES:
        source = sources[rng.integers(len(sources))]
        sounds[note], gains[note] = [_glitched(rng, sounds[source][0])], gains[source]
    hits = {note: [Hit(x[None], (1, 127), gains[note]) for x in takes] for note, takes in sounds.items()}
    for keys in (BLIPS, SECOND_BLIPS):
        sound = pitched(rng, o.log_uniform(rng, 110.0, 1000.0))[None]
        gain = float(rng.uniform(0.25, 0.7))
        for i, note in enumerate(keys):
            hits[note] = [Hit(sound, (1, 127), gain, 2.0 ** (i / 12.0))]
    long = o.boom(rng, o.log_uniform(rng, 28.0, 35.0))[None]
    for i, note in enumerate(BOOMS):
        hits[note] = [Hit(long, (1, 127), 1.0, 2.0 ** (i / 12.0))]
    kit = set_up(Kit("electronic", hits), rng)
    for keys in (BLIPS, SECOND_BLIPS):
        pan = float(rng.uniform(-0.6, 0.6))
        for note in keys:
            kit.trim_db[note], kit.pan[note] = 0.0, pan
    for note in BOOMS:
        kit.trim_db[note], kit.pan[note] = 0.0, 0.0
    kit.alone = frozenset(BOOMS) | (frozenset({36}) if booming else frozenset())
    return kit


def _snare(rng: np.random.Generator) -> np.ndarray:
    kind = rng.random()
    return o.snare(rng) if kind < 0.7 else o.clap(rng) if kind < 0.85 else pitched(rng, o.log_uniform(rng, 200.0, 1500.0))


def _glitched(rng: np.random.Generator, hit: np.ndarray) -> np.ndarray:
    kind = rng.random()
    return o.backwards(hit) if kind < 0.35 else o.crushed(rng, hit) if kind < 0.65 else o.stuttered(rng, hit)


def pitched(rng: np.random.Generator, hz: float) -> np.ndarray:
    """A percussion with a pitch."""
    decay = o.log_uniform(rng, 0.015, 0.25)
    kind = rng.random()
    if kind < 0.45:
        return o.modulated(rng, hz, decay)
    if kind < 0.85:
        return o.struck(rng, hz, decay)
    return o.sweep(rng, hz, hz * math.exp(rng.uniform(-1.0, 2.0)), o.log_uniform(rng, 0.01, 0.06), decay)


def _takes(rng: np.random.Generator, make) -> list[np.ndarray]:  # type: ignore[no-untyped-def]
    """Mostly one sound, as machines have it."""
    first = make()
    return [first, make()] if rng.random() < 0.15 else [first]
