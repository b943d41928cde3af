"""Scores of real pieces against the truth about performances of them, where ``RTSERVER_PIECES`` names a folder of them.

A piece is a folder with score.musicxml, score.mid and gt.csv, as `benchmarks/following.py` takes it.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from rtserver.following.score import Score, load_score

FOLDER = os.environ.get("RTSERVER_PIECES", "")
PIECES = sorted(path.parent for path in Path(FOLDER).glob("*/gt.csv")) if FOLDER else []
NEAR = 0.002  # of a quarter: the truth has five digits, and MIDI ticks

pytestmark = pytest.mark.skipif(not PIECES, reason="RTSERVER_PIECES names no folder with pieces")


def truth(piece: Path, column: str) -> np.ndarray:
    with (piece / "gt.csv").open() as file:
        return np.array([float(row[column]) for row in csv.DictReader(file)])


def notes_of(score: Score) -> set[tuple[float, int]]:
    return {(round(float(q), 2), int(p)) for q, p in zip(score.notes.onset_quarter, score.notes.pitch, strict=True)}


def graces_of(score: Score) -> set[tuple[float, int]]:
    notes, of = score.notes, score.notes.is_grace
    return {(round(float(q), 2), int(p)) for q, p in zip(notes.onset_quarter[of], notes.pitch[of], strict=True)}


@pytest.mark.parametrize("name", ["score.musicxml", "score.mid"])
@pytest.mark.parametrize("piece", PIECES, ids=lambda p: p.name)
def test_every_onset_that_was_played_is_in_the_score(piece: Path, name: str) -> None:
    onsets = load_score(piece / name).notes.onset_quarter
    played = truth(piece, "score_quarter")
    nearest = np.abs(onsets[np.clip(np.searchsorted(onsets, played - NEAR), 0, len(onsets) - 1)] - played)
    assert played[nearest > NEAR].tolist() == []


@pytest.mark.parametrize("piece", PIECES, ids=lambda p: p.name)
def test_every_onset_has_as_many_notes_as_were_played(piece: Path) -> None:
    onsets = load_score(piece / "score.musicxml").notes.onset_quarter
    played, counts = truth(piece, "score_quarter"), truth(piece, "n_notes")
    written = np.searchsorted(onsets, played + NEAR) - np.searchsorted(onsets, played - NEAR)
    assert played[written < counts].tolist() == []


@pytest.mark.parametrize("piece", PIECES, ids=lambda p: p.name)
def test_beats_are_those_of_the_truth(piece: Path) -> None:
    score = load_score(piece / "score.musicxml")
    assert np.abs(score.beat_at(truth(piece, "score_quarter")) - truth(piece, "score_beat")).max() < NEAR


@pytest.mark.parametrize("piece", PIECES, ids=lambda p: p.name)
def test_musicxml_has_nothing_but_grace_notes_that_midi_has_not(piece: Path) -> None:
    page, file = load_score(piece / "score.musicxml"), load_score(piece / "score.mid")
    assert notes_of(page) - notes_of(file) <= graces_of(page)


@pytest.mark.parametrize("piece", PIECES, ids=lambda p: p.name)
def test_midi_has_hardly_a_note_that_musicxml_has_not(piece: Path) -> None:
    """What remains are cue notes, which nobody plays, and ties that the program that wrote the MIDI file cut in two."""
    page, file = load_score(piece / "score.musicxml"), load_score(piece / "score.mid")
    assert len(notes_of(file) - notes_of(page)) <= 6
