"""The follower role by hand, and its cues: what is told and done in a session, in a replay, and after a death."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from rtserver.config import Config, Cue, Cues, Following, Recording
from rtserver.demo import SCORE
from rtserver.dsp.layout import N_FEATURES
from rtserver.events import Bar, Command, Event, MidiIn, Note, Param, Position, Refused, State, Tempo, to_json
from rtserver.events import Cue as Fired
from rtserver.following.score import load_score
from rtserver.recording.log import header
from rtserver.replay import Log, Rerun
from rtserver.roles.follower import FollowerRole
from rtserver.shared.memory import Layout
from rtserver.shared.session import RESTARTS, Session, Setup

T = TypeVar("T")
HOP, RATE = 480, 48000
EFFECT = 960
DEMO = load_score(SCORE)
CUES = [
    Cue("plain", "bar 2"),
    Cue("mute", "bar 3", lead_s=0.3, parameter="outputs.harmonic.mute", value=True),
    Cue("warm", "bar 3 beat 2", parameter="generation.temperature", value=0.5),
    Cue("bell", "bar 4", lead_s=0.2, command="note", value="84 100 0.5 3"),
    Cue("next", "bar 4 beat 2", command="song", value="next"),
    Cue("off", "bar 5", armed=False),
    Cue("back", "bar 6", command="seek", value="bar 2"),
]


def new_session(folder: Path, cues: list[Cue]) -> Session:
    layout = Layout()
    Session.declare(layout, 1, 1, N_FEATURES)
    DEMO.to_npz(folder / "score.npz")
    config = Config(following=Following(keys="midi_in"), cues=Cues(cue=cues), recording=Recording(folder="shows"))
    return Session.create(layout, Setup(config, str(folder), str(folder / "score.npz")))


class Stage:
    """A role and somebody at the keys; `told` is what the recorder heard, as in a log."""

    def __init__(self, folder: Path, cues: list[Cue] | None = None) -> None:
        self.session = new_session(folder, CUES if cues is None else cues)
        self.role = FollowerRole(self.session)
        self.role.prepare()
        self.told: list[Event] = []
        self.frame = 0

    def play(self, begin: float, end: float) -> None:
        start = float(DEMO.seconds_at(begin))
        notes = DEMO.notes
        wanted = (notes.onset_quarter >= begin - 1e-6) & (notes.onset_quarter < end - 1e-6)
        at = ((DEMO.seconds_at(notes.onset_quarter[wanted]) - start) * RATE / HOP).astype(int)
        for n in range(round((float(DEMO.seconds_at(end)) - start) * RATE / HOP)):
            for pitch in notes.pitch[wanted][at == n].tolist():
                self.session.emit("midi", MidiIn(self.frame, self.frame + HOP, "midi_in", bytes((0x90, pitch, 80))), "follower", "gateway")
            self.hop()

    def hop(self) -> None:
        self.frame += HOP
        self.session.features.write(np.zeros(N_FEATURES, np.float32), self.frame)
        self.role.step()
        self.told += self.session.receive("recorder")

    def say(self, name: str, value: float | str | None = None) -> None:
        self.session.emit("gateway", Command(self.frame + EFFECT, self.frame, name, value), "follower", "recorder")

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.told if isinstance(event, kind)]

    def fired(self) -> list[tuple[str, str]]:
        return [(event.name, event.how) for event in self.of(Fired)]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def bar(number: int) -> float:
    return float(DEMO.quarter_of_bar(number))


def test_cues_fire_in_order_and_what_they_ask_for_goes_to_its_roles(stage: Stage) -> None:
    stage.play(0.0, bar(5) + 1.0)
    assert stage.fired() == [(name, "place") for name in ("plain", "mute", "warm", "bell", "next")]
    frames = {event.name: event.frame for event in stage.of(Fired)}
    assert [(e.frame, e.name, e.value) for e in stage.of(Param)] == [
        (frames["mute"], "outputs.harmonic.mute", True),
        (frames["warm"], "generation.temperature", 0.5),
    ]
    assert [type(e) for e in stage.session.receive("engine")] == [Param]
    assert [e.name for e in stage.session.receive("performer") if isinstance(e, Param)] == ["generation.temperature"]
    assert [(e.name, e.value) for e in stage.session.receive("supervisor") if isinstance(e, Command)] == [("song", "next")]
    (note,) = stage.session.receive("midi")
    assert isinstance(note, Note)
    assert (note.frame, note.pitch, note.velocity, note.duration, note.channel) == (frames["bell"], 84, 100, 24000, 2)


def test_a_lead_puts_the_action_at_the_place(stage: Stage) -> None:
    stage.play(0.0, bar(4))
    (mute,) = [event for event in stage.of(Fired) if event.name == "mute"]
    true = float(DEMO.seconds_at(bar(3))) * RATE
    assert mute.frame == pytest.approx(true, abs=0.1 * RATE)
    assert mute.frame - mute.available_frame > 0.15 * RATE


def test_a_cue_may_send_the_follower_back_and_none_fires_twice(stage: Stage) -> None:
    stage.play(0.0, bar(6) + 0.5)
    before = stage.fired()
    assert before[-1] == ("back", "place")
    stage.play(bar(2), bar(4))
    assert stage.fired() == before
    last = stage.of(Position)[-1]
    assert bar(3) < last.quarter <= bar(4) + 0.5


def test_bars_tempo_and_states_are_told_with_the_frames_of_their_position(stage: Stage) -> None:
    stage.hop()
    stage.play(0.0, bar(4) + 0.5)
    assert [event.bar for event in stage.of(Bar)] == ["1", "2", "3", "4"]
    assert stage.of(State)[0].state == "WAITING"
    assert stage.of(Tempo)
    frames = {event.frame: event.available_frame for event in stage.of(Position)}
    for event in (*stage.of(Bar), *stage.of(State), *stage.of(Tempo)):
        assert frames[event.frame] == event.available_frame == event.frame + EFFECT


def test_by_hand_they_are_armed_fired_and_taken_back(stage: Stage) -> None:
    stage.say("cue", "disarm plain")
    stage.say("cue", "arm off")
    for _ in range(4):
        stage.hop()
    stage.say("cue", "go")
    for _ in range(4):
        stage.hop()
    assert stage.fired() == [("mute", "hand")], "the first one is disarmed"
    assert stage.of(Fired)[0].next == "warm"
    stage.say("cue", "back")
    for _ in range(4):
        stage.hop()
    stage.play(0.0, bar(5) + 1.0)
    assert stage.fired()[1:] == [("mute", "back"), *((name, "place") for name in ("mute", "warm", "bell", "next", "off"))]


@pytest.mark.parametrize(
    ("name", "value", "detail"),
    [("seek", "bar 999", "no bar '999'"), ("untap", None, "no tap to undo"), ("cue", "back", "no cue has fired"), ("cue", "arm x", "'x'")],
)
def test_what_cannot_be_done_is_told_and_changes_nothing(stage: Stage, name: str, value: str | None, detail: str) -> None:
    stage.play(0.0, 2.0)
    stage.say(name, value)
    stage.play(2.0, 6.0)
    (refused,) = stage.of(Refused)
    assert refused.role == "follower"
    assert refused.what == f"command {name} {value or ''}".rstrip()
    assert detail in refused.detail
    assert stage.of(Position)[-1].quarter == pytest.approx(6.0, abs=0.4)


def test_start_at_lets_everything_fire_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path, [Cue("early", "bar 1"), Cue("plain", "bar 2")])
    stage.play(0.0, bar(3))
    stage.say("start_at", "bar 2")
    for _ in range(4):
        stage.hop()
    stage.play(bar(2), bar(3))
    assert stage.fired() == [("early", "place"), ("plain", "place"), ("plain", "place")]


def test_an_heir_does_not_fire_again_what_has_fired(stage: Stage) -> None:
    stage.play(0.0, bar(3) + 0.5)
    before = stage.fired()
    stage.session.role("follower")[RESTARTS] = 1
    stage.role = FollowerRole(stage.session)
    stage.role.prepare()
    stage.play(0.0, bar(4) + 0.5)
    assert stage.fired()[: len(before)] == before
    assert [name for name, _ in stage.fired()] == sorted({name for name, _ in stage.fired()}, key=[cue.name for cue in CUES].index)


def test_a_replay_tells_the_same(stage: Stage, tmp_path: Path) -> None:
    """Taps, loops and cues are commands in the log; those that cues gave are made again, not told again."""
    stage.say("loop", "bar 2 to bar 3")
    stage.play(0.0, bar(4))
    stage.play(bar(2), bar(3))
    stage.say("tap", "beat")
    stage.say("loop", "off")
    stage.play(bar(3), bar(5))
    stage.say("untap")
    stage.say("cue", "go")
    stage.play(bar(5), bar(5) + 0.5)
    stage.play(bar(2), bar(3))
    assert stage.fired()[-1] == ("back", "hand")
    assert stage.of(Position)[-1].quarter < bar(4), "the cue has sent it back"
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(to_json(event) + b"\n" for event in [header(stage.session, 0, 0), *stage.told]))
    log = Log.read(path)
    session = new_session(tmp_path, CUES)
    rerun = Rerun(session, "follower", log.stints(log.stays[0], "follower"), lambda: FollowerRole(session))
    again: list[Event] = []
    for frame in range(HOP, stage.frame + HOP, HOP):
        session.features.write(np.zeros(N_FEATURES, np.float32), frame)
        rerun.step(frame)
        again += session.receive("recorder")
    kinds = (Position, Bar, State, Tempo, Fired, Refused, Param, Note)
    assert [e for e in again if isinstance(e, kinds)] == [e for e in stage.told if isinstance(e, kinds)]
