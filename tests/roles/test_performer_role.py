"""The performer role by hand: what it is told takes effect, what it cannot do is refused, and all of it happens again in a replay."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from rtserver.config import Config, Generation, Midi, Recording
from rtserver.demo import SCORE
from rtserver.dsp.layout import LEVEL, N_HEARD
from rtserver.events import Command, Event, Late, MidiIn, Note, Param, Plan, Position, Refused, to_json
from rtserver.following.score import Score, load_score
from rtserver.recording.log import header
from rtserver.replay import Log, Rerun
from rtserver.roles.performer import PerformerRole
from rtserver.shared.memory import Layout
from rtserver.shared.session import Session, Setup
from rtserver.verdict import WHOLE_FILE

T = TypeVar("T")
HOP, RATE = 480, 48000
EFFECT = 960
QUARTER = RATE // 2
SILENCE = np.zeros(N_HEARD, np.float32)
SILENCE[LEVEL] = -120.0


def new_session(folder: Path, generation: Generation, score: Score | None = None, whole: Score | None = None) -> Session:
    layout = Layout()
    Session.declare(layout, 1, 1, N_HEARD)
    file = ""
    if score is not None:
        file = str(folder / "score.npz")
        score.to_npz(file)
    if whole is not None:
        whole.to_npz(folder / WHOLE_FILE)
    config = Config(generation=generation, midi=Midi(), recording=Recording(folder="shows"))
    return Session.create(layout, Setup(config, str(folder), file))


class Stage:
    """A role and somebody who plays; `told` is what the recorder heard, as in a log."""

    def __init__(self, folder: Path, score: Score | None = None, whole: Score | None = None, **generation: Any) -> None:
        self.generation = Generation(**{"tempo_bpm": 120.0, "grid": 6, "scale": "C major", "seed": 5, **generation})
        self.session = new_session(folder, self.generation, score, whole)
        self.role = PerformerRole(self.session)
        self.role.prepare()
        self.told: list[Event] = []
        self.frame = 0

    def hops(self, n: int) -> None:
        for _ in range(n):
            self.frame += HOP
            self.session.features.write(SILENCE, self.frame)
            self.look()

    def look(self) -> None:
        """It is woken."""
        self.role.step()
        self.told += self.session.receive("recorder")
        self.session.receive("midi")
        self.session.receive("follower")

    def key(self, pitch: int, velocity: int, after: int = 0) -> None:
        """A key, `after` frames after the last hop."""
        event = MidiIn(self.frame + after, self.frame + after + HOP, "midi_in", bytes((0x90, pitch, velocity)))
        self.session.emit("midi", event, "performer", "gateway")

    def say(self, event: Event) -> None:
        self.session.emit("gateway", event, "performer", "recorder")

    def set(self, name: str, value: float | str | bool) -> None:
        self.say(Param(self.frame + EFFECT, self.frame, f"generation.{name}", value))

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.told if isinstance(event, kind)]


def test_the_clock_waits_for_the_first_key_and_begins_with_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path, start="first_note")
    stage.hops(200)
    assert not stage.of(Note)
    stage.key(60, 90, after=100)
    stage.look()
    first = stage.of(Note)[0]
    assert first.frame == stage.frame + 100, "at once, without a hop between"
    stage.hops(200)
    onsets = [(note.frame - first.frame) / QUARTER * 4 for note in stage.of(Note)]
    assert len(onsets) > 4
    assert np.allclose(onsets, np.round(onsets), atol=1e-3), "the beat is that of the first key"


def test_after_a_reset_it_waits_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path, start="first_note")
    stage.hops(3)
    stage.key(60, 90)
    stage.hops(200)
    stage.say(Command(stage.frame, stage.frame, "reset"))
    stage.hops(2)
    before = len(stage.of(Note))
    stage.hops(300)
    assert len(stage.of(Note)) == before
    stage.key(64, 90, after=7)
    stage.look()
    assert stage.of(Note)[before].frame == stage.frame + 7


def test_a_first_key_between_two_hops_happens_again_in_a_replay(tmp_path: Path) -> None:
    stage = Stage(tmp_path, start="first_note")
    stage.hops(20)
    stage.key(60, 90, after=100)
    stage.look()
    stage.hops(30)
    stage.key(60, 0)
    stage.hops(100)
    stage.say(Command(stage.frame + HOP, stage.frame, "reset"))
    stage.hops(20)
    stage.key(67, 70, after=479)
    stage.look()
    stage.set("scale", "F major")
    stage.hops(300)
    assert len(stage.of(Late)) == 2

    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(to_json(event) + b"\n" for event in [header(stage.session, 0, 0), *stage.told]))
    log = Log.read(path)
    session = new_session(tmp_path, stage.generation)
    rerun = Rerun(session, "performer", log.stints(log.stays[0], "performer"), lambda: PerformerRole(session))
    again: list[Event] = []
    for frame in range(HOP, stage.frame + HOP, HOP):
        session.features.write(SILENCE, frame)
        rerun.step(frame)
        again += session.receive("recorder")
        session.receive("midi")
    kinds = (Note, Late, Plan)
    assert [e for e in again if isinstance(e, kinds)] == [e for e in stage.told if isinstance(e, kinds)]


def test_the_plan_is_told_and_comes_true(tmp_path: Path) -> None:
    stage = Stage(tmp_path, mode="free")
    stage.hops(100)
    plan = stage.of(Plan)[-1]
    assert len(plan.notes) > 3
    stage.hops(400)
    start = stage.of(Note)[0].frame - round(_place(stage.of(Plan)[0], stage.of(Note)[0]) * QUARTER)
    tick, planned = round(plan.quarter * 24), list[tuple[int, int]]()
    for step, pitch, _ in plan.notes:
        tick += step
        planned.append((tick, pitch))
    played = [(round((n.frame - start) / QUARTER * 24), n.pitch) for n in stage.of(Note)]
    first = played.index(planned[0])
    assert played[first : first + len(planned)] == planned


def _place(plan: Plan, note: Note) -> float:
    """Where the first note of a session lies; the clock begins with the first hop."""
    return (note.frame - HOP) / QUARTER


def test_plans_are_told_ten_times_a_second_at_most_and_count_up(tmp_path: Path) -> None:
    stage = Stage(tmp_path, mode="free")
    stage.hops(500)
    plans = stage.of(Plan)
    assert [plan.revision for plan in plans] == list(range(1, len(plans) + 1))
    assert min(b.frame - a.frame for a, b in pairwise(plans)) >= RATE // 10


@pytest.mark.parametrize(
    ("name", "value", "holds"),
    [
        ("chord", "Am", lambda note: note.pitch % 12 in (9, 0, 4)),
        ("scale", "C minor pentatonic", lambda note: note.pitch % 12 in (0, 3, 5, 7, 10)),
        ("pitch_low", 72.0, lambda note: note.pitch >= 72),
        ("pitch_high", 52.0, lambda note: note.pitch <= 52),
        ("max_duration", 6.0, lambda note: note.duration <= QUARTER // 4),
    ],
)
def test_a_limit_set_while_it_plays_holds_from_then_on(tmp_path: Path, name: str, value: float | str, holds: Any) -> None:
    stage = Stage(tmp_path, mode="free")
    stage.hops(200)
    before = len(stage.of(Note))
    stage.set(name, value)
    stage.hops(5)
    between = len(stage.of(Note))
    stage.hops(500)
    after = stage.of(Note)[between:]
    assert before
    assert len(after) > 5
    assert all(holds(note) for note in after)
    assert not stage.of(Refused)


@pytest.mark.parametrize(("name", "value"), [("chord", "F#"), ("pitch_low", 90.0), ("grid", 7.0), ("min_duration", 96.0)])
def test_limits_that_contradict_each_other_are_refused_and_it_plays_on(tmp_path: Path, name: str, value: float | str) -> None:
    stage = Stage(tmp_path, mode="free", max_dt=48)
    stage.hops(100)
    stage.set(name, value)
    stage.hops(300)
    assert [refused.role for refused in stage.of(Refused)] == ["performer"]
    assert f"generation.{name}" in stage.of(Refused)[0].what
    assert [note for note in stage.of(Note) if note.frame > stage.frame - 200 * HOP]


def test_another_mode_begins_at_a_bar_line(tmp_path: Path) -> None:
    stage = Stage(tmp_path, mode="continue")
    stage.hops(60)
    stage.set("mode", "free")
    stage.hops(400)
    assert (stage.of(Note)[0].frame - HOP) / QUARTER >= 4.0


def test_disabled_it_is_silent_and_enabled_again_it_plays(tmp_path: Path) -> None:
    stage = Stage(tmp_path, mode="free")
    stage.hops(100)
    stage.set("enabled", False)
    stage.hops(10)
    silent = len(stage.of(Note))
    stage.hops(300)
    assert len(stage.of(Note)) == silent > 0
    stage.set("enabled", True)
    stage.hops(300)
    assert len(stage.of(Note)) > silent


def test_its_own_notes_that_come_back_as_keys_are_not_heard(tmp_path: Path) -> None:
    stage = Stage(tmp_path, mode="accompany")
    heard = 0
    for _ in range(600):
        known = len(stage.of(Note))
        stage.hops(1)
        for note in stage.of(Note)[known:]:
            event = MidiIn(note.frame + 200, note.frame + 200 + HOP, "midi_in", bytes((0x90, note.pitch, note.velocity)))
            stage.session.emit("midi", event, "performer", "gateway")
            heard += 1
    assert heard > 10
    assert not stage.role.playing.accompanist.listener.keys


def locked(frame: int, quarter: float) -> Position:
    return Position(frame, frame + EFFECT, quarter, quarter, 120.0, 1.0, "LOCKED")


def test_the_parts_of_a_score_that_are_not_followed_are_played_along(tmp_path: Path) -> None:
    """A score of which all is followed but named to be played, too: every note at the follower's time."""
    score = load_score(SCORE)
    stage = Stage(tmp_path, score, mode="along", parts=[1], fill=False)
    for k in range(800):
        stage.session.emit("follower", locked(k * HOP, k * HOP / QUARTER), "performer", "gateway")
        stage.hops(1)
    played = [(round((n.frame / QUARTER) * 24), n.pitch) for n in stage.of(Note)]
    until = 780 * HOP / QUARTER
    onset, pitch = score.notes.onset_quarter, score.notes.pitch
    wanted = sorted({(round(float(q) * 24), int(p)) for q, p in zip(onset, pitch, strict=True) if 0.2 < q < until - 0.2})
    missing = [w for w in wanted if not any(abs(w[0] - p[0]) <= 1 and w[1] == p[1] for p in played)]
    assert {note.part for note in stage.of(Note)} == {"score"}
    assert len(wanted) > 10
    assert not missing


def test_a_plan_that_has_been_played_to_its_end_is_told_as_empty(tmp_path: Path) -> None:
    score = load_score(SCORE)
    stage = Stage(tmp_path, score, mode="along", parts=[1], fill=False)
    start = score.length_quarter - 4.0
    for k in range(600):
        stage.session.emit("follower", locked(k * HOP, start + k * HOP / QUARTER), "performer", "gateway")
        stage.hops(1)
    assert stage.of(Note)
    assert stage.of(Plan)[-1].notes == []
