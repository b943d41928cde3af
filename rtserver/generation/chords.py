"""Chord symbols as pitch classes: "C", "Am7", "F#m7b5", "Bb/D"."""

from __future__ import annotations

import difflib
import re

from rtserver.errors import ConfigError

NATURALS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
ACCIDENTALS = {"": 0, "#": 1, "b": -1}
QUALITIES = {
    "": (0, 4, 7),
    "maj": (0, 4, 7),
    "m": (0, 3, 7),
    "min": (0, 3, 7),
    "dim": (0, 3, 6),
    "aug": (0, 4, 8),
    "5": (0, 7),
    "sus2": (0, 2, 7),
    "sus4": (0, 5, 7),
    "6": (0, 4, 7, 9),
    "m6": (0, 3, 7, 9),
    "7": (0, 4, 7, 10),
    "maj7": (0, 4, 7, 11),
    "m7": (0, 3, 7, 10),
    "mmaj7": (0, 3, 7, 11),
    "7sus4": (0, 5, 7, 10),
    "m7b5": (0, 3, 6, 10),
    "dim7": (0, 3, 6, 9),
    "aug7": (0, 4, 8, 10),
    "add9": (0, 2, 4, 7),
    "9": (0, 2, 4, 7, 10),
    "maj9": (0, 2, 4, 7, 11),
    "m9": (0, 2, 3, 7, 10),
}


def tonic(text: str) -> int | None:
    """The pitch class of "C", "f#", "Bb"; None for what is no name of a note."""
    text = text.replace("♯", "#").replace("♭", "b")
    if text[:1].lower() not in NATURALS or text[1:] not in ACCIDENTALS:
        return None
    return (NATURALS[text[0].lower()] + ACCIDENTALS[text[1:]]) % 12


def parse_chord(chord: str) -> frozenset[int]:
    """Pitch classes of a chord symbol, its bass included; all for "" and "any".

    The root is a letter with # or b, then comes one of QUALITIES, and a bass after a stroke. Raises `ConfigError` with the nearest name.
    """
    if chord.strip().lower() in ("", "any"):
        return frozenset(range(12))
    symbol, _, bass = chord.strip().replace("♯", "#").replace("♭", "b").partition("/")
    found = re.fullmatch(r"([A-Ga-g][#b]?)(.*)", symbol.strip())
    root = tonic(found[1]) if found else None
    if found is None or root is None:
        raise ConfigError("chord", f'{chord!r} does not begin with a root (C, F#, Bb …): expected for example "Am7", or "any"')
    quality = found[2].strip()
    if quality not in QUALITIES:
        near = difflib.get_close_matches(quality, QUALITIES, 1, cutoff=0.3)
        hint = f" — did you mean {found[1]}{near[0]}?" if near else ""
        raise ConfigError("chord", f"{chord!r} names no chord: after the root comes one of {', '.join(q for q in QUALITIES if q)}{hint}")
    classes = {(root + step) % 12 for step in QUALITIES[quality]}
    if bass:
        low = tonic(bass.strip())
        if low is None:
            raise ConfigError("chord", f"{chord!r}: expected a note after the stroke, got {bass!r}")
        classes.add(low)
    return frozenset(classes)
