"""What the monitor writes for what it knows."""

from __future__ import annotations

import pytest

from rtserver.monitor.source import RECENT, Picture
from rtserver.monitor.view import BAR, bar, lines, pitch_name

ENGINE = {"state": "up", "pid": 7, "restarts": 2, "priority": 50, "locked": True, "memory_bytes": 200 << 20, "counters": {"hops": 9}}
STATUS = {
    "frame": 96000,
    "roles": {"engine": ENGINE, "audio": {"state": "up", "pid": 8, "restarts": 0, "counters": {"misses": 3, "clipped": 0}}},
    "lost_events": {"engine": 0, "midi": 4},
    "clients": {"stage left": 1.0},
    "hop_times": {"hop": {"count": 9, "p50_s": 0.0001, "p99_s": 0.0002, "max_s": 0.003}},
    "latencies": {"harmonic": 480},
}
METERS = {
    "inputs": [{"name": "main", "channel": 1, "peak_db": -6.0, "rms_db": -20.0, "clipped": 0}],
    "outputs": [{"name": "harmonic", "channel": 2, "peak_db": 0.0, "rms_db": -3.0, "clipped": 12}],
}


def shown(**parts: object) -> str:
    return "\n".join(lines(Picture("show", 48000, **parts)))  # type: ignore[arg-type]


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_a_server_of_which_nothing_is_known_yet_is_named() -> None:
    assert shown().startswith("show  playing")


def test_a_server_that_says_nothing_is_called_silent() -> None:
    assert "SILENT for 3 s" in shown(silent_s=3.0)


def test_a_role_shows_state_restarts_priority_lock_and_memory() -> None:
    assert line_of(shown(status=STATUS), "engine").split()[1:8] == ["up", "7", "2", "50", "yes", "200", "MB"]


def test_of_counters_only_what_is_wrong_is_said() -> None:
    text = shown(status=STATUS)
    assert line_of(text, "audio").endswith("misses 3")
    assert "hops 9" not in text


def test_times_of_a_hop_are_in_milliseconds() -> None:
    assert line_of(shown(status=STATUS), "hop ").split()[1::2] == ["0.100", "0.200", "3.000"]


def test_latency_is_in_frames_and_milliseconds() -> None:
    assert "harmonic 480 frames (10.0 ms)" in shown(status=STATUS)


def test_lost_events_are_said_of_those_who_lost_some() -> None:
    assert line_of(shown(status=STATUS), "lost").split(maxsplit=1)[1] == "4 events of midi"


def test_without_meters_there_are_none() -> None:
    assert "dB" not in shown(status=STATUS)


def test_a_clipped_channel_says_so() -> None:
    text = shown(meters=METERS)
    assert "CLIPPED" not in line_of(text, "input")
    assert line_of(text, "output").endswith("CLIPPED 12")


@pytest.mark.parametrize(("rms_db", "filled"), [(0.0, BAR), (-30.0, BAR // 2), (-60.0, 0), (-200.0, 0), (6.0, BAR)])
def test_a_bar_is_as_long_as_its_level(rms_db: float, filled: int) -> None:
    drawn = bar(rms_db, -200.0)
    assert (len(drawn), drawn.count("#")) == (BAR, filled)


def test_held_notes_are_named() -> None:
    assert "2 held  C4 A4" in shown(notes=[[0, 60, 1], [0, 69, 1]])


def test_pitches_are_named_as_musicians_do() -> None:
    assert [pitch_name(p) for p in (0, 60, 61, 127)] == ["C-1", "C4", "C#4", "G9"]


def test_only_the_last_news_is_kept() -> None:
    picture = Picture()
    for frame in range(10):
        picture.take("gap", {"kind": "gap", "frame": frame, "n_frames": 1, "reason": ""})
    assert [event["frame"] for event in picture.news] == list(range(10 - RECENT, 10))


def test_every_event_finds_its_place() -> None:
    picture = Picture()
    picture.take("position", {"quarter": 3.0})
    picture.take("heartbeat", {"notes": [[0, 60, 1]]})
    picture.take("meters", METERS)
    picture.take("miss", {"kind": "miss"})
    assert (picture.position, picture.notes, picture.meters, picture.missed) == ({"quarter": 3.0}, [[0, 60, 1]], METERS, 1)
