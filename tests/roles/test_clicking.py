"""The performer's click: who hears it, what asks for it, and what it counts in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtserver.config import parse
from rtserver.demo import SCORE
from rtserver.dsp.layout import LEVEL, N_HEARD
from rtserver.events import Beat, Command, Note, Param, Position, Refused
from rtserver.following.score import load_score
from rtserver.roles.performer import PerformerRole
from rtserver.shared.memory import Layout
from rtserver.shared.session import Session, Setup

RATE, HOP = 48000, 480
HORIZON = 2400 + 2 * 128
FREE = HORIZON + 9600  # where the tempo is fixed
QUARTER = 28800  # frames at 100 quarters a minute
HEARD = {"ports": {"synth": {}, "ear": {"parts": ["click"]}}}


class Stage:
    """A performer whose hops the test makes. No network unless it is asked for."""

    def __init__(self, folder: Path, score: bool = False, **raw: Any) -> None:
        config = parse({"generation": {"enabled": False}, "click": {"enabled": True}} | raw)
        file = ""
        if score:
            file = str(folder / "score.npz")
            load_score(SCORE).to_npz(file)
        layout = Layout()
        Session.declare(layout, 1, 1, N_HEARD)
        self.session = Session.create(layout, Setup(config, str(folder), file))
        self.role = PerformerRole(self.session)
        self.role.prepare()
        self.frame = 0
        self.told: list[Any] = []  # to the gateway
        self.sent: list[Any] = []  # to midi

    def run(self, n_hops: int) -> list[Note]:
        """Let hops of silence pass: the clicks that were told."""
        x, before = np.zeros(N_HEARD, np.float32), len(self.told)
        x[LEVEL] = -120.0
        for _ in range(n_hops):
            self.frame += HOP
            self.session.features.write(x, self.frame)
            self.role.step()
            self.told += self.session.receive("gateway")
            self.sent += [e for e in self.session.receive("midi") if isinstance(e, Note)]
        return [e for e in self.told[before:] if isinstance(e, Note) and e.part == "click"]

    def ask(self, name: str, value: float | None = None) -> None:
        self.session.emit("gateway", Command(self.frame + 1, self.frame, name, value), "performer")

    def follow(self, quarter: float, state: str = "LOCKED", tempo_bpm: float = 100.0) -> None:
        self.session.emit("follower", Position(self.frame, self.frame + HOP, quarter, quarter, tempo_bpm, 1.0, state), "performer")


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., Stage]:
    return lambda **raw: Stage(tmp_path, **raw)


def frames(notes: list[Note]) -> list[int]:
    return [note.frame for note in notes]


def test_a_click_needs_no_network(stage: Callable[..., Stage]) -> None:
    playing = stage()
    assert frames(playing.run(200)) == [HOP + FREE + k * QUARTER for k in range(4)]
    assert playing.session.counters("performer")["clicks"] == 4
    assert playing.session.counters("performer")["late_clicks"] == 0


def test_a_port_that_does_not_name_the_click_is_not_sent_it(stage: Callable[..., Stage]) -> None:
    playing = stage()
    assert playing.run(200)
    assert playing.sent == []


def test_a_port_that_names_it_is(stage: Callable[..., Stage]) -> None:
    playing = stage(midi=HEARD)
    assert playing.run(200) == playing.sent


def test_pitches_channel_and_metre_are_those_of_the_configuration(stage: Callable[..., Stage]) -> None:
    click = {"enabled": True, "pitch": 50, "accent_pitch": 60, "channel": 3, "velocity": 40, "accent_velocity": 80}
    notes = stage(click=click, generation={"enabled": False, "metre": "2/4"}).run(200)
    assert [(note.pitch, note.velocity, note.channel) for note in notes] == [(60, 80, 2), (50, 40, 2)] * 2


def test_it_can_be_switched_and_divided_while_it_runs(stage: Callable[..., Stage]) -> None:
    playing = stage()
    playing.run(100)
    for name, value in (("click.enabled", False), ("click.subdivision", 2.0)):
        playing.session.emit("gateway", Param(playing.frame + 1, playing.frame, name, value), "performer")
    assert playing.run(300) == []
    playing.session.emit("gateway", Param(playing.frame + 1, playing.frame, "click.enabled", True), "performer")
    assert set(np.diff(frames(playing.run(200)))) == {QUARTER // 2}


def test_bars_are_counted_in_before_a_free_clock_and_the_performer_waits(stage: Callable[..., Stage]) -> None:
    playing = stage(click={"count_in_bars": 1}, generation={"tempo_bpm": 100.0, "grid": 6})
    clicks = playing.run(600)
    assert frames(clicks) == [HOP + FREE + k * QUARTER for k in range(4)]
    first = min(note.frame for note in playing.told if isinstance(note, Note) and note.part == "performer")
    assert first >= HOP + FREE + 4 * QUARTER


def test_a_free_clock_that_is_told_to_count_in_starts_anew(stage: Callable[..., Stage]) -> None:
    playing = stage(click={"count_in_bars": 1})
    playing.run(1000)
    playing.ask("count_in", 2)
    at = playing.frame + HOP + FREE
    assert frames(playing.run(1000)) == [at + k * QUARTER for k in range(8)]
    assert playing.role.transport.frame_of(0.0) == at + 8 * QUARTER


def test_who_is_counted_in_need_not_begin_with_a_key(stage: Callable[..., Stage]) -> None:
    playing = stage(click={}, generation={"tempo_bpm": 100.0, "start": "first_note"})
    assert playing.run(100) == []
    playing.ask("count_in", 1)
    assert len(playing.run(500)) == 4
    assert playing.role.transport.quarter_at(playing.frame) > 0


def test_where_a_score_is_followed_a_count_in_leads_to_where_the_follower_stands(stage: Callable[..., Stage]) -> None:
    playing = stage(score=True, click={})
    score = load_score(SCORE)
    quarter = score.quarter_of_bar(3)
    playing.follow(quarter, "WAITING")
    playing.run(10)
    playing.ask("count_in")
    at, beat = playing.frame + HOP + HORIZON, 60.0 * RATE / score.tempo_bpm[0]
    notes = playing.run(2000)
    metre_beats = int(score.metre[0, 0])
    assert frames(notes) == [at + round(k * beat) for k in range(metre_beats)]
    assert [note.pitch for note in notes] == [76] + [77] * (metre_beats - 1)


def test_while_the_clock_runs_with_the_player_a_count_in_is_refused(stage: Callable[..., Stage]) -> None:
    playing = stage(score=True, click={})
    for _ in range(5):
        playing.follow(8.0 + playing.frame / QUARTER)
        playing.run(1)
    playing.ask("count_in", 1)
    assert playing.run(50) == []
    (refused,) = [e for e in playing.told if isinstance(e, Refused)]
    assert refused.what == "command count_in"


def test_where_a_midi_clock_is_followed_a_count_in_has_its_last_tempo(stage: Callable[..., Stage]) -> None:
    playing = stage(click={}, midi={"clock_from": "midi_in"})
    playing.session.emit("midi", Beat(HOP, HOP, 8.0, 60.0, True, "midi_in"), "performer")
    playing.session.emit("midi", Beat(2 * HOP, 2 * HOP, 8.0, 60.0, False, "midi_in"), "performer")
    playing.run(10)
    playing.ask("count_in", 1)
    assert list(np.diff(frames(playing.run(500)))) == [RATE] * 3


@pytest.mark.parametrize("command", ["panic", "reset"])
def test_a_panic_ends_a_count_in(stage: Callable[..., Stage], command: str) -> None:
    playing = stage(score=True, click={})
    playing.ask("count_in", 4)
    playing.run(100)
    playing.ask(command)
    playing.run(1)
    assert playing.run(500) == []


def test_the_click_is_the_same_however_often_it_is_played(tmp_path: Path) -> None:
    def play(name: str) -> list[Note]:
        folder = tmp_path / name
        folder.mkdir()
        playing = Stage(folder, score=True)
        for k in range(300):
            playing.follow(0.4 * (k // 20), tempo_bpm=90.0 + k % 7)
            playing.run(1)
        return [e for e in playing.told if isinstance(e, Note)]

    assert play("a") == play("b") != []
