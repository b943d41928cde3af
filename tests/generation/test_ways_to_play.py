"""The modes against a transport that is driven by hand: who plays when, what is written, and how one becomes another."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from rtserver.config.music import Generation
from rtserver.errors import ConfigError
from rtserver.events import Note
from rtserver.following.score import Score
from rtserver.generation import vocabulary as v
from rtserver.generation.constraints import Constraints
from rtserver.generation.metre import Metre
from rtserver.generation.modes import MODES, Accompanist
from rtserver.generation.performer import Performer
from rtserver.generation.settings import played_parts
from rtserver.generation.written import WrittenNote, WrittenPart
from rtserver.transport import Transport

RATE = 48000
BLOCK = 480
HORIZON = 2400
QUARTER = RATE // 2  # frames, at 120
LIMITS = Constraints("C major", 48, 84, 3, grid=6)


@pytest.fixture(scope="module")
def performer() -> Performer:
    return Performer(seed=5, top_p=0.95)


@pytest.fixture
def make(performer: Performer) -> Callable[..., Accompanist]:
    def build(mode: str, **options: object) -> Accompanist:
        performer.set_sampling(1.0, 0.95)
        performer.steer()
        options = {"constraints": LIMITS} | options
        return Accompanist(performer, Transport(RATE, 120.0), mode, **options)  # type: ignore[arg-type]

    return build


def run(accompanist: Accompanist, quarters: float, each: Callable[[int], None] = lambda frame: None, start: float = 0.0) -> list[Note]:
    notes: list[Note] = []
    for frame in range(round(start * QUARTER), round((start + quarters) * QUARTER), BLOCK):
        each(frame)
        accompanist.advance(frame, HORIZON, notes.append)  # type: ignore[arg-type]
    return notes


def onsets(notes: list[Note]) -> list[float]:
    return [note.frame / QUARTER for note in notes]


@pytest.mark.parametrize("mode", MODES)
def test_another_mode_begins_at_the_bar_line(make: Callable[..., Accompanist], mode: str) -> None:
    """From `continue`, which is silent while nobody has played, to those that play by themselves."""
    accompanist = make("continue")
    accompanist.transport.start(0)
    seen: list[tuple[float, str]] = []

    def each(frame: int) -> None:
        if frame == QUARTER:
            accompanist.set_mode(mode, frame)
        seen.append((frame / QUARTER, accompanist.mode))

    notes = run(accompanist, 12, each)
    assert {m for q, m in seen if q < 3.9} == {"continue"}
    assert {m for q, m in seen if q > 4.0} == {mode}
    assert not notes or min(onsets(notes)) >= 4.0
    assert bool(notes) == (mode in ("accompany", "along", "free"))


def test_until_the_bar_line_the_old_mode_plays_on(make: Callable[..., Accompanist]) -> None:
    accompanist = make("free")
    accompanist.transport.start(0)
    notes = run(accompanist, 16, lambda frame: accompanist.set_mode("continue", frame) if frame == round(1.02 * QUARTER) else None)
    assert 2.0 < max(onsets(notes)) < 4.0


def test_the_first_note_of_the_new_mode_may_lie_on_the_line(make: Callable[..., Accompanist]) -> None:
    part = WrittenPart([WrittenNote(96, 60, 24, 0), WrittenNote(48, 50, 24, 0)])
    accompanist = make("continue", written=part, fill=False)
    accompanist.transport.start(0)
    accompanist.set_mode("along", 10)
    notes = run(accompanist, 8)
    assert [(n.frame, n.pitch) for n in notes] == [(4 * QUARTER, 60)]


def test_where_the_clock_stands_a_mode_changes_at_once(make: Callable[..., Accompanist]) -> None:
    accompanist = make("continue")
    accompanist.set_mode("free", 0)
    assert accompanist.mode == "free"


def test_bars_are_those_of_the_metre(make: Callable[..., Accompanist]) -> None:
    accompanist = make("continue", metre=Metre.fixed("3/4"))
    accompanist.transport.start(0)
    accompanist.set_mode("free", QUARTER)
    assert 3.0 <= min(onsets(run(accompanist, 9, start=1.0))) < 6.0


def test_an_unknown_mode_is_refused(make: Callable[..., Accompanist]) -> None:
    with pytest.raises(ConfigError, match="call_response"):
        make("free").set_mode("solo", 0)


def test_free_hears_nothing(make: Callable[..., Accompanist]) -> None:
    def once(hear: bool) -> list[Note]:
        accompanist = make("free", follow_level=False)
        accompanist.transport.start(0)

        def each(frame: int) -> None:
            if hear and frame % QUARTER == 0:
                accompanist.hear(frame, 61 + frame // QUARTER % 12, 90)

        return run(accompanist, 12, each)

    assert once(True) == once(False)


def test_an_answer_comes_after_the_call_and_ends_at_the_bar_line(make: Callable[..., Accompanist]) -> None:
    accompanist = make("call_response")
    accompanist.transport.start(0)

    def player(frame: int) -> None:
        for k, pitch in enumerate((60, 64, 67)):
            if frame == k * QUARTER:
                accompanist.hear(frame, pitch, 80)
            if frame == (k + 1) * QUARTER - BLOCK:
                accompanist.hear(frame, pitch, 0)

    notes = run(accompanist, 20, player)
    assert notes
    assert min(onsets(notes)) >= 4.0
    assert max(onsets(notes)) < 8.0
    assert max(note.frame + note.duration for note in notes) <= 8.0 * QUARTER


def test_a_call_by_sound_is_answered(make: Callable[..., Accompanist]) -> None:
    accompanist = make("call_response")
    accompanist.transport.start(0)
    chord = np.zeros(12)
    chord[[0, 4, 7]] = 1.0

    def player(frame: int) -> None:
        playing = frame < 3 * QUARTER
        accompanist.hear_chroma(frame, chord * playing, 80.0 if playing else None)

    notes = run(accompanist, 12, player)
    assert notes
    assert min(onsets(notes)) >= 4.0


PART = WrittenPart([WrittenNote(24 * k, 60 + k, 24, k % 2) for k in range(4)] + [WrittenNote(16 * 24, 72, 48, 0)], end=20 * 24)


def test_what_is_written_is_played_when_it_is_due(make: Callable[..., Accompanist]) -> None:
    accompanist = make("along", written=PART, fill=False, channel=2)
    accompanist.transport.start(0)
    notes = run(accompanist, 24)
    assert [(q, n.pitch, n.channel, n.part) for q, n in zip(onsets(notes), notes, strict=True)] == [
        (0.0, 60, 3, "score"),
        (1.0, 61, 4, "score"),
        (2.0, 62, 3, "score"),
        (3.0, 63, 4, "score"),
        (16.0, 72, 3, "score"),
    ]


def test_what_is_written_bows_to_no_limit(make: Callable[..., Accompanist]) -> None:
    accompanist = make("along", written=PART, fill=False, constraints=Constraints("F# major", 30, 40, 1))
    accompanist.transport.start(0)
    assert len(run(accompanist, 24)) == 5


def test_its_rests_are_filled_and_nothing_else(make: Callable[..., Accompanist]) -> None:
    accompanist = make("along", written=PART)
    accompanist.transport.start(0)
    notes = run(accompanist, 32)
    assert [n.pitch for n in notes if n.part == "score"] == [60, 61, 62, 63, 72]
    own = [n for n in notes if n.part == "performer"]
    assert own
    for note in own:
        assert 4.0 <= note.frame / QUARTER < 16.0 or 18.0 <= note.frame / QUARTER < 20.0
        assert note.frame + note.duration <= (16.0 if note.frame < 16 * QUARTER else 20.0) * QUARTER
        assert LIMITS.pitches[note.pitch]


def test_a_player_who_goes_back_hears_it_again(make: Callable[..., Accompanist]) -> None:
    accompanist = make("along", written=PART, fill=False)
    accompanist.transport.start(0)
    run(accompanist, 3.9)
    accompanist.transport.update(4 * QUARTER, 0.0, 120.0)
    assert [n.pitch for n in run(accompanist, 4, start=4.0)] == [60, 61, 62, 63]


def test_a_player_who_leaps_ahead_hears_nothing_of_what_lies_between(make: Callable[..., Accompanist]) -> None:
    accompanist = make("along", written=PART, fill=False)
    accompanist.transport.start(0)
    run(accompanist, 1.5)
    accompanist.transport.update(round(1.5 * QUARTER), 15.5, 120.0)
    assert [n.pitch for n in run(accompanist, 4, start=1.5)] == [72]


def test_a_clock_that_stands_and_goes_on_plays_nothing_twice(make: Callable[..., Accompanist]) -> None:
    accompanist = make("along", written=PART, fill=False)
    accompanist.transport.start(0)
    before = run(accompanist, 2.01)
    accompanist.transport.stop(2 * QUARTER)
    accompanist.transport.update(5 * QUARTER, 1.98, 120.0)
    after = run(accompanist, 4, start=5.0)
    assert [n.pitch for n in before + after] == [60, 61, 62, 63]


def test_the_plan_reaches_two_bars_ahead_and_is_what_is_played(make: Callable[..., Accompanist]) -> None:
    accompanist = make("free")
    accompanist.transport.start(0)
    first = run(accompanist, 1)
    plan = accompanist.plan
    assert plan[-1][0] >= 6 * v.TICKS_PER_QUARTER or len(plan) > 16
    then = run(accompanist, 6, start=1.0)
    played = [(round(q * v.TICKS_PER_QUARTER), n.pitch) for q, n in zip(onsets(then), then, strict=True)]
    assert first
    assert played[: len(plan)] == [(tick, pitch) for tick, pitch, _ in plan][: len(played)]


def test_what_the_player_strikes_takes_the_plan_back(make: Callable[..., Accompanist]) -> None:
    accompanist = make("accompany")
    accompanist.transport.start(0)
    run(accompanist, 1)
    revision = accompanist.draft.revision
    assert accompanist.plan
    accompanist.hear(QUARTER, 61, 90)
    assert not accompanist.plan
    assert accompanist.draft.revision > revision
    assert accompanist.n_replans == 1


@pytest.mark.parametrize(
    "alter",
    [
        lambda a: a.constrain(Constraints("F# major", 60, 72, 1)),
        lambda a: a.steer(1.0, 0.0),
        lambda a: a.set_sampling(0.5, 0.5),
        lambda a: a.transport.update(QUARTER, 100.0, 120.0),
    ],
    ids=["limits", "leaning", "sampling", "jump"],
)
def test_a_change_takes_the_plan_back_to_what_is_committed(make: Callable[..., Accompanist], alter: Callable[[Accompanist], None]) -> None:
    accompanist = make("free")
    accompanist.transport.start(0)
    before = run(accompanist, 1)
    committed = accompanist.n_committed
    alter(accompanist)
    accompanist.advance(QUARTER, 1, before.append)  # type: ignore[arg-type]
    assert accompanist.n_replans == 1
    assert accompanist.n_committed - committed <= 1


def test_silence_is_silence_and_ends(make: Callable[..., Accompanist]) -> None:
    accompanist = make("free")
    accompanist.transport.start(0)

    def each(frame: int) -> None:
        accompanist.silent = 4 * QUARTER <= frame < 8 * QUARTER

    times = onsets(run(accompanist, 14, each))
    assert not [t for t in times if 4.0 + HORIZON / QUARTER <= t < 8.0]
    assert [t for t in times if t >= 8.0]


def test_nothing_is_played_before_the_entry(make: Callable[..., Accompanist]) -> None:
    accompanist = make("free")
    accompanist.entry = 0.0
    accompanist.transport.start(0, -4.0)
    assert 4.0 <= min(onsets(run(accompanist, 12))) <= 8.0


def test_leaning_high_draws_higher_pitches_and_leaning_soon_shorter_waits(performer: Performer) -> None:
    def drawn(higher: float, sooner: float) -> tuple[float, float]:
        performer.set_sampling(1.0, 1.0)
        performer.steer(higher, sooner)
        performer.reset()
        notes = [performer.query(Constraints()) for _ in range(300)]
        return float(np.mean([n.pitch for n in notes])), float(np.mean([n.dt for n in notes]))

    assert drawn(-1.0, 0.0)[0] < drawn(0.0, 0.0)[0] < drawn(1.0, 0.0)[0]
    assert drawn(0.0, 1.0)[1] < drawn(0.0, 0.0)[1] < drawn(0.0, -1.0)[1]


@pytest.mark.parametrize("leaning", [(3.5, 0.0), (0.0, -4.0), (math.nan, 0.0)])
def test_leaning_too_far_is_refused(performer: Performer, leaning: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="expected -3 to 3"):
        performer.steer(*leaning)


def test_the_parts_that_are_not_followed_are_played_on_the_axis_of_the_followed(duet: Score, flute: Score) -> None:
    part = played_parts(flute, duet, Generation(), ["Flute"])
    assert [(n.tick, n.pitch) for n in part.notes[:2]] == [(-24, 48), (24, 55)]


def test_parts_can_be_named(duet: Score) -> None:
    part = played_parts(duet, duet, Generation(parts=["Piano"]), [])
    assert [(n.tick, n.pitch) for n in part.notes[:2]] == [(0, 48), (48, 55)]


def test_where_all_is_followed_nothing_is_written_for_us(duet: Score) -> None:
    assert len(played_parts(duet, duet, Generation(), [])) == 0


def test_off_beats_come_as_the_players(make: Callable[..., Accompanist]) -> None:
    accompanist = make("accompany", constraints=Constraints("C major", grid=12))
    accompanist.transport.start(0)

    def player(frame: int) -> None:
        for k in range(16):
            for at in (k * 24, k * 24 + 16):
                on = round(at * QUARTER / v.TICKS_PER_QUARTER) // BLOCK * BLOCK
                if frame in (on, on + 4 * BLOCK):
                    accompanist.hear(frame, 60, 80 if frame == on else 0)

    late = [round(q % 1.0 * v.TICKS_PER_QUARTER) for q in onsets(run(accompanist, 24, player)) if q > 8.0]
    assert set(late) <= {0, 15, 16}
    assert set(late) & {15, 16}
