"""Scores small enough to be read in the test: MusicXML written here."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

STEPS = {0: "C", 2: "D", 4: "E", 5: "F", 7: "G", 9: "A", 11: "B"}


def note(pitch: int, duration: int, extra: str = "", before: str = "") -> str:
    """A white-key note of `duration` divisions."""
    step = f"<pitch><step>{STEPS[pitch % 12]}</step><octave>{pitch // 12 - 1}</octave></pitch>"
    return f"<note>{before}{step}<duration>{duration}</duration>{extra}</note>"


def rest(duration: int) -> str:
    return f"<note><rest/><duration>{duration}</duration></note>"


def attributes(divisions: int, beats: int = 4, beat_type: int = 4) -> str:
    return (
        f"<attributes><divisions>{divisions}</divisions><time><beats>{beats}</beats><beat-type>{beat_type}</beat-type></time></attributes>"
    )


REPEAT = '<barline location="right"><repeat direction="backward"/></barline>'
FORWARD = '<barline location="left"><repeat direction="forward"/></barline>'


def document(*bars: str, first: int = 1) -> str:
    """A score of one part; a pick-up bar is made by ``first=0``."""
    body = "".join(f'<measure number="{first + i}">{bar}</measure>' for i, bar in enumerate(bars))
    return (
        '<?xml version="1.0" encoding="UTF-8"?><score-partwise version="3.1"><work><work-title>Study</work-title></work>'
        '<part-list><score-part id="P1"><part-name>Flute</part-name></score-part></part-list>'
        f'<part id="P1">{body}</part></score-partwise>'
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a score of the given bars, as .musicxml or .mxl."""

    def to_file(*bars: str, first: int = 1, suffix: str = ".musicxml") -> Path:
        path = tmp_path / f"score{suffix}"
        text = document(*bars, first=first)
        if suffix == ".mxl":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("META-INF/container.xml", '<container><rootfiles><rootfile full-path="a.xml"/></rootfiles></container>')
                archive.writestr("a.xml", text)
        else:
            path.write_text(text)
        return path

    return to_file
