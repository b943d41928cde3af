"""Drum kits: which sounds answer which notes, drawn for each song from real hits, and how they are played."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.separation.sampler import ENDLESS, decibels, panned, play
from models.separation.songs import END, KEY, ONSET, VELOCITY, VOLUME
from models.separation.stems import SAMPLE_RATE, Sample, Stems

CLOSED, OPEN, RIDE, GHOST = (42, 44), 46, 51, 38
LIFT_DB = {42: 6.0, 44: 6.0, 46: 6.0, 51: 6.0, 53: 5.0, 59: 6.0}  # mixes lift hats and rides over their natural level
MIDDLE = (35, 36, 38, 40)
CHOKE_S = 0.03
NONE = np.zeros(0)
LATEST_S = 0.015  # what a player is early or late, at most
GHOST_GAP_S = (0.12, 0.5)  # between two hats, where a ghost note has room
NEIGHBOURS = {  # what plays a note that has no sound
    54: 42, 58: 56, 65: 50, 66: 48, 67: 56, 68: 56, 69: 42, 70: 42, 71: 81, 72: 81, 73: 77, 74: 77, 78: 60, 79: 61, 82: 42,
    83: 81, 27: 75, 28: 39, 29: 42, 30: 42, 31: 37, 32: 75, 33: 75, 34: 81, 37: 38, 39: 38, 60: 50, 61: 45, 62: 50, 63: 48,
    64: 43, 75: 37, 76: 37, 77: 37, 80: 53, 81: 53, 56: 53, 52: 49, 55: 49, 53: 51, 51: 49, 59: 51, 57: 49, 49: 46, 46: 42,
    42: 46, 44: 42, 40: 38, 38: 40, 35: 36, 36: 35, 41: 43, 43: 41, 45: 47, 47: 45, 48: 47, 50: 48,
}  # fmt: skip
STYLES = ("room", "close", "sonicpi", "body", "mixed")
WEIGHTS = (0.34, 0.26, 0.18, 0.05, 0.17)


@dataclass
class Hit:
    """One sound that may answer a note."""

    sound: np.ndarray  # (1 or 2, n) float32
    velocity: tuple[int, int]
    gain: float
    ratio: float = 1.0  # of speed


@dataclass
class Kit:
    """Sounds by note. `tune` is the ratio of speed, `trim_db` and `pan` are by note."""

    name: str
    hits: dict[int, list[Hit]]
    tune: float = 1.0
    trim_db: dict[int, float] = field(default_factory=dict)
    pan: dict[int, float] = field(default_factory=dict)
    alone: frozenset[int] = frozenset()  # notes of which each cuts the one before

    def answer(self, note: int) -> int | None:
        """The note that is played for `note`: itself, or a neighbour that has a sound."""
        for _ in range(4):
            if note in self.hits:
                return note
            note = NEIGHBOURS.get(note, -1)
        return None


def draw_kit(stems: Stems, rng: np.random.Generator) -> Kit:
    """A kit of one style; what the style lacks comes from the others. One instrument answers a note throughout."""
    style = STYLES[rng.choice(len(STYLES), p=WEIGHTS)]
    pool = stems.where(lambda s: s.stem == "drums" and s.collection != "loops")
    hits: dict[int, list[Hit]] = {}
    for note in sorted({k for s in pool for k in s.keys}):
        answering = [s for s in pool if note in s.keys]
        styled = [s for s in answering if _fits(s, style)] or answering
        best = min(s.keys.index(note) for s in styled)
        first = [s for s in styled if s.keys.index(note) == best or (style == "mixed" and rng.random() < 0.5)]
        names = sorted({(s.instrument, s.articulation if s.collection == "sonicpi" else "") for s in first})
        instrument, articulation = names[rng.integers(len(names))]
        chosen = [s for s in first if s.instrument == instrument and articulation in ("", s.articulation)]
        if style in ("room", "close"):
            chosen = [s for s in chosen if s.mix in ("", style)] or chosen
        else:  # both mixes of a hit are one performance
            mix = str(rng.choice(sorted({s.mix for s in chosen})))
            chosen = [s for s in chosen if s.mix == mix]
        hits[note] = [Hit(stems.audio(s), s.velocity, decibels(s.level_db)) for s in chosen]
    kit = Kit(style, hits)
    return set_up(kit, rng)


def set_up(kit: Kit, rng: np.random.Generator) -> Kit:
    """Tune, balance and place it at random."""
    kit.tune = float(2.0 ** (np.clip(rng.normal(0.0, 1.2), -3.0, 3.0) / 12.0))
    lift = rng.uniform(0.5, 1.3)
    for note in kit.hits:
        kit.trim_db[note] = float(rng.normal(0.0, 2.0) + lift * LIFT_DB.get(note, 0.0))
        kit.pan[note] = 0.0 if note in MIDDLE else float(rng.uniform(-0.5, 0.5))
    return kit


def _fits(sample: Sample, style: str) -> bool:
    if style in ("room", "close"):
        return sample.collection == "muldjord"
    return style in ("mixed", sample.collection)


def play_drums(kit: Kit, notes: np.ndarray, n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """The notes (rows of `songs`) on the kit: (2, n_frames) float32. A closed hat cuts an open one; see also `Kit.alone`."""
    out = np.zeros((2, n_frames), np.float32)
    fade = int(CHOKE_S * SAMPLE_RATE)
    closed, alone = (notes[np.isin(notes[:, KEY], sorted(keys)), ONSET] for keys in (CLOSED, kit.alone))
    for row in notes:
        note = kit.answer(int(row[KEY]))
        if note is None:
            continue
        velocity = int(row[VELOCITY])
        layer = [h for h in kit.hits[note] if h.velocity[0] <= velocity <= h.velocity[1]] or kit.hits[note]
        hit = layer[rng.integers(len(layer))]
        gain = hit.gain * (0.55 + 0.45 * velocity / 127.0) * decibels(kit.trim_db.get(note, 0.0)) * _volume(row)
        cutting = closed if int(row[KEY]) == OPEN else alone if int(row[KEY]) in kit.alone else NONE
        later = cutting[np.searchsorted(cutting, row[ONSET], side="right") :]
        end = int(later[0] * SAMPLE_RATE) if len(later) else ENDLESS
        play(out, hit.sound, int(row[ONSET] * SAMPLE_RATE), kit.tune * hit.ratio, *panned(gain, kit.pan.get(note, 0.0)), end, fade)
    return out


def humanised(notes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Drum notes (rows of `songs`) as a player has them: each drum a little early or late, loud and soft, hats with accents, some on the
    ride instead, ghost notes of the snare between hats."""
    if not len(notes):
        return notes
    played = notes.copy()
    keys = played[:, KEY].astype(int)
    lag = {key: rng.normal(0.0, 0.003) for key in sorted(set(keys.tolist()))}
    late = np.array([lag[key] for key in keys.tolist()]) + rng.normal(0.0, rng.uniform(0.0, 0.005), len(notes))
    played[:, [ONSET, END]] += np.clip(late, -LATEST_S, LATEST_S)[:, None]
    hats = np.flatnonzero(np.isin(keys, CLOSED))
    velocity = played[:, VELOCITY] * rng.uniform(0.75, 1.0) + rng.normal(0.0, rng.uniform(0.0, 9.0), len(notes))
    velocity[hats[1::2]] -= rng.uniform(0.0, 30.0)
    played[:, VELOCITY] = np.clip(np.round(velocity), 8, 127)
    ghosts = played[hats[:-1]].copy()
    gap = np.diff(notes[hats, ONSET])
    share = rng.uniform(0.08, 0.35) if rng.random() < 0.4 else 0.0
    chosen = (gap > GHOST_GAP_S[0]) & (gap < GHOST_GAP_S[1]) & (rng.random(len(gap)) < share)
    ghosts[:, KEY], ghosts[:, VELOCITY] = GHOST, rng.integers(12, 45, len(ghosts))
    ghosts[:, [ONSET, END]] += 0.5 * gap[:, None]
    if rng.random() < 0.15:
        played[hats, KEY] = RIDE
    played = np.concatenate([played, ghosts[chosen]])
    return played[np.argsort(played[:, ONSET], kind="stable")]


def _volume(row: np.ndarray) -> float:
    return float(min(max(row[VOLUME], 0.3), 1.0))
