from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.errors import RtserverError
from rtserver.events import Gap, Miss, Note, to_json
from rtserver.wire.sink import FileSink, MemorySink, read_events

NOTES = [Note(i, i + 5, i, 60, 72, 480, 0) for i in range(20)]


@given(capacity=st.integers(0, 30), n=st.integers(0, 30))
def test_a_memory_sink_keeps_the_first_and_counts_the_rest(capacity: int, n: int) -> None:
    sink = MemorySink(capacity)
    taken = [sink.send(Gap(i, i, 1, "")) for i in range(n)]
    assert [event.frame for event in sink.events] == list(range(min(n, capacity)))
    assert (sum(taken), sink.dropped) == (min(n, capacity), max(n - capacity, 0))


def test_a_file_holds_one_json_object_a_line(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "deep" / "events.jsonl")
    for note in NOTES:
        assert sink.send(note)
    sink.close()
    lines = [json.loads(line) for line in sink.path.read_text().splitlines()]
    assert [(line["kind"], line["frame"], line["available_frame"]) for line in lines] == [("note", i, i + 5) for i in range(20)]
    assert read_events(sink.path) == NOTES


def test_an_event_is_on_disk_before_the_file_is_closed(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "events.jsonl")
    sink.send(NOTES[0])
    assert read_events(sink.path) == NOTES[:1]
    sink.close()


def test_a_folder_that_cannot_be_made_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RtserverError, match=r"file/events.jsonl.*choose another folder"):
        FileSink(tmp_path / "file" / "events.jsonl")


def test_a_torn_line_spoils_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"kind":"no')
    sink = FileSink(path, append=True)
    sink.send(NOTES[0])
    sink.close()
    assert path.read_bytes().splitlines()[1:] == [path.read_bytes().splitlines()[-1]]
    assert json.loads(path.read_bytes().splitlines()[1])["note_id"] == 0


@pytest.fixture
def full_disk(tmp_path: Path) -> Path:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full to play a full disk")
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    return tmp_path


def test_a_full_disk_ends_the_writing_and_is_counted(full_disk: Path) -> None:
    sink = FileSink(full_disk / "events.jsonl")
    assert [sink.send(note) for note in NOTES] == [False] * 20
    assert sink.dropped == 20
    assert sink.error is not None
    assert "space" in sink.error.strerror


@pytest.mark.parametrize("append", [False, True])
def test_a_disk_that_fills_up_leaves_whole_lines(tmp_path: Path, append: bool) -> None:
    sink = FileSink(tmp_path / "events.jsonl", append)
    line = len(to_json(NOTES[0])) + 1
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * line + line // 2, limits[1]))
    try:
        taken = [sink.send(note) for note in NOTES[:8]]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert taken == [True] * 3 + [False] * 5
    assert read_events(sink.path) == NOTES[:3]


def test_a_closed_file_takes_no_more_events(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "events.jsonl")
    sink.close()
    assert not sink.send(Miss(0, 0, "harmonic", 1))
    assert sink.dropped == 1
