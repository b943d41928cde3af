"""Clicks at the beats of the musical clock, and bars counted in."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.events import Note, Position
from rtserver.generation.click import Click, Strokes
from rtserver.generation.metre import Metre
from rtserver.transport import Transport

RATE, HOP, HORIZON = 48000, 480, 2400
QUARTER = 24000  # frames at 120 quarters a minute


class Stage:
    """A click, advanced hop by hop."""

    def __init__(self, metre: Metre | None = None, **options: object) -> None:
        self.transport = Transport(RATE)
        self.click = Click(self.transport, metre or Metre.fixed(), **{"enabled": True, **options})  # type: ignore[arg-type]
        self.notes: list[Note] = []
        self.frame = 0

    def run(self, n_hops: int) -> list[Note]:
        """What is clicked in so many hops."""
        before = len(self.notes)
        for _ in range(n_hops):
            self.frame += HOP
            self.click.advance(self.frame, HORIZON, self.notes.append)  # type: ignore[arg-type]
        return self.notes[before:]


def frames(notes: Iterable[Note]) -> list[int]:
    return [note.frame for note in notes]


def accents(notes: Iterable[Note]) -> str:
    return "".join("X" if note.velocity == 120 else "x" if note.velocity == 90 else "." for note in notes)


def test_every_beat_is_clicked_once_at_its_frame() -> None:
    stage = Stage()
    stage.click.start(4800)
    assert frames(stage.run(1000)) == [4800 + k * QUARTER for k in range(20)]


def test_bar_lines_have_an_accent() -> None:
    stage = Stage(Metre.fixed("3/4"))
    stage.click.start(4800)
    notes = stage.run(400)
    assert accents(notes) == "XxxXxxXx"
    assert {(note.pitch, note.channel, note.part) for note in notes} == {(76, 9, "click"), (77, 9, "click")}


def test_beats_are_divided_as_asked_and_what_lies_between_is_softer() -> None:
    stage = Stage(subdivision=3)
    stage.click.start(4800)
    notes = stage.run(210)
    assert accents(notes) == "X..x..x..x..X"
    assert frames(notes)[:3] == [4800, 4800 + 8000, 4800 + 16000]


def test_compound_metres_beat_dotted_quarters() -> None:
    stage = Stage(Metre.fixed("6/8"))
    stage.click.start(4800)
    notes = stage.run(300)
    assert accents(notes) == "XxXx"
    assert frames(notes)[1] == 4800 + 3 * QUARTER // 2


def test_bars_are_counted_in_although_the_click_is_off() -> None:
    stage = Stage(enabled=False)
    stage.click.start(4800, n_bars=2)
    notes = stage.run(1000)
    assert accents(notes) == "XxxxXxxx"
    assert stage.transport.frame_of(0.0) == 4800 + 8 * QUARTER
    assert stage.click.starts_at == 0.0


def test_a_count_in_is_of_whole_beats() -> None:
    stage = Stage(subdivision=2)
    stage.click.start(4800, n_bars=1)
    assert accents(stage.run(300)) == "XxxxX.x."


def test_somebody_who_enters_within_a_bar_is_counted_up_to_there() -> None:
    stage = Stage(enabled=False)
    stage.click.count_in(4800, 1, quarter=7.0, tempo_bpm=120.0)
    assert frames(stage.run(1000)) == [4800 + k * QUARTER for k in range(7)]
    assert accents(stage.notes) == "XxxxXxx"


@pytest.mark.parametrize("beside", [-0.1, 0.1])
def test_who_stands_beside_a_beat_is_counted_in_on_it(beside: float) -> None:
    stage = Stage(enabled=False)
    stage.click.count_in(4800, 1, quarter=8.0 + beside, tempo_bpm=120.0)
    assert accents(stage.run(1000)) == "Xxxx"


def test_a_count_in_ends_where_the_music_begins() -> None:
    stage = Stage(enabled=False)
    stage.click.count_in(4800, 2, quarter=0.0, tempo_bpm=120.0)
    stage.run(200)
    stage.transport.start(stage.frame)
    assert stage.run(500) == []


def test_a_count_in_has_the_tempo_that_is_asked_for() -> None:
    stage = Stage(enabled=False)
    stage.click.count_in(4800, 1, quarter=0.0, tempo_bpm=60.0)
    assert frames(stage.run(1000)) == [4800 + k * 2 * QUARTER for k in range(4)]


def test_nothing_is_clicked_while_the_clock_stands() -> None:
    stage = Stage()
    assert stage.run(300) == []
    stage.click.start(stage.frame + HORIZON)
    stage.run(100)
    stage.transport.stop(stage.frame)
    assert stage.run(300) == []


def test_who_switches_it_on_hears_what_comes_and_not_what_was() -> None:
    stage = Stage(enabled=False)
    stage.click.start(4800)
    assert stage.run(500) == []
    stage.click.enabled = True
    notes = stage.run(100)
    assert frames(notes) == [4800 + 10 * QUARTER, 4800 + 11 * QUARTER]
    assert stage.click.n_late == 0


def test_a_beat_that_was_just_told_is_not_clicked_again_after_a_small_jump_back() -> None:
    stage = Stage()
    stage.click.start(4800)
    stage.run(156)  # to quarter 2.92: beat 3 has been told
    stage.transport.follow(stage.frame, Position(stage.frame, stage.frame, 2.6, 2.6, 120.0, 1.0, "JUMPED"), leapt=True)
    assert frames(stage.run(80)) == [stage.frame - 80 * HOP + round(1.4 * QUARTER)]
    assert stage.click.n_near == 1


def test_after_a_jump_back_the_beats_come_again() -> None:
    stage = Stage()
    stage.click.start(4800)
    stage.run(500)
    stage.transport.update(stage.frame, 1.5, 120.0)
    assert frames(stage.run(100)) == [stage.frame - 100 * HOP + QUARTER // 2 + k * QUARTER for k in range(2)]


def test_what_is_past_when_the_clock_tells_of_it_is_left_out() -> None:
    stage = Stage()
    stage.click.start(4800)
    stage.run(95)
    told = len(stage.notes)
    stage.transport.update(stage.frame, stage.transport.quarter_at(stage.frame) + 0.45, 120.0)  # over a beat, without being a jump
    stage.run(5)
    assert (len(stage.notes) - told, stage.click.n_late) == (0, 1)


def test_a_note_ends_before_the_next_one_begins() -> None:
    stage = Stage(subdivision=4)
    stage.transport.tempo_bpm = 600.0
    stage.click.start(4800)
    notes = stage.run(200)
    assert all(a.frame + a.duration < b.frame for a, b in pairwise(notes))


def test_pitches_and_channel_are_as_asked_for() -> None:
    stage = Stage(strokes=Strokes(pitch=60, accent_pitch=72, velocity=50, accent_velocity=60, channel=3))
    stage.click.start(4800)
    assert [(note.pitch, note.velocity, note.channel) for note in stage.run(60)] == [(72, 60, 3), (60, 50, 3)]


def test_ids_differ_from_deck_to_deck() -> None:
    ids = set[int]()
    for deck in (0, 1):
        stage = Stage(deck=deck)
        stage.click.start(4800)
        ids |= {note.note_id for note in stage.run(200)}
    assert len(ids) == 8
    assert all(1 << 49 < i < 1 << 52 for i in ids)


Step = tuple[int, float, float]  # hops, then a position so far from where the clock is, and a tempo
STEPS = st.lists(st.tuples(st.integers(1, 80), st.floats(-3, 3), st.floats(30, 240)), min_size=1, max_size=12)


@given(STEPS, st.integers(1, 4))
def test_whatever_the_clock_does_clicks_are_to_come_and_in_order(steps: list[Step], subdivision: int) -> None:
    stage = Stage(subdivision=subdivision)
    for n_hops, away, tempo in steps:
        quarter = stage.transport.quarter_at(stage.frame) + away
        stage.transport.follow(stage.frame, Position(stage.frame, stage.frame, quarter, quarter, tempo, 1.0, "LOCKED"))
        stage.run(n_hops)
    assert all(note.frame >= note.available_frame for note in stage.notes)
    assert all(note.frame < note.available_frame + HORIZON for note in stage.notes)
    assert all(a < b for a, b in pairwise(frames(stage.notes)))


@given(STEPS)
def test_the_same_clock_makes_the_same_clicks(steps: list[Step]) -> None:
    def play() -> list[Note]:
        stage = Stage()
        for n_hops, away, tempo in steps:
            stage.transport.update(stage.frame, stage.transport.quarter_at(stage.frame) + away, tempo)
            stage.run(n_hops)
        return stage.notes

    assert play() == play()


@pytest.mark.parametrize("tempo", [37.0, 97.3, 120.0, 181.7])
def test_at_a_fixed_tempo_no_error_adds_up(tempo: float) -> None:
    stage = Stage()
    stage.transport.tempo_bpm = tempo
    stage.click.start(4800)
    notes = stage.run(60000)  # ten minutes
    exact = [4800 + k * 60.0 * RATE / tempo for k in range(len(notes))]
    assert max(abs(note.frame - due) for note, due in zip(notes, exact, strict=True)) <= 0.5
    assert len(notes) == int((stage.frame + HORIZON - 4800 - 1) * tempo / 60 / RATE) + 1
