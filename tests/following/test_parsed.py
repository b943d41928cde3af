"""Scores that are parsed once and kept."""

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from rtserver.demo import SCORE
from rtserver.errors import ScoreError
from rtserver.following import parsed
from rtserver.following.parsed import parsed_score
from rtserver.following.score import Notes, Score, load_score


@pytest.fixture
def parser(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is parsed, as it is parsed."""
    seen: list[Path] = []

    def load(path: Path, parts: tuple[str | int, ...] = ()) -> Score:
        seen.append(path)
        return load_score(path, parts)

    monkeypatch.setattr(parsed, "load_score", load)
    return seen


def arrays(score: Score) -> dict[str, object]:
    values = {f.name: getattr(score, f.name) for f in fields(score)}
    for name, value in list(values.items()):
        if isinstance(value, Notes):
            values |= {f"{name}.{f.name}": getattr(value, f.name) for f in fields(value)}
            del values[name]
    return values


def test_a_score_is_parsed_once_and_stays_the_same(tmp_path: Path, parser: list[Path]) -> None:
    first, second = parsed_score(SCORE, tmp_path), parsed_score(SCORE, tmp_path)
    assert len(parser) == 1
    for name, value in arrays(load_score(SCORE)).items():
        np.testing.assert_array_equal(arrays(first)[name], value)
        np.testing.assert_array_equal(arrays(second)[name], value)


def test_a_score_that_changed_is_parsed_again(tmp_path: Path, parser: list[Path]) -> None:
    piece = tmp_path / "piece.musicxml"
    piece.write_bytes(SCORE.read_bytes())
    parsed_score(piece, tmp_path / "kept")
    piece.write_bytes(SCORE.read_bytes().replace(b"<octave>5</octave>", b"<octave>4</octave>"))
    changed = parsed_score(piece, tmp_path / "kept")
    assert len(parser) == 2
    np.testing.assert_array_equal(changed.notes.pitch, load_score(piece).notes.pitch)


def test_what_is_kept_but_damaged_is_parsed_again(tmp_path: Path, parser: list[Path]) -> None:
    parsed_score(SCORE, tmp_path)
    (kept,) = tmp_path.glob("*.npz")
    kept.write_bytes(kept.read_bytes()[:100])
    parsed_score(SCORE, tmp_path)
    parsed_score(SCORE, tmp_path)
    assert len(parser) == 2


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path: Path, parser: list[Path]) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        parsed_score(SCORE, tmp_path / "file" / "under")
    assert len(parser) == 2


def test_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsed, "KEEP", 1)
    (tmp_path / "old.npz").touch()
    parsed_score(SCORE, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert not (tmp_path / "old.npz").exists()


def test_a_missing_score_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="none"):
        parsed_score(tmp_path / "none.mid", tmp_path)


def test_every_source_of_the_parser_counts() -> None:
    """A parser that changed must read again: whatever `parse` brings in of this package's folder is in the key."""
    folder = Path(parsed.__file__).parent
    seen, todo = set[str](), ["parse.py"]
    while todo:
        name = todo.pop()
        if name in seen or not (folder / name).exists():
            continue
        seen.add(name)
        words = re.findall(r"rtserver\.following\.(\w+)", (folder / name).read_text())
        todo += [f"{word}.py" for word in [*words, *re.findall(r"following import (\w+)", (folder / name).read_text())]]
    assert seen - {"places.py", "onsets.py"} == set(parsed.SOURCES)
