"""The follower role among our own notes: keys that come back are counted and not followed, a replay does the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtserver.config import Config, Cue, Cues, Following, Midi, Recording
from rtserver.config.midi import MidiPort
from rtserver.demo import SCORE
from rtserver.dsp.layout import N_FEATURES
from rtserver.events import Event, Late, MidiIn, Note, Position, to_json
from rtserver.following.score import load_score
from rtserver.recording.log import header
from rtserver.replay import Log, Rerun
from rtserver.roles.follower import FollowerRole
from rtserver.shared.memory import Layout
from rtserver.shared.session import Session, Setup

HOP, RATE = 480, 48000
DEMO = load_score(SCORE)


def new_session(
    folder: Path, own_notes: str = "ignore", keys: str = "midi_in", offset_s: float = 0.0, cues: list[Cue] | None = None
) -> Session:
    layout = Layout()
    Session.declare(layout, 1, 1, N_FEATURES)
    DEMO.to_npz(folder / "score.npz")
    midi = Midi(ports={"midi_in": MidiPort(input=True, offset_s=offset_s)})
    following = Following(keys=keys, own_notes=own_notes)  # pyright: ignore[reportArgumentType]
    config = Config(following=following, midi=midi, cues=Cues(cue=cues or []), recording=Recording(folder="shows"))
    return Session.create(layout, Setup(config, str(folder), str(folder / "score.npz")))


class Loop:
    """A role in a room where every note that is sent comes back as a key, a few milliseconds later. `told`: what the recorder heard."""

    def __init__(self, session: Session) -> None:
        self.session, self.frame = session, 0
        self.role = FollowerRole(session)
        self.role.prepare()
        self.told: list[Event] = []
        self.coming: list[tuple[int, int]] = []

    def send(self, pitch: int, in_s: float = 0.05, back_s: float = 0.004, part: str = "client") -> None:
        """A note is decided now."""
        note = Note(self.frame + round(in_s * RATE), self.frame, self.frame * 1000 + pitch, pitch, 80, RATE // 4, 0, part)
        self.session.emit("gateway" if part == "client" else "midi", note, "follower", "recorder")
        self.coming.append((note.frame + round(back_s * RATE), pitch))

    def strike(self, pitch: int) -> None:
        self.coming.append((self.frame + 1, pitch))

    def hop(self, n: int = 1) -> None:
        for _ in range(n):
            for frame, pitch in [key for key in self.coming if key[0] < self.frame + HOP]:
                data = bytes((0x90, pitch, 80))
                self.session.emit("midi", MidiIn(frame, frame + HOP, "midi_in", data), "follower", "gateway")
            self.coming = [key for key in self.coming if key[0] >= self.frame + HOP]
            self.frame += HOP
            self.session.features.write(np.zeros(N_FEATURES, np.float32), self.frame)
            self.role.step()
            self.told += self.session.receive("recorder")

    @property
    def positions(self) -> list[Position]:
        return [event for event in self.told if isinstance(event, Position)]

    def count(self, counter: str) -> int:
        return self.session.counters("follower")[counter]


def score_by_ourselves(loop: Loop) -> None:
    """The server plays the beginning of the score itself."""
    at = (DEMO.seconds_at(DEMO.notes.onset_quarter) * RATE / HOP).astype(int)
    for n in range(400):
        for pitch in DEMO.notes.pitch[at == n].tolist():
            loop.send(int(pitch))
        loop.hop()


def test_it_does_not_follow_what_it_plays_itself(tmp_path: Path) -> None:
    loop = Loop(new_session(tmp_path))
    score_by_ourselves(loop)
    assert {p.state for p in loop.positions} == {"WAITING"}
    assert loop.count("own_keys") > 20
    assert loop.count("own_notes") >= loop.count("own_keys")


def test_it_does_where_it_is_told_to_hear(tmp_path: Path) -> None:
    loop = Loop(new_session(tmp_path, own_notes="hear"))
    score_by_ourselves(loop)
    assert loop.positions[-1].state == "LOCKED"
    assert loop.count("own_keys") == 0


@pytest.mark.parametrize("offset_s", [-0.03, 0.2])
def test_a_port_that_sends_earlier_or_later_comes_back_so(tmp_path: Path, offset_s: float) -> None:
    loop = Loop(new_session(tmp_path, offset_s=offset_s))
    loop.send(67, back_s=offset_s + 0.004)
    loop.hop(40)
    assert loop.count("own_keys") == 1
    assert {p.state for p in loop.positions} == {"WAITING"}


def test_what_the_player_strikes_beside_it_counts(tmp_path: Path) -> None:
    loop = Loop(new_session(tmp_path))
    loop.send(67)
    loop.hop(5)
    loop.strike(74)
    loop.hop(5)
    assert loop.count("own_keys") == 1
    assert loop.positions[-1].state != "WAITING"


def test_the_note_of_a_cue_is_our_own(tmp_path: Path) -> None:
    """It is the follower itself that sends it."""
    cue = Cue("bell", "bar 1", command="note", value="84 100 0.5 1")
    loop = Loop(new_session(tmp_path, cues=[cue]))
    for pitch in DEMO.notes.pitch[DEMO.notes.onset_quarter == 0.0].tolist():
        loop.strike(int(pitch))
    loop.hop(10)
    assert loop.count("own_notes") == 1


def test_a_replay_leaves_out_the_same_keys(tmp_path: Path) -> None:
    loop = Loop(new_session(tmp_path))
    at = (DEMO.seconds_at(DEMO.notes.onset_quarter) * RATE / HOP).astype(int)
    random = np.random.default_rng(0)
    for n in range(300):
        for pitch in DEMO.notes.pitch[at == n].tolist():
            loop.strike(int(pitch))
        if n % 7 == 0:
            loop.send(int(random.choice(DEMO.notes.pitch)), part=["client", "command"][n % 2])
        loop.hop()
    assert loop.count("own_keys") > 20
    assert not [event for event in loop.told if isinstance(event, Late)]
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(to_json(event) + b"\n" for event in [header(loop.session, 0, 0), *loop.told]))
    log = Log.read(path)
    session = new_session(tmp_path)
    rerun = Rerun(session, "follower", log.stints(log.stays[0], "follower"), lambda: FollowerRole(session))
    again: list[Event] = []
    for frame in range(HOP, loop.frame + HOP, HOP):
        session.features.write(np.zeros(N_FEATURES, np.float32), frame)
        rerun.step(frame)
        again += session.receive("recorder")
    assert [event for event in again if isinstance(event, Position)] == loop.positions
    assert session.counters("follower")["own_keys"] == loop.count("own_keys")
