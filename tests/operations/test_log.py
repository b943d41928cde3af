"""One line an event; a disk that refuses stops nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from rtserver import events
from rtserver.config import Log
from rtserver.operations import log
from rtserver.operations.log import EventLog


def written(path: Path, *taken: events.Event, **settings: Any) -> list[dict[str, Any]]:
    """The lines of a log of these events."""
    lines = EventLog(Log(str(path), **settings))
    for event in taken:
        lines.take(event)
    lines.close()
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


DOWN = events.Role(480, 480, "engine", "down", 7, 1, "ended with status 1")


def test_a_line_says_when_who_what_and_how_bad(tmp_path: Path) -> None:
    before_ns = time.monotonic_ns()
    (line,) = written(tmp_path / "log", DOWN)
    assert {key: line[key] for key in ("frame", "role", "level", "event")} == {
        "frame": 480,
        "role": "engine",
        "level": "error",
        "event": "role",
    }
    assert line["fields"] == {"state": "down", "pid": 7, "restarts": 1, "detail": "ended with status 1"}
    assert before_ns <= line["monotonic_ns"] <= time.monotonic_ns()
    assert line["time"].endswith("Z")


@pytest.mark.parametrize(
    ("level", "kinds"),
    [
        ("debug", ["position", "param", "gap", "role"]),
        ("info", ["param", "gap", "role"]),
        ("warning", ["gap", "role"]),
        ("error", ["role"]),
    ],
)
def test_what_is_below_the_level_is_not_written(tmp_path: Path, level: str, kinds: list[str]) -> None:
    told = (events.Position(1, 1, 0.0, 0.0, 100.0, 1.0, "LOCKED"), events.Param(2, 2, "x", 1.0), events.Gap(3, 3, 10, "why"), DOWN)
    assert [line["event"] for line in written(tmp_path / "log", *told, level=level)] == kinds


def test_a_flood_of_misses_is_a_line_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "REPEAT_S", 1e9)
    flood = [events.Miss(100 * i, 100 * i, "ab"[i % 2], 32) for i in range(1000)]
    lines = written(tmp_path / "log", *flood)
    assert [line["fields"] for line in lines] == [{"output": name, "misses": 500, "n_frames": 16000} for name in "ab"]
    assert [line["frame"] for line in lines] == [0, 100]


def test_a_text_log_is_for_people(tmp_path: Path) -> None:
    lines = EventLog(Log(str(tmp_path / "log"), format="text"))
    lines.take(DOWN)
    lines.close()
    assert (tmp_path / "log").read_text().endswith("role state=down pid=7 restarts=1 detail=ended with status 1\n")


def test_a_long_log_is_cut_into_files(tmp_path: Path) -> None:
    written(tmp_path / "log", *[DOWN] * 200, max_bytes=10_000, keep=2)
    assert {path.name for path in tmp_path.iterdir()} == {"log", "log.1", "log.2"}
    assert all(path.stat().st_size <= 10_000 for path in tmp_path.iterdir())


def test_a_folder_that_is_missing_is_made(tmp_path: Path) -> None:
    assert written(tmp_path / "not" / "yet" / "log", DOWN)


def test_a_disk_that_refuses_is_counted_and_stops_nothing() -> None:
    lines = EventLog(Log("/dev/full"))
    for _ in range(5):
        lines.take(DOWN)
    lines.close()
    assert lines.failures == 5


def test_a_place_that_cannot_be_written_is_counted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lines = EventLog(Log(str(tmp_path / "file" / "log")))
    lines.take(DOWN)
    lines.close()
    assert lines.failures == 1


def test_a_disk_that_hangs_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "QUEUE_SIZE", 10)
    lines = EventLog(Log(str(tmp_path / "log")))
    lines._file.acquire()  # the writer waits for it as it would for a disk
    try:
        for _ in range(20):
            lines.take(DOWN)
        assert lines.failures >= 9  # ten in the queue, one in the writer's hands
        lines.close()
    finally:
        lines._file.release()
