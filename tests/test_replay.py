"""The log is read as it was written, torn or not; what it tells makes the workers do again what they did."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rtserver.audio import file as audio_file
from rtserver.audio.table import FOREVER
from rtserver.config import Config, Generation, parse
from rtserver.config import Recording as RecordingConfig
from rtserver.dsp.layout import N_HEARD
from rtserver.errors import AudioFileError
from rtserver.events import (
    Absent,
    Change,
    Command,
    Entry,
    Event,
    Exit,
    Gap,
    Late,
    MidiIn,
    Note,
    Param,
    Position,
    Recording,
    Resume,
    Role,
    Song,
    Status,
    to_json,
)
from rtserver.recording.log import Loaded, from_line, header, to_line
from rtserver.reenact import replay
from rtserver.replay import Log, LogError, Rerun, Stint
from rtserver.roles.decks import tell_exit
from rtserver.roles.performer import PerformerRole
from rtserver.shared.memory import Layout
from rtserver.shared.session import RESTARTS, Session, Setup

RATE, HOP = 48000, 480
N_HOPS = 1200


def new_session(folder: Path, config: Config | None = None) -> Session:
    layout = Layout()
    Session.declare(layout, 1, 1, N_HEARD)
    config = config or Config(generation=Generation(tempo_bpm=140.0, grid=6, temperature=1.0), recording=RecordingConfig(folder="shows"))
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


def test_a_recording_is_never_written_over_by_its_replay(tmp_path: Path) -> None:
    session = new_session(tmp_path)
    log = Log.read(write(tmp_path / "events.jsonl", session, []))
    before = log.path.read_bytes()
    audio_file.write(tmp_path / "input.wav", np.zeros((1, 480), np.float32), log.header.sample_rate)
    with pytest.raises(AudioFileError, match=r"events\.jsonl: would be written over"):
        replay(tmp_path / "input.wav", tmp_path, log)
    assert log.path.read_bytes() == before


def read(tmp_path: Path, session: Session, events: list[Event]) -> Log:
    return Log.read(write(tmp_path / "events.jsonl", session, events))


def the_stint(log: Log, role: str) -> Stint:
    (stint,) = log.stints(log.stays[0], role)
    return stint


def test_each_worker_is_told_what_was_said_to_it_at_the_frame_it_took_it(tmp_path: Path) -> None:
    log = read(tmp_path, new_session(tmp_path), [*EVENTS, Entry(480, 480, "follower")])
    assert the_stint(log, "follower").told == [(1480, EVENTS[3]), (2000, EVENTS[4]), (2000, EVENTS[5])]
    assert the_stint(log, "performer").told == [(960, EVENTS[1]), (1480, EVENTS[3]), (4800, EVENTS[5])]
    assert the_stint(log, "performer").late == [EVENTS[6]]
    assert the_stint(log, "performer").first == 480


def test_a_worker_that_took_nothing_has_no_stint(tmp_path: Path) -> None:
    log = read(tmp_path, new_session(tmp_path), EVENTS)
    assert log.stints(log.stays[0], "follower") == []


def test_a_stint_ends_with_the_last_that_was_heard_of_it(tmp_path: Path) -> None:
    note = Note(6000, 5280, 1, 60, 80, 100, 0)
    for said, last in (([], 4800), ([note], 5280)):
        log = read(tmp_path, new_session(tmp_path), [Entry(480, 480, "performer"), *said, Exit(4800, 6000, "performer")])
        assert the_stint(log, "performer").last == last


def heirs(declared: int, said: int, *more: Event) -> list[Event]:
    """A performer that ends with hop 4800, is missed at 6000 and followed by another from hop 48000 on; and one parameter."""
    param = Param(declared, said, "generation.mode", "continue")
    down = [Exit(4800, 6000, "performer"), Role(6000, 6000, "performer", "down", 0, 0)]
    return [Entry(480, 480, "performer"), param, *down, Entry(48000, 48000, "performer"), *more]


@pytest.mark.parametrize(
    ("declared", "said", "late", "whose"),
    [
        (4000, 3900, 0, 0),  # taken in its life
        (5000, 4500, 0, None),  # it knew of it, and was gone when it was due
        (60000, 4500, 0, None),
        (5000, 5000, 0, None),  # said while it died: the heir found nothing, so it had taken it
        (5000, 5000, 48000, 1),  # or it had not
        (60000, 50000, 0, 1),
        (47900, 47000, 0, 1),  # due at the heir's first hop
    ],
)
def test_what_a_dead_worker_knew_is_not_told_to_its_heir(tmp_path: Path, declared: int, said: int, late: int, whose: int | None) -> None:
    more = [Late(declared, declared, "performer", "param generation.mode", late)] if late else []
    log = read(tmp_path, new_session(tmp_path), heirs(declared, said, *more))
    stints = log.stints(log.stays[0], "performer")
    assert [(stint.first, stint.heir) for stint in stints] == [(480, False), (48000, True)]
    assert [len(stint.told) for stint in stints] == [int(whose == 0), int(whose == 1)]
    assert log.caveats == []


def test_what_spoils_a_replay_is_said(tmp_path: Path) -> None:
    session = new_session(tmp_path)
    assert read(tmp_path, session, EVENTS).caveats == []
    (caveat,) = read(tmp_path, session, heirs(60000, 5000)).caveats
    assert "performer died before frame 48000: who got param generation.mode is unknown" in caveat
    (caveat,) = read(tmp_path, session, [*EVENTS, Status(9000, 9000, "performer", {"notes": 1, "dropped_events": 3})]).caveats
    assert "3 events found no room in the rings of performer:" in caveat
    (caveat,) = read(tmp_path, session, [*EVENTS, Status(9000, 9000, "separator", {"hops": 70, "skipped_hops": 33})]).caveats
    assert "separator skipped 33 hops" in caveat
    gap = Recording(9000, 20000, "gap", "", "input.wav: 11000 frames of silence, the stream stood still")
    (caveat,) = read(tmp_path, session, [gap, Resume(20224, 20224, "main", 20224, 9120, "input was lost")]).caveats
    assert "lacking from frame 9000 on" in caveat


LOUD = parse({"outputs": {"all": {"source": "dry", "channels": [1]}}})
SOFT = parse({"outputs": {"one": {"source": "dry", "channels": [1]}, "two": {"source": "dry", "channels": [2]}}})
CHANGES: list[tuple[int, Event]] = [
    (0, Change(100, 100, "all", "level", 0.5)),
    (0, Song(1000, 1000, "soft", "loading", 1)),
    (0, Loaded(1000, 1000, 1, "soft", msgspec.to_builtins(SOFT))),
    (0, Song(5000, 2000, "soft", "playing", 1)),
    (0, Absent(4990, 5010, "all", 20)),
    (1, Change(6000, 6000, "one", "level", 0.5)),
    (1, Param(90000, 7000, "outputs.two.mute", True)),
    (0, Loaded(60000, 60000, 0, "never", msgspec.to_builtins(SOFT))),
    (0, Loaded(70000, 70000, 0, "loud", msgspec.to_builtins(LOUD))),
    (0, Song(80000, 75000, "loud", "playing", 0)),
    (0, Absent(80000, 80010, "all", 10)),
]


def write_lines(path: Path, session: Session, lines: list[tuple[int, Event]]) -> Path:
    path.write_bytes(b"".join(to_line(event, deck) + b"\n" for deck, event in [(0, header(session, 0, 123)), *lines]))
    return path


def test_who_was_on_which_deck_and_when(tmp_path: Path) -> None:
    log = Log.read(write_lines(tmp_path / "events.jsonl", new_session(tmp_path), CHANGES))
    stays = [(stay.name, stay.deck, stay.loaded, stay.start, stay.end, stay.until) for stay in log.stays]
    assert stays == [
        ("", 0, 0, -FOREVER, 5000, 70000),
        ("soft", 1, 1000, 5000, 80000, FOREVER),
        ("loud", 0, 70000, 80000, FOREVER, FOREVER),
    ]
    assert [stay.config for stay in log.stays[1:]] == [SOFT, LOUD]
    first, second, third = (log.of(stay) for stay in log.stays)
    assert [event for event in first if isinstance(event, Absent | Change)] == [CHANGES[0][1], CHANGES[4][1]]
    assert second == [CHANGES[5][1], CHANGES[6][1]], "the second deck's, though the parameter is to hold long after the song"
    assert third == [CHANGES[9][1], CHANGES[10][1]]


def test_a_change_to_a_song_that_the_log_does_not_hold_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "events.jsonl", new_session(tmp_path), [CHANGES[1], CHANGES[3]])
    with pytest.raises(LogError, match="line 3: the song 'soft' begins, but its configuration is not in the log"):
        Log.read(path)


@pytest.mark.parametrize("deck", [0, 1])
@pytest.mark.parametrize("event", [event for _, event in CHANGES] + EVENTS, ids=lambda event: type(event).__name__)
def test_a_line_says_the_deck(event: Event, deck: int) -> None:
    line = to_line(event, deck)
    assert from_line(line) == (deck, event)
    assert msgspec.json.decode(line).get("deck", 0) in (deck, getattr(event, "deck", 0))


def the_feature(k: int) -> np.ndarray:
    """Chords that change every half second, with a rest now and then."""
    rng = np.random.default_rng(k // 50)
    x = np.zeros(N_HEARD, np.float32)
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


class Stage:
    """A performer that is driven by hand; we are everybody else."""

    def __init__(self, folder: Path, config: Config | None = None) -> None:
        self.session = new_session(folder, config)
        self.events: list[Event] = []

    def make(self) -> PerformerRole:
        return PerformerRole(self.session)

    def spawn(self) -> None:
        self.worker = self.make()
        self.worker.prepare()

    def hop(self, k: int) -> None:
        self.session.features.write(the_feature(k), (k + 1) * HOP)

    def step(self) -> None:
        self.worker.step()
        self.collect()

    def collect(self) -> None:
        self.events += self.session.receive("recorder")
        self.session.receive("gateway")
        self.session.receive("midi")

    def die(self) -> None:
        """What the supervisor tells, and does."""
        tell_exit(self.session, "performer")
        self.session.role("performer")[RESTARTS] += 1

    def kinds(self, *kinds: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kinds)]


def rerun(folder: Path, log: Log, config: Config | None = None) -> Stage:
    """The same again, as the log has it."""
    stage = Stage(folder, config)
    again = Rerun(stage.session, "performer", log.stints(log.stays[0], "performer"), stage.make)
    for k in range(N_HOPS):
        stage.hop(k)
        again.step((k + 1) * HOP)
        stage.collect()
    return stage


@pytest.mark.parametrize("deaths", [(), ((300, 340), (700, 705), (706, 800))], ids=["whole", "dies"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_performer_plays_the_same_notes_again(tmp_path: Path, seed: int, deaths: tuple[tuple[int, int], ...]) -> None:
    """It is told this and that, some of it late, joins late itself, dies and is followed by others; the log makes it all happen again."""
    live = Stage(tmp_path)
    for k in range(7):
        live.hop(k)
    live.spawn()
    rows, alive = said(random.Random(seed)), True
    for k in range(7, N_HOPS):
        for _, producer, event in [row for row in rows if row[0] == k or (k == 7 and row[0] < 7)]:
            assert live.session.emit(producer, event, "performer", "recorder")
        if any(k == began for began, _ in deaths):
            alive = False
            live.die()
        if any(k == ended for _, ended in deaths):
            alive = True
            live.spawn()
        live.hop(k)
        if alive:
            live.step()
    live.die()
    live.collect()
    notes = live.kinds(Note)
    assert len(notes) > 10
    assert live.kinds(Late)

    log = read(tmp_path, live.session, live.events)
    assert len(log.stints(log.stays[0], "performer")) == 1 + len(deaths)
    again = rerun(tmp_path, log)
    assert again.kinds(Note) == notes
    assert again.kinds(Late) == live.kinds(Late)
    assert again.kinds(Entry) == live.kinds(Entry)


def test_positions_that_were_late_are_late_again_though_they_come_in_time(tmp_path: Path) -> None:
    config = parse({"generation": {"tempo_bpm": 140.0, "grid": 6}, "recording": {"folder": "shows"}})
    spoken = list(range(10, 380, 5))
    come = [k + 5 if k % 3 == 0 else k for k in spoken]

    def play(arrivals: list[int], log: Log | None) -> list[Event]:
        stage = Stage(tmp_path, config)
        session = stage.session
        stage.spawn()
        if log is not None:
            stage.worker = Rerun(session, "performer", log.stints(log.stays[0], "performer"), stage.make).worker
        stage.worker.follows = True
        for k in range(400):
            for hop, arrival in zip(spoken, arrivals, strict=True):
                if arrival == k:
                    frame = hop * HOP
                    session.emit("follower", Position(frame, frame + 960, hop / 62, hop / 62, 96.0, 0.9, "LOCKED"), "performer")
            stage.hop(k)
            stage.step()
        return stage.events

    live = play(come, None)
    assert sum(isinstance(event, Late) for event in live) > 5
    assert sum(isinstance(event, Note) for event in live) > 5
    log = read(tmp_path, new_session(tmp_path, config), live)
    assert play(spoken, log) == live
    assert play(spoken, None) != live
