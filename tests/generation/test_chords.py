"""Chord symbols."""

import pytest

from rtserver.errors import ConfigError
from rtserver.generation.chords import QUALITIES, parse_chord


@pytest.mark.parametrize(
    ("symbol", "classes"),
    [
        ("C", {0, 4, 7}),
        ("Am7", {9, 0, 4, 7}),
        ("F#m7b5", {6, 9, 0, 4}),
        ("Bb", {10, 2, 5}),
        ("E♭maj7", {3, 7, 10, 2}),
        ("c/D", {0, 4, 7, 2}),
        ("bdim", {11, 2, 5}),
        ("any", set(range(12))),
        ("", set(range(12))),
    ],
)
def test_a_symbol_is_its_pitch_classes(symbol: str, classes: set[int]) -> None:
    assert parse_chord(symbol) == classes


def test_every_quality_is_known_on_every_root() -> None:
    for root in ("C", "F#", "Bb"):
        for quality, steps in QUALITIES.items():
            assert len(parse_chord(root + quality)) == len(steps)


@pytest.mark.parametrize(("wrong", "said"), [("H", "root"), ("Cmjr", "did you mean"), ("C/X", "after the stroke"), ("7", "root")])
def test_what_is_no_chord_is_refused_with_a_remedy(wrong: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_chord(wrong)
