"""The recorder role: what it writes is what was played, whatever becomes of it, of the stream or of the disk."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from rtserver.config import Config, parse
from rtserver.events import Command, Epoch, Gap, MidiIn, Param, Position, Recording, Song, Status
from rtserver.replay import Log
from rtserver.shared.session import IN_RING_SIZE, Setup, load_file


def read(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32", always_2d=True)[0].T


def position(frame: int) -> Position:
    return Position(frame, frame + 10, frame / 100, frame / 100, 120.0, 1.0, "LOCKED")


def states(log: Log) -> list[str]:
    return [event.state for event in log.events if isinstance(event, Recording)]


def test_what_was_played_is_in_the_files_bit_for_bit(make) -> None:
    stage = make()
    stage.start()
    for _ in range(30):
        stage.play()
        time.sleep(0.01)
    stage.caught_up()
    assert stage.stop() == ""
    (folder,) = stage.folders()
    for name in ("input", "played"):
        np.testing.assert_array_equal(read(folder / f"{name}.wav"), stage.heard(name))


def test_what_came_before_the_recorder_was_up_is_there_too(make) -> None:
    stage = make()
    stage.play(10)
    stage.start()
    stage.caught_up()
    stage.stop()
    assert stage.log().header.frame == 0
    np.testing.assert_array_equal(read(stage.folders()[0] / "input.wav"), stage.heard("input"))


def test_the_configuration_of_a_song_that_is_loaded_is_in_the_log(make) -> None:
    stage = make()
    stage.start()
    soft = parse({"outputs": {"soft": {"source": "dry", "channels": [1], "gain_db": -20.0}}})
    folder = stage.session.run_folder
    for deck, frame, config in ((1, 100, soft), (0, 200, Config())):
        load_file(folder, deck, frame).write_bytes(msgspec.json.encode(Setup(config, str(folder), song="soft")))
        stage.say(Song(frame, frame, "soft", "loading", deck), "supervisor")
    stage.say(Song(9000, 300, "soft", "playing", 1), "supervisor")
    stage.stop()
    first, second = stage.log().stays
    assert (first.deck, first.end) == (0, 9000)
    assert (second.deck, second.loaded, second.start, second.name, second.config) == (1, 100, 9000, "soft", soft)


def test_only_what_is_wanted_is_recorded(make) -> None:
    stage = make(played=False)
    stage.start()
    stage.play(5)
    stage.caught_up()
    stage.stop()
    assert {p.name for p in stage.folders()[0].iterdir()} == {"input.wav", "events.jsonl"}


def test_flac_holds_the_same_to_24_bits(make) -> None:
    stage = make(format="flac")
    stage.start()
    stage.play(10)
    stage.caught_up()
    stage.stop()
    (folder,) = stage.folders()
    (path,) = folder.glob("input-*.flac")
    np.testing.assert_allclose(read(path), stage.heard("input"), atol=2**-23)


def test_the_log_begins_with_the_session_and_holds_every_event_in_order(make) -> None:
    stage = make()
    stage.start()
    said = {
        "follower": [position(frame) for frame in range(50)],
        "gateway": [Param(5, 5, "generation.mode", "continue"), Command(7, 7, "seek", 4.0)],
        "midi": [MidiIn(9, 9, "midi_in", b"\x90\x3c\x40")],
        "audio": [Epoch(0, 10, 0, 123)],
    }
    for role, events in said.items():
        for event in events:
            stage.say(event, role)
    stage.until(lambda: stage.session.counters("recorder")["events"] > 54, "the events")
    stage.stop()
    log = stage.log()
    assert log.header.boot_id == f"{stage.session.block.boot_id:016x}"
    assert log.config == stage.session.config
    for events in said.values():
        assert [event for event in log.events if type(event) in {type(e) for e in events}] == events
    assert states(log) == ["started", "stopped"]
    assert {event.role for event in log.events if isinstance(event, Status)} >= {"recorder", "engine"}


def test_a_gap_of_the_stream_is_silence_of_its_length(make) -> None:
    stage = make()
    stage.start()
    stage.play(5)
    stage.caught_up()
    stage.silence(12345)
    stage.play(5)
    stage.caught_up()
    stage.stop()
    (folder,) = stage.folders()
    for name in ("input", "played"):
        np.testing.assert_array_equal(read(folder / f"{name}.wav"), stage.heard(name))
    assert stage.session.counters("recorder")["gap_frames"] == 12345
    assert states(stage.log()) == ["started", "gap", "gap", "stopped"]


def test_a_recorder_that_was_stopped_too_long_counts_what_it_lost(make) -> None:
    stage = make()
    stage.start()
    stage.play(5)
    stage.caught_up()
    os.kill(stage.process.pid, signal.SIGSTOP)
    stage.play(40)
    os.kill(stage.process.pid, signal.SIGCONT)
    stage.caught_up()
    stage.stop()
    lost = stage.session.counters("recorder")["lost_frames"]
    x, heard = read(stage.folders()[0] / "input.wav"), stage.heard("input")
    assert x.shape == heard.shape
    assert 40 * 4800 - IN_RING_SIZE <= lost < 40 * 4800
    first = 5 * 4800
    np.testing.assert_array_equal(x[:, :first], heard[:, :first])
    assert not x[:, first : first + lost].any()
    np.testing.assert_array_equal(x[:, first + lost :], heard[:, first + lost :])


def test_killed_in_the_middle_the_files_open_and_hold_all_but_the_last_moment(make) -> None:
    stage = make()
    stage.start()
    for _ in range(20):
        stage.play()
        time.sleep(0.005)
    stage.until(lambda: stage.done() >= 10 * 4800, "a second of sound")
    done = stage.done()
    stage.kill()
    (folder,) = stage.folders()
    for name in ("input", "played"):
        x = read(folder / f"{name}.wav")
        assert x.shape[1] >= done - 4800
        np.testing.assert_array_equal(x, stage.heard(name)[:, : x.shape[1]])
    assert stage.log().header.frame == 0


def test_a_restarted_recorder_goes_on_in_the_same_files(make) -> None:
    stage = make()
    stage.start()
    stage.play(5)
    stage.caught_up()
    stage.kill()
    stage.play(10)
    stage.restart()
    stage.play(5)
    stage.until(lambda: stage.done() >= 15 * 4800, "the rest")
    stage.stop()
    (folder,) = stage.folders()
    np.testing.assert_array_equal(read(folder / "input.wav"), stage.heard("input"))
    assert states(stage.log()) == ["started", "resumed", "stopped"]


def test_it_starts_and_stops_when_told(make) -> None:
    stage = make(start=False)
    stage.start()
    stage.play(3)
    for _ in range(2):
        stage.record("start")
        stage.told("started")
        stage.play(3)
        stage.caught_up()
        stage.record("stop")
        stage.told("stopped")
    stage.stop()
    folders = stage.folders()
    assert len(folders) == 2
    for n, folder in enumerate(folders):
        first = (3 + 3 * n) * 4800
        assert Log.read(folder).header.frame == first
        np.testing.assert_array_equal(read(folder / "input.wav"), stage.heard("input")[:, first : first + 3 * 4800])


def test_a_folder_that_cannot_be_made_stops_the_recording_only(make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    stage = make(folder=str(tmp_path / "file" / "shows"))
    stage.start()
    (failed,) = [event for event in stage.told("failed") if event.state == "failed"]
    assert "start the recording again" in failed.detail
    stage.play(3)
    complaint = stage.stop()
    assert complaint.count("\n") == 1
    assert "recording stopped" in complaint


def test_a_folder_that_vanishes_stops_the_recording_and_the_next_one_begins(make) -> None:
    stage = make()
    stage.start()
    stage.play(3)
    stage.caught_up()
    shutil.rmtree(stage.folders()[0])
    assert "vanished" in stage.told("failed")[-1].detail
    stage.record("start")
    stage.told("started")
    stage.play(3)
    stage.caught_up()
    stage.stop()
    np.testing.assert_array_equal(read(stage.folders()[0] / "input.wav"), stage.heard("input")[:, 3 * 4800 :])


def fill_up(stage) -> None:
    """Play until the disk is full; the recording says so, what it has written is whole, and there is one line."""
    for _ in range(100):
        stage.play()
        time.sleep(0.01)
        if stage.session.counters("recorder")["failures"]:
            break
    failed = stage.told("failed")[-1]
    assert "free some space" in failed.detail
    assert stage.session.counters("recorder")["recording"] == 0
    x = read(Path(failed.folder) / "input.wav")
    assert x.shape[1] > 4800
    np.testing.assert_array_equal(x, stage.heard("input")[:, : x.shape[1]])
    assert stage.log().header.frame == 0


def test_a_limit_on_files_stops_the_recording_only(make) -> None:
    stage = make()
    stage.start(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)))
    fill_up(stage)
    complaint = stage.stop()
    assert complaint.count("\n") == 1
    assert "File too large" in complaint


def test_a_full_disk_stops_the_recording_which_can_be_started_again(make, tmp_path: Path) -> None:
    if shutil.which("mount") is None:
        pytest.skip("there is no mount to make a small file system with")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True, check=False)
    if mount.returncode != 0:
        pytest.skip(f"may not mount a small file system: {mount.stderr.strip()}")
    stage = make(folder=str(disk))
    try:
        stage.start()
        fill_up(stage)
        shutil.rmtree(stage.folders()[0])
        stage.record("start")
        stage.told("started")
        stage.play(2)
        stage.caught_up()
        assert "No space left on device" in stage.stop()
        first = stage.log().header.frame
        np.testing.assert_array_equal(read(stage.folders()[0] / "input.wav"), stage.heard("input")[:, first:])
    finally:
        stage.close()
        subprocess.run(["umount", disk], check=True)


def test_gaps_of_the_engine_are_events_like_others(make) -> None:
    stage = make()
    stage.start()
    stage.say(Gap(4800, 4800, 480, "input was lost"))
    stage.until(lambda: any(isinstance(event, Gap) for event in stage.log().events), "the event")
    stage.stop()
