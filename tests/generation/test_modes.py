"""The accompanist against a transport that is driven by hand: simulated time, no clock, no threads."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtserver.errors import ConfigError
from rtserver.events import MidiIn, Note
from rtserver.generation import vocabulary as v
from rtserver.generation.constraints import Constraints
from rtserver.generation.hands import GATE, LONGEST_S, SHORTEST_S, velocity
from rtserver.generation.modes import Accompanist
from rtserver.generation.performer import Performer
from rtserver.transport import Transport

RATE = 48000
BLOCK = 480  # 10 ms between two calls
HORIZON = 2400  # 50 ms
LIMITS = Constraints("C major", 48, 84, 3, grid=6)


@pytest.fixture(scope="module")
def performer() -> Performer:
    return Performer(seed=5, top_p=0.95)


@pytest.fixture
def make(performer: Performer) -> Callable[..., Accompanist]:
    def build(mode: str = "accompany", tempo_bpm: float = 120.0, **options: object) -> Accompanist:
        options = {"constraints": LIMITS} | options
        return Accompanist(performer, Transport(RATE, tempo_bpm), mode, **options)  # type: ignore[arg-type]

    return build


def run(
    accompanist: Accompanist, start: int, seconds: float, each: Callable[[int], None] = lambda frame: None, block: int = BLOCK
) -> list[Note]:
    notes: list[Note] = []
    for frame in range(start, start + round(seconds * RATE), block):
        each(frame)
        accompanist.advance(frame, HORIZON, notes.append)  # type: ignore[arg-type]
    return notes


def key(frame: int, pitch: int, down: bool) -> MidiIn:
    return MidiIn(frame, frame, "in", bytes([0x90 if down else 0x80, pitch, 80]))


def test_notes_come_and_are_committed_inside_the_horizon_only(make: Callable[..., Accompanist]) -> None:
    accompanist = make()
    accompanist.transport.start(0)
    notes: list[Note] = []
    for frame in range(0, 10 * RATE, BLOCK):
        new: list[Note] = []
        accompanist.advance(frame, HORIZON, new.append)  # type: ignore[arg-type]
        assert all(frame <= n.frame < frame + HORIZON and n.available_frame == frame for n in new)
        notes += new
    assert len(notes) > 10
    assert accompanist.n_committed == len(notes)


def test_notes_lie_on_the_grid_of_the_transport(make: Callable[..., Accompanist]) -> None:
    accompanist = make(tempo_bpm=97.0)
    accompanist.transport.start(1234, quarter=8.0)
    notes = run(accompanist, 1234, 10)
    grid = accompanist.transport.frames_per_quarter * LIMITS.grid / v.TICKS_PER_QUARTER
    steps = np.array([(n.frame - 1234) / grid for n in notes])
    assert np.abs(steps - np.round(steps)).max() * grid <= 1.0


def test_same_seed_and_same_inputs_same_notes(make: Callable[..., Accompanist]) -> None:
    def once() -> list[Note]:
        accompanist = make()
        accompanist.transport.start(0)
        return run(accompanist, 0, 6, lambda f: accompanist.hear_chroma(f, np.eye(12)[f // RATE % 12], 90.0))

    assert once() == once()


@pytest.mark.parametrize("block", [64, 1000, 2400])
def test_how_often_it_is_called_changes_nothing_while_nothing_is_heard(make: Callable[..., Accompanist], block: int) -> None:
    def once(block: int) -> list[tuple[int, int, int]]:
        accompanist = make()
        accompanist.transport.start(0)
        notes = run(accompanist, 0, 10, block=block)
        return [(n.frame, n.pitch, n.duration) for n in notes if n.frame < 9 * RATE]

    assert once(block) == once(BLOCK)


def test_no_note_while_the_transport_stands(make: Callable[..., Accompanist]) -> None:
    accompanist = make()
    assert run(accompanist, 0, 2) == []
    accompanist.transport.start(2 * RATE)
    assert run(accompanist, 2 * RATE, 4)
    accompanist.transport.stop(6 * RATE)
    assert run(accompanist, 6 * RATE, 4) == []
    accompanist.transport.update(10 * RATE, accompanist.transport.quarter, 120.0)
    assert run(accompanist, 10 * RATE, 4)


def test_a_note_is_committed_once_and_ids_count_up(make: Callable[..., Accompanist]) -> None:
    """Also while every block brings a new fix of a follower that wavers."""
    accompanist = make(first_note_id=40)
    rng = np.random.default_rng(0)

    def fix(frame: int) -> None:
        accompanist.transport.update(frame, frame / RATE * 2.0 + rng.normal(0, 0.01), float(rng.normal(120, 3)))

    notes = run(accompanist, 0, 20, fix)
    assert [n.note_id for n in notes] == list(range(40, 40 + len(notes)))
    assert len(notes) > 20


def test_a_jump_drops_the_plan_and_goes_on_from_there(make: Callable[..., Accompanist]) -> None:
    accompanist = make()
    accompanist.transport.start(0)
    before = run(accompanist, 0, 5)
    accompanist.transport.update(5 * RATE, 33.25, 120.0)
    after = run(accompanist, 5 * RATE, 5)
    assert accompanist.n_replans >= 1
    assert before and len(after) > 4
    assert min(n.frame for n in after) >= 5 * RATE
    grid = accompanist.transport.frames_per_quarter * LIMITS.grid / v.TICKS_PER_QUARTER
    steps = np.array([accompanist.transport.quarter_at(n.frame) * accompanist.transport.frames_per_quarter / grid for n in after])
    assert np.abs(steps - np.round(steps)).max() * grid <= 1.0


@pytest.mark.parametrize("jump", [-2.0, 3.75, -30.0])
def test_a_jump_to_anywhere_leaves_no_hole(make: Callable[..., Accompanist], jump: float) -> None:
    """After a jump the next note comes within four quarters, forwards or backwards."""
    accompanist = make()
    accompanist.transport.start(0, 40.0)
    run(accompanist, 0, 5)
    accompanist.transport.update(5 * RATE, 50.0 + jump, 120.0)
    after = run(accompanist, 5 * RATE, 5)
    assert after[0].frame <= 5 * RATE + 4 * RATE


def test_two_jumps_between_two_calls_leave_no_hole(make: Callable[..., Accompanist]) -> None:
    accompanist = make()
    accompanist.transport.start(0, 40.0)
    run(accompanist, 0, 5)
    for quarter in (200.0, 400.0):
        accompanist.transport.update(5 * RATE, quarter, 120.0)
        accompanist.hear(5 * RATE, 60, 80)
    after = run(accompanist, 5 * RATE, 5)
    assert after[0].frame <= 5 * RATE + 4 * RATE


def test_constraints_hold_in_frames_while_the_tempo_moves(make: Callable[..., Accompanist]) -> None:
    """Polyphony, struck keys and scale as a synthesiser would see them, with a tempo between 40 and 240."""
    accompanist = make()
    quarter = 0.0

    def fix(frame: int) -> None:
        nonlocal quarter
        tempo = 140.0 + 100.0 * np.sin(frame / RATE)
        quarter += tempo / 60.0 * BLOCK / RATE
        accompanist.transport.update(frame, quarter, float(tempo))

    notes = run(accompanist, 0, 40, fix)
    assert len(notes) > 50
    assert accompanist.n_blocked <= len(notes) // 5
    for note in notes:
        assert LIMITS.pitches[note.pitch]
        at_once = [n for n in notes if n.frame <= note.frame < n.frame + n.duration]
        assert len(at_once) <= LIMITS.polyphony
        assert [n for n in at_once if n.pitch == note.pitch] == [note]


actions = st.lists(
    st.one_of(
        st.tuples(st.just("fix"), st.floats(-1.0, 40.0), st.floats(20.0, 400.0)),
        st.tuples(st.just("drift"), st.floats(-0.4, 0.4), st.floats(20.0, 400.0)),
        st.tuples(st.just("stop")),
        st.tuples(st.just("key"), st.integers(0, 127), st.integers(0, 127)),
        st.tuples(st.just("chroma"), st.integers(0, 11)),
        st.tuples(st.just("pause"), st.integers(1, 5 * RATE)),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions, st.sampled_from(["accompany", "continue"]))
def test_whatever_happens_the_promises_hold(make: Callable[..., Accompanist], moves: list[tuple[Any, ...]], mode: str) -> None:
    """Notes inside the horizon, ids used once, limits kept in frames, silence while the transport stands."""
    accompanist = make(mode)
    transport, frame = accompanist.transport, 0
    notes: list[Note] = []
    for name, *values in [("fix", 0.0, 120.0), *moves]:
        if name == "fix":
            transport.update(frame, *values)
        elif name == "drift":
            transport.update(frame, transport.quarter_at(frame) + values[0], values[1])
        elif name == "stop":
            transport.stop(frame)
        elif name == "key":
            accompanist.hear(frame, *values)
        elif name == "chroma":
            accompanist.hear_chroma(frame, np.eye(12)[values[0]])
        else:
            frame += values[0]
        for _ in range(50):
            new: list[Note] = []
            accompanist.advance(frame, HORIZON, new.append)  # type: ignore[arg-type]
            assert all(frame <= n.frame < frame + HORIZON for n in new)
            assert transport.running or not new
            notes += new
            frame += BLOCK
    assert [n.note_id for n in notes] == list(range(len(notes)))
    for note in notes:
        at_once = [n for n in notes if n.frame <= note.frame < n.frame + n.duration]
        assert len(at_once) <= LIMITS.polyphony
        assert [n for n in at_once if n.pitch == note.pitch] == [note]
        assert LIMITS.pitches[note.pitch]
        assert SHORTEST_S * RATE <= note.duration <= LONGEST_S * RATE


@pytest.mark.parametrize(("tempo_bpm", "shortest_s", "longest_s"), [(10.0, SHORTEST_S, LONGEST_S), (480.0, SHORTEST_S, 0.5)])
def test_durations_follow_the_tempo_within_their_limits(
    make: Callable[..., Accompanist], tempo_bpm: float, shortest_s: float, longest_s: float
) -> None:
    accompanist = make(tempo_bpm=tempo_bpm, constraints=Constraints())
    accompanist.transport.start(0)
    notes = run(accompanist, 0, 20)
    assert notes
    assert all(shortest_s * RATE <= n.duration <= longest_s * RATE for n in notes)


def test_the_duration_is_that_of_the_tempo_at_commit(make: Callable[..., Accompanist]) -> None:
    accompanist = make(tempo_bpm=60.0, constraints=Constraints(min_duration=24, max_duration=24))
    accompanist.transport.start(0)
    assert {n.duration for n in run(accompanist, 0, 8)} == {round(GATE * RATE)}


def test_it_plays_what_it_hears(make: Callable[..., Accompanist]) -> None:
    """Two harmonies a semitone apart: the notes of the one that sounds are chosen more often than those of the other."""

    def share(root: int, of: int) -> float:
        accompanist = make(constraints=Constraints(low=48, high=84))
        accompanist.transport.start(0)
        chord = np.zeros(12)
        chord[[(root + s) % 12 for s in (0, 4, 7)]] = 1.0
        notes = run(accompanist, 0, 60, lambda f: accompanist.hear_chroma(f, chord))
        return float(np.mean([(n.pitch - of) % 12 in (0, 4, 7) for n in notes]))

    assert share(0, 0) > share(1, 0)


def test_it_does_not_hear_itself(make: Callable[..., Accompanist]) -> None:
    accompanist = make()
    accompanist.transport.start(0)
    assert run(accompanist, 0, 5)
    assert not accompanist.listener.condition().any()


def test_hearing_keys_and_hearing_messages_are_the_same(make: Callable[..., Accompanist]) -> None:
    def once(hear: Callable[[Accompanist, int, bool], None]) -> list[Note]:
        accompanist = make()
        accompanist.transport.start(0)

        def each(frame: int) -> None:
            if frame % RATE == 0:
                hear(accompanist, frame, True)
            if frame % RATE == RATE // 2:
                hear(accompanist, frame, False)

        return run(accompanist, 0, 6, each)

    assert once(lambda a, f, down: a.hear(f, 61, 80 if down else 0)) == once(lambda a, f, down: a.hear_midi(key(f, 61, down)))


def test_other_midi_messages_are_ignored(make: Callable[..., Accompanist]) -> None:
    accompanist = make()
    for data in (b"\xf8", b"\xb0\x40\x7f", b"\xc0\x05", b"\xe0\x00\x40", b""):
        accompanist.hear_midi(MidiIn(0, 0, "in", data))
    assert not accompanist.listener.anything


def test_the_level_follows_the_player(make: Callable[..., Accompanist]) -> None:
    accompanist = make(level=40.0)
    accompanist.transport.start(0)
    for i in range(20):
        accompanist.hear(i * 1000, 60, 120)
        accompanist.hear(i * 1000 + 500, 60, 0)
    assert all(110 <= n.velocity <= 127 for n in run(accompanist, RATE, 4))


def test_a_fixed_level_stays(make: Callable[..., Accompanist]) -> None:
    accompanist = make(level=40.0, follow_level=False)
    accompanist.hear(0, 60, 120)
    assert accompanist.level == 40.0


def test_velocities_stay_inside_midi() -> None:
    assert velocity(-50.0, 1) == 1
    assert velocity(200.0, 0) == 127
    assert velocity(72.0, 0) > velocity(72.0, 24) > velocity(72.0, 6)


def test_late_notes_are_left_out_and_counted(make: Callable[..., Accompanist]) -> None:
    """Nobody has called for a while: what was planned for then is not played now."""
    accompanist = make()
    accompanist.transport.start(0)
    run(accompanist, 0, 4)
    notes = run(accompanist, 6 * RATE, 2)
    assert all(n.frame >= 6 * RATE for n in notes)
    assert accompanist.n_late <= 1


def test_continue_waits_for_the_end_of_the_phrase(make: Callable[..., Accompanist]) -> None:
    accompanist = make("continue")
    accompanist.transport.start(0)

    def player(frame: int) -> None:
        for i, pitch in enumerate((60, 64, 67)):
            if frame == i * RATE // 2:
                accompanist.hear(frame, pitch, 80)
            if frame == (i + 1) * RATE // 2 - BLOCK:
                accompanist.hear(frame, pitch, 0)

    notes = run(accompanist, 0, 8, player)
    assert notes
    assert min(n.frame for n in notes) >= 1.5 * RATE + RATE // 2 - BLOCK, "a quarter of patience after the last key"


def test_continue_yields_when_the_player_comes_in_again(make: Callable[..., Accompanist]) -> None:
    accompanist = make("continue")
    accompanist.transport.start(0)
    accompanist.hear(0, 60, 80)
    accompanist.hear(BLOCK, 60, 0)
    assert run(accompanist, BLOCK, 4)
    accompanist.hear(5 * RATE, 60, 80)
    assert run(accompanist, 5 * RATE, 4) == []


def test_continue_goes_on_from_what_was_played(make: Callable[..., Accompanist]) -> None:
    def once(pitch: int) -> list[Note]:
        accompanist = make("continue")
        accompanist.transport.start(0)
        accompanist.hear(0, pitch, 80)
        accompanist.hear(BLOCK, pitch, 0)
        return run(accompanist, BLOCK, 5)

    assert once(60) == once(60)
    assert once(60) != once(66)


def test_continue_without_anything_to_continue_is_silent(make: Callable[..., Accompanist]) -> None:
    accompanist = make("continue")
    accompanist.transport.start(0)
    assert run(accompanist, 0, 4) == []


def test_new_constraints_hold_from_the_next_note(make: Callable[..., Accompanist]) -> None:
    accompanist = make()
    accompanist.transport.start(0)
    run(accompanist, 0, 4)
    accompanist.constrain(Constraints("F# major pentatonic", 60, 72, 1))
    assert {n.pitch % 12 for n in run(accompanist, 4 * RATE, 5)} <= {6, 8, 10, 1, 3}


def test_reset_plays_the_same_again_with_new_ids(make: Callable[..., Accompanist]) -> None:
    accompanist = make()
    accompanist.transport.start(0)
    first = run(accompanist, 0, 5)
    accompanist.transport.start(0)
    accompanist.reset()
    again = run(accompanist, 0, 5)
    assert [(n.frame, n.pitch, n.duration) for n in again] == [(n.frame, n.pitch, n.duration) for n in first]
    assert again[0].note_id == first[-1].note_id + 1


@pytest.mark.parametrize("wrong", [{"mode": "solo"}, {"channel": 16}])
def test_wrong_settings_are_refused(make: Callable[..., Accompanist], wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        make(**wrong)
