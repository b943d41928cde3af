"""The network in the zoo, and the performer that asks it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver import zoo
from rtserver.errors import ConfigError
from rtserver.generation import vocabulary as v
from rtserver.generation.chords import NATURALS
from rtserver.generation.constraints import GRIDS, MODES, Constraints
from rtserver.generation.performer import Performer
from rtserver.generation.vocabulary import NoteEvent
from rtserver.zoo.proof import proved

FREE = Constraints()


@pytest.fixture(scope="module")
def performer() -> Performer:
    return Performer(seed=7)


def play(performer: Performer, n: int, limits: Constraints = FREE, condition: np.ndarray | None = None) -> list[NoteEvent]:
    made = []
    for _ in range(n):
        made.append(performer.query(limits, condition))
        performer.feed(made[-1])
    return made


def test_golden_vectors_reproduce() -> None:
    """What torch computed at export, this ONNX Runtime computes too, as closely as the manifest says."""
    worst = proved("performer")
    assert worst is not None
    assert worst <= zoo.manifest()["performer"]["golden_within"]


def test_the_shipped_weights_are_small_enough_for_the_cache() -> None:
    assert sum((zoo.FOLDER / e["file"]).stat().st_size for n, e in zoo.manifest().items() if n.startswith("performer")) <= 4_000_000


def test_same_seed_same_notes() -> None:
    assert play(Performer(seed=3), 40) == play(Performer(seed=3), 40)


def test_another_seed_other_notes() -> None:
    assert play(Performer(seed=3), 40) != play(Performer(seed=4), 40)


def test_reset_equals_a_fresh_performer(performer: Performer) -> None:
    performer.reset()
    first = play(performer, 30)
    performer.reset()
    assert play(performer, 30) == first


def test_restore_continues_as_if_nothing_had_happened(performer: Performer) -> None:
    performer.reset()
    chroma = v.condition(np.eye(12)[7])
    play(performer, 10, condition=chroma)
    state = performer.snapshot()
    first = play(performer, 20, condition=chroma)
    play(performer, 5, Constraints("C major"))
    performer.restore(state)
    assert play(performer, 20, condition=chroma) == first


def test_a_query_changes_nothing_but_the_dice(performer: Performer) -> None:
    performer.reset()
    play(performer, 10)
    state = performer.snapshot()
    expected = play(performer, 10)
    performer.restore(state)
    performer.query(FREE, v.condition(np.ones(12)))
    performer.query(Constraints("C major"), None)
    dice = state.dice
    performer._dice.bit_generator.state = dice
    assert play(performer, 10) == expected


def test_the_condition_is_heard(performer: Performer) -> None:
    """One step, two conditions, other odds for the pitches; the network itself, not the dice."""
    performer.reset()
    play(performer, 10)
    performer.query(FREE, v.condition(np.eye(12)[0]), dt=6)
    with_c = performer.network.pitch_logits.copy()
    performer.query(FREE, v.condition(np.eye(12)[6]), dt=6)
    assert np.abs(with_c - performer.network.pitch_logits).max() > 0.1


scales = st.one_of(
    st.none(),
    st.builds(lambda t, m: f"{t} {m}", st.sampled_from(sorted(NATURALS)), st.sampled_from(sorted(MODES))),
    st.lists(st.integers(0, 11), min_size=1, max_size=4),
)


@st.composite
def any_constraints(draw: st.DrawFn) -> Constraints:
    low = draw(st.integers(0, 115))
    grid = draw(st.sampled_from(GRIDS))
    step = draw(st.integers(1, 96 // grid)) * grid
    shortest = draw(st.integers(1, step))
    return Constraints(
        draw(scales),
        low,
        draw(st.integers(low + 11, 127)),
        draw(st.integers(1, 6)),
        grid,
        draw(st.integers(0, step)),
        min(96, step + draw(st.integers(0, grid - 1))),
        shortest,
        draw(st.integers(shortest, 96)),
    )


@settings(max_examples=150, deadline=None)
@given(any_constraints(), st.floats(0.0, 3.0), st.floats(0.0, 1.0), st.booleans())
def test_constraints_hold_always(performer: Performer, limits: Constraints, temperature: float, top_p: float, listening: bool) -> None:
    performer.reset()
    performer.set_sampling(temperature, top_p)
    condition = v.condition(np.eye(12)[3]) if listening else None
    tick, down, last = 0, [], NoteEvent(0, -1, 0)
    for event in play(performer, 25, limits, condition):
        tick += event.dt
        down = [(release, pitch) for release, pitch in down if release > tick]
        assert limits.pitches[event.pitch]
        assert limits.min_dt <= event.dt <= limits.max_dt
        assert tick % limits.grid == 0
        assert limits.min_duration <= event.duration <= limits.max_duration
        assert event.pitch not in [pitch for _, pitch in down], "a key that is down was struck again"
        assert event.dt > 0 or event.pitch > last.pitch, "in a chord pitches rise"
        down.append((tick + event.duration, event.pitch))
        assert len(down) <= limits.polyphony
        last = event
    assert performer.n_waits == 0, "own notes never leave the performer without an onset"
    performer.set_sampling(1.0, 1.0)


def test_every_note_is_born_with_its_release(performer: Performer) -> None:
    performer.reset()
    assert all(1 <= event.duration <= v.MAX_DURATION for event in play(performer, 300))


def test_no_onset_before_the_present(performer: Performer) -> None:
    performer.reset()
    play(performer, 5)
    assert performer.tick + performer.query(FREE, earliest=performer.tick + 40).dt >= performer.tick + 40


def test_a_present_far_ahead_is_waited_for_and_counted(performer: Performer) -> None:
    performer.reset()
    event = performer.query(FREE, earliest=500)
    assert (event.dt, performer.n_waits) == (500, 1)
    performer.feed(event)
    assert performer.tick == 500


def test_notes_of_others_take_no_voice(performer: Performer) -> None:
    performer.reset()
    performer.feed(NoteEvent(0, 60, 96), sounding=False)
    one_voice = Constraints(polyphony=1, max_dt=6)
    assert performer.query(one_voice).dt <= 6


def test_own_notes_that_outlast_max_dt_are_waited_for(performer: Performer) -> None:
    performer.reset()
    performer.feed(NoteEvent(0, 60, 90))
    assert performer.query(Constraints(polyphony=1, max_dt=6)).dt == 90
    assert performer.n_waits == 1


@pytest.mark.parametrize("graph", ["dt_logits", "pitch_logits", "duration_logits"])
def test_not_a_number_clears_the_memory_and_chooses_a_safe_note(graph: str) -> None:
    performer = Performer(seed=1)
    limits = Constraints("C major", 48, 72)
    play(performer, 8, limits)
    network, broken = performer.network, True
    runs = {"dt_logits": "step", "pitch_logits": "run_pitch", "duration_logits": "run_duration"}
    whole = getattr(network, runs[graph])

    def spoilt(*args: object) -> None:
        whole(*args)
        if broken:
            getattr(network, graph)[...] = np.nan

    setattr(network, runs[graph], spoilt)
    event = performer.query(limits)
    assert performer.n_nan == 1
    assert limits.pitches[event.pitch] and 1 <= event.duration <= 96 and 0 <= event.dt <= 96
    assert not network.state[0].any()
    broken = False
    performer.feed(event)
    assert all(limits.pitches[e.pitch] for e in play(performer, 8, limits))
    assert performer.n_nan == 1


@pytest.mark.parametrize("event", [NoteEvent(-1, 60, 6), NoteEvent(0, 128, 6), NoteEvent(0, -1, 6), NoteEvent(0, 60, -1)])
def test_what_is_no_note_is_not_fed(performer: Performer, event: NoteEvent) -> None:
    with pytest.raises(ValueError, match="expected a note"):
        performer.feed(event)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_p": 1.5}, {"temperature": (1.0, 1.0)}, {"texture": "fugue"}])
def test_sampling_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Performer(**wrong)  # type: ignore[arg-type]
