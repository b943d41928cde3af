"""The log is read as it was written, torn or not; what it tells makes the workers do again what they did."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from rtserver.config import Config, Generation, Recording, parse
from rtserver.events import Command, Entry, Event, Gap, Late, MidiIn, Note, Param, Position, Role, to_json
from rtserver.recording.log import header
from rtserver.replay import Feed, Log, LogError
from rtserver.roles.performer import PerformerRole
from rtserver.shared.memory import Layout
from rtserver.shared.session import Session, Setup

RATE, HOP = 48000, 480
N_HOPS = 1200


def new_session(folder: Path, config: Config | None = None) -> Session:
    layout = Layout()
    Session.declare(layout, 1, 1, 101)
    config = config or Config(generation=Generation(tempo_bpm=140.0, grid=6, temperature=1.0), recording=Recording(folder="shows"))
    return Session.create(layout, Setup(config, str(folder)))


def write(path: Path, session: Session, events: list[Event], tail: bytes = b"") -> Path:
    path.write_bytes(b"".join(to_json(event) + b"\n" for event in [header(session, 0, 123), *events]) + tail)
    return path


EVENTS: list[Event] = [
    Entry(480, 480, "performer"),
    Param(960, 0, "generation.mode", "continue"),
    Param(960, 0, "outputs.harmonic.mute", True),
    MidiIn(1000, 1480, "midi_in", b"\x90\x3c\x40"),
    Command(2000, 2000, "seek", 4.0),
    Command(2000, 2000, "reset"),
    Late(2000, 2000, "performer", "command reset", 4800),
    Gap(4000, 4000, 10, "because"),
]


@pytest.mark.parametrize("tail", [b"", b'{"kind":"no', b'{"kind":"gap","frame":1,"available_frame":1,"n_frames":1,"reason":""}'])
def test_a_log_is_read_as_it_was_written_but_for_a_torn_line(tmp_path: Path, tail: bytes) -> None:
    session = new_session(tmp_path)
    write(tmp_path / "events.jsonl", session, EVENTS, tail)
    for path in (tmp_path, tmp_path / "events.jsonl"):
        log = Log.read(path)
        assert log.events == EVENTS
        assert log.config == session.config
        assert log.torn == bool(tail)


def test_a_torn_line_that_was_gone_on_after_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "events.jsonl", new_session(tmp_path), EVENTS, b'{"kind":"no\n{"kind":"command"}\n')
    with pytest.raises(LogError, match=r"events\.jsonl, line 10: not an event"):
        Log.read(path)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "empty"),
        (b'{"kind":"gap"}\n', "line 1: expected a session header"),
        (b"\x00\xff\n", "line 1: expected a session header"),
    ],
)
def test_what_is_no_log_is_refused_with_its_line(tmp_path: Path, data: bytes, complaint: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(data)
    with pytest.raises(LogError, match=complaint):
        Log.read(path)


def test_a_missing_log_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="expected a recording's folder"):
        Log.read(tmp_path / "nowhere")


def test_a_log_of_another_form_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "events.jsonl", new_session(tmp_path), [])
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2'))
    with pytest.raises(LogError, match="form 2, expected 1"):
        Log.read(path)


def test_each_worker_is_told_what_was_said_to_it_at_the_frame_it_took_it(tmp_path: Path) -> None:
    log = Log.read(write(tmp_path / "events.jsonl", new_session(tmp_path), EVENTS))
    assert log.for_role("follower") == [(2000, EVENTS[4]), (2000, EVENTS[5])]
    assert log.for_role("performer") == [(960, EVENTS[1]), (1480, EVENTS[3]), (4800, EVENTS[5])]
    assert log.entry("performer") == 480
    assert log.entry("follower") == 0


def test_what_spoils_a_replay_is_said(tmp_path: Path) -> None:
    session = new_session(tmp_path)
    assert Log.read(write(tmp_path / "events.jsonl", session, EVENTS)).caveats == []
    died = Role(4800, 4800, "performer", "down", 0, 0)
    (caveat,) = Log.read(write(tmp_path / "events.jsonl", session, [*EVENTS, died])).caveats
    assert "performer died at frame 4800" in caveat


def the_feature(k: int) -> np.ndarray:
    """Chords that change every half second, with a rest now and then."""
    rng = np.random.default_rng(k // 50)
    x = np.zeros(101, np.float32)
    x[rng.integers(0, 12, 3)] = 0.57
    x[100] = -120.0 if k // 50 % 7 == 6 else -25.0
    return x


def said(rng: random.Random) -> list[tuple[int, str, Event]]:
    """(hop before which it comes, producer, event): in time, or late."""
    rows: list[tuple[int, str, Event]] = []
    for _ in range(25):
        frame = rng.randrange(0, (N_HOPS - 200) * HOP)
        come = max(0, frame // HOP + rng.choice([-2, -1, 0, 3, 40]))
        on = rng.randrange(48, 84)
        rows.append((come, "midi", MidiIn(frame, frame + HOP, "midi_in", bytes([0x90, on, 80]))))
        rows.append((come + 20, "midi", MidiIn(frame + 20 * HOP, frame + 21 * HOP, "midi_in", bytes([0x80, on, 0]))))
    changes = [
        ("generation.mode", "continue"),
        ("generation.scale", "C major"),
        ("generation.temperature", 0.5),
        ("generation.mode", "accompany"),
        ("generation.scale", "a minor"),
        ("generation.enabled", False),
        ("generation.enabled", True),
    ]
    for name, value in changes:
        frame = rng.randrange(0, (N_HOPS - 200) * HOP)
        rows.append((max(0, frame // HOP + rng.choice([-2, -1, 0, 3])), "gateway", Param(frame, 0, name, value)))
    rows.append((700, "gateway", Command(640 * HOP, 640 * HOP, "reset")))
    return sorted(rows, key=lambda row: row[0])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_performer_plays_the_same_notes_again(tmp_path: Path, seed: int) -> None:
    """It is told this and that, some of it late, and joins late itself; the log of it makes another one play the same."""
    session = new_session(tmp_path)
    for k in range(7):
        session.features.write(the_feature(k), (k + 1) * HOP)
    performer = PerformerRole(session)
    performer.prepare()
    rows = said(random.Random(seed))
    recorded: list[Event] = []
    for k in range(7, N_HOPS):
        for _, producer, event in [row for row in rows if row[0] == k or (k == 7 and row[0] < 7)]:
            assert session.emit(producer, event, "performer", "recorder")
        session.features.write(the_feature(k), (k + 1) * HOP)
        performer.step()
        recorded += session.receive("recorder")
        session.receive("gateway")
        session.receive("midi")
    notes = [event for event in recorded if isinstance(event, Note)]
    assert len(notes) > 10
    assert any(isinstance(event, Late) for event in recorded)

    log = Log.read(write(tmp_path / "events.jsonl", session, recorded))
    replayed = new_session(tmp_path)
    again = PerformerRole(replayed)
    again.prepare()
    feed = Feed(replayed, log, {"performer": again})
    got: list[Event] = []
    for k in range(N_HOPS):
        feed((k + 1) * HOP)
        replayed.features.write(the_feature(k), (k + 1) * HOP)
        again.step()
        got += replayed.receive("recorder")
        replayed.receive("gateway")
        replayed.receive("midi")
    assert [event for event in got if isinstance(event, Note)] == notes
    late = [[event for event in events if isinstance(event, Late)] for events in (got, recorded)]
    assert late[0] == late[1]


def test_positions_that_were_late_are_late_again_though_they_come_in_time(tmp_path: Path) -> None:
    config = parse({"generation": {"tempo_bpm": 140.0, "grid": 6}, "recording": {"folder": "shows"}})
    spoken = list(range(10, 380, 5))
    come = [k + 5 if k % 3 == 0 else k for k in spoken]

    def play(arrivals: list[int], log: Log | None) -> list[Event]:
        session = new_session(tmp_path, config)
        performer = PerformerRole(session)
        performer.prepare()
        performer.follows = True
        if log is not None:
            Feed(session, log, {"performer": performer})
        events: list[Event] = []
        for k in range(400):
            for hop, arrival in zip(spoken, arrivals, strict=True):
                if arrival == k:
                    frame = hop * HOP
                    session.emit("follower", Position(frame, frame + 960, hop / 62, hop / 62, 96.0, 0.9, "LOCKED"), "performer")
            session.features.write(the_feature(k), (k + 1) * HOP)
            performer.step()
            events += session.receive("recorder")
            session.receive("gateway")
            session.receive("midi")
        return events

    live = play(come, None)
    assert sum(isinstance(event, Late) for event in live) > 5
    assert sum(isinstance(event, Note) for event in live) > 5
    log = Log.read(write(tmp_path / "events.jsonl", new_session(tmp_path, config), live))
    assert play(spoken, log) == live
    assert play(spoken, None) != live
