"""The player's swing is heard and taken over."""

from hypothesis import given
from hypothesis import strategies as st

from rtserver.generation.swing import EARLIEST, ENOUGH, LATEST, Swing

ticks = st.floats(-1000.0, 1000.0)


def swung(off: float, on: float = 0.0, n: int = 16) -> Swing:
    swing = Swing()
    for beat in range(n):
        swing.hear(24.0 * beat + on)
        swing.hear(24.0 * beat + off)
    return swing


def test_who_plays_straight_is_played_with_straight() -> None:
    assert [swung(12.0).place(tick) for tick in (0, 6, 12, 18, 24)] == [0, 6, 12, 18, 24]


def test_off_beats_come_as_late_as_the_players() -> None:
    assert abs(swung(16.0).place(36) - 40.0) < 0.1


def test_semiquavers_move_in_proportion_and_beats_and_triplets_stay() -> None:
    swing = swung(16.0)
    assert swing.place(48) == 48.0
    assert swing.place(56) == 56.0
    assert 54.0 < swing.place(54) < 57.0
    assert swing.place(64) == 64.0


def test_who_is_late_on_every_beat_does_not_swing() -> None:
    assert abs(swung(14.0, on=2.0).late) < 0.1


def test_a_few_notes_prove_nothing() -> None:
    swing = Swing()
    for beat in range(ENOUGH - 1):
        swing.hear(24.0 * beat + 16.0)
    assert swing.late == 0.0


def test_it_is_forgotten() -> None:
    swing = swung(16.0)
    swing.reset()
    assert swing.late == 0.0


@given(st.lists(ticks, max_size=60), st.integers(-500, 500))
def test_whatever_is_heard_notes_stay_near_and_in_order(heard: list[float], tick: int) -> None:
    swing = Swing()
    for at in heard:
        swing.hear(at)
    assert EARLIEST <= swing.late <= LATEST
    tick -= tick % 6
    assert abs(swing.place(tick) - tick) <= LATEST
    assert swing.place(tick) < swing.place(tick + 6)
