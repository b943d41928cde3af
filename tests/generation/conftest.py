"""A duet, made here: the flute rests for a quarter, then plays with the piano, which rests for three bars after its first."""

from pathlib import Path

import pytest

from rtserver.following.score import Score, load_score

BARS = 6


def _note(step: str, octave: int, duration: int) -> str:
    return f"<note><pitch><step>{step}</step><octave>{octave}</octave></pitch><duration>{duration}</duration></note>"


def _rest(duration: int) -> str:
    return f"<note><rest/><duration>{duration}</duration></note>"


def _part(name: str, bars: list[str]) -> str:
    head = "<attributes><divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
    body = "".join(f'<measure number="{k + 1}">{head if k == 0 else ""}{bar}</measure>' for k, bar in enumerate(bars))
    return f'<part id="{name}">{body}</part>'


FLUTE = [_rest(1) + _note("C", 5, 3)] + [_note("D", 5, 2) + _note("E", 5, 2)] * (BARS - 1)
PIANO = [_note("C", 3, 2) + _note("G", 3, 2)] + [_rest(4)] * 3 + [_note("D", 3, 4)] * 2


@pytest.fixture(scope="session")
def duet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts = "".join(f'<score-part id="{k}"><part-name>{name}</part-name></score-part>' for k, name in (("P1", "Flute"), ("P2", "Piano")))
    path = tmp_path_factory.mktemp("duet") / "duet.musicxml"
    path.write_text(
        f'<?xml version="1.0"?><score-partwise version="4.0"><part-list>{parts}</part-list>'
        f"{_part('P1', FLUTE)}{_part('P2', PIANO)}</score-partwise>"
    )
    return path


@pytest.fixture(scope="session")
def duet(duet_file: Path) -> Score:
    """The duet with both parts: quarter 0 is the piano's first note."""
    return load_score(duet_file)


@pytest.fixture(scope="session")
def flute(duet_file: Path) -> Score:
    """The flute alone, as it is followed: quarter 0 is its first note, a quarter into the piece."""
    return load_score(duet_file, ["Flute"])
