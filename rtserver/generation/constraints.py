"""What the performer may never do, whatever the network wants: hard limits as masks over its choices."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rtserver.errors import ConfigError
from rtserver.generation import vocabulary as v
from rtserver.generation.chords import parse_chord, tonic

Mask = npt.NDArray[np.bool_]

MODES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "melodic minor": (0, 2, 3, 5, 7, 9, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "locrian": (0, 1, 3, 5, 6, 8, 10),
    "major pentatonic": (0, 2, 4, 7, 9),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "blues": (0, 3, 5, 6, 7, 10),
    "whole tone": (0, 2, 4, 6, 8, 10),
}
GRIDS = tuple(g for g in range(1, v.N_PHASE + 1) if v.N_PHASE % g == 0)


def parse_scale(scale: str | Iterable[int] | None) -> frozenset[int]:
    """Pitch classes of "C major", "a minor", "F# dorian", "Bb blues", "chromatic", of a list such as [0, 2, 7], or all for None.

    The tonic is a letter of either case, with # or b; the mode is one of MODES. Raises `ConfigError` with the nearest name.
    """
    if scale is None:
        return frozenset(range(12))
    if not isinstance(scale, str):
        classes = list(scale)
        wrong = [c for c in classes if c not in range(12)]
        if wrong or not classes:
            raise ConfigError("scale", f"a list of pitch classes holds 0 (C) to 11 (B), at least one: got {classes!r}")
        return frozenset(classes)
    words = scale.lower().replace("♯", "#").replace("♭", "b").split()
    if words == ["chromatic"]:
        return frozenset(range(12))
    name, mode = (words[0], " ".join(words[1:])) if words else ("", "")
    root = tonic(name)
    if root is None:
        raise ConfigError("scale", f'{scale!r} does not begin with a tonic (C, F#, Bb …): expected for example "C major" or "chromatic"')
    if mode not in MODES:
        near = difflib.get_close_matches(mode, MODES, 1, cutoff=0.3)
        hint = f" — did you mean {name.title()} {near[0]}?" if near else ""
        raise ConfigError("scale", f"{scale!r} names no scale: after the tonic comes one of {', '.join(MODES)}{hint}")
    return frozenset((root + step) % 12 for step in MODES[mode])


@dataclass(frozen=True)
class Constraints:
    """Limits that every sampled note keeps. All ticks are 1/24 quarter. Raises `ConfigError` where they contradict each other.

    Attributes
    ----------
    scale : str, iterable of int or None
        See `parse_scale`.
    chord : str
        See `chords.parse_chord`: of the scale, only these pitch classes. Empty: all.
    low, high : int
        Range of MIDI keys, both allowed.
    polyphony : int
        Keys down at once, at most. A key that is down is never struck again before it is let go.
    grid : int
        Onsets fall on multiples of this many ticks (6 = sixteenths); a divisor of 96.
    min_dt, max_dt : int
        Ticks between two onsets. `min_dt` = 1 forbids chords. Where keys that are still down, or the present, leave no onset within
        `max_dt`, the performer waits longer: polyphony comes first.
    min_duration, max_duration : int
        Ticks a key stays down.
    """

    scale: str | Iterable[int] | None = None
    low: int = 21
    high: int = 108
    polyphony: int = 8
    grid: int = 1
    min_dt: int = 0
    max_dt: int = v.MAX_DT
    min_duration: int = 1
    max_duration: int = v.MAX_DURATION
    chord: str = ""
    pitches: Mask = field(init=False, repr=False, compare=False)
    voices: int = field(init=False, repr=False, compare=False)  # polyphony, or the number of keys where they are fewer

    def __post_init__(self) -> None:
        if isinstance(self.scale, Iterable) and not isinstance(self.scale, str):
            object.__setattr__(self, "scale", tuple(self.scale))
        keys = np.arange(v.N_PITCH)
        if not 0 <= self.low <= self.high < v.N_PITCH:
            raise ConfigError("range", f"expected 0 <= low <= high <= 127, got {self.low} and {self.high}")
        classes = parse_scale(self.scale) & parse_chord(self.chord)
        if not classes:
            raise ConfigError("chord", f"no note of {self.chord!r} is in {self.scale!r}: choose another, or the scale chromatic")
        pitches = np.isin(keys % 12, list(classes)) & (keys >= self.low) & (keys <= self.high)
        if not pitches.any():
            which = f"{self.scale!r}" + (f" and {self.chord!r}" if self.chord else "")
            raise ConfigError("range", f"no key from {self.low} to {self.high} is in {which}: widen the range")
        if self.polyphony < 1:
            raise ConfigError("polyphony", f"expected at least 1, got {self.polyphony}")
        if self.grid not in GRIDS:
            near = min(GRIDS, key=lambda g: abs(g - self.grid))
            raise ConfigError(
                "grid", f"expected a divisor of {v.N_PHASE} ticks (a quarter has {v.TICKS_PER_QUARTER}), got {self.grid} — {near}?"
            )
        step = self.max_dt // self.grid * self.grid  # the longest step that keeps the grid
        if not 0 <= self.min_dt <= self.max_dt <= v.MAX_DT or step < max(self.min_dt, 1):
            raise ConfigError(
                "max_dt", f"expected 0 <= min_dt <= max_dt <= {v.MAX_DT} with a multiple of grid={self.grid} between them, "
                f"got {self.min_dt} and {self.max_dt}"
            )  # fmt: skip
        if not 1 <= self.min_duration <= self.max_duration <= v.MAX_DURATION:
            raise ConfigError(
                "max_duration", f"expected 1 <= min <= max <= {v.MAX_DURATION}, got {self.min_duration} and {self.max_duration}"
            )
        if self.min_duration > step:
            # Else with all voices busy no onset would be left within max_dt.
            raise ConfigError("min_duration", f"{self.min_duration} is longer than the longest step {step}: lower it, or raise max_dt")
        object.__setattr__(self, "pitches", pitches)
        object.__setattr__(self, "voices", min(self.polyphony, int(pitches.sum())))

    def onsets(self, tick: int, earliest: int, chord: bool) -> tuple[Mask, int]:
        """Which steps from `tick` are allowed: bool (97,), and how long to wait (ticks) where none is.

        earliest : first tick at which a voice is free and which is not yet past; chord : whether a step of 0 is possible at all.
        """
        mask = np.zeros(v.N_DT, np.bool_)
        first = max(self.min_dt, earliest - tick, 0 if chord else 1)
        first += -(tick + first) % self.grid
        mask[first : self.max_dt + 1 : self.grid] = True
        return mask, first

    def longest(self, onset: int, others: list[int]) -> int:
        """The longest duration of a note at `onset`, given the releases of the keys then down, so that a voice is free within `max_dt`."""
        latest = (onset + self.max_dt) // self.grid * self.grid
        if len(others) + 1 < self.voices or any(r <= latest for r in others):
            return self.max_duration
        return min(self.max_duration, latest - onset)
