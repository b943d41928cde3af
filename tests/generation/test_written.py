"""What the score says: notes to be played, rests, and the harmony to come."""

import numpy as np
import pytest

from rtserver.errors import ScoreError
from rtserver.following.score import Score
from rtserver.generation import vocabulary as v
from rtserver.generation.written import Harmony, WrittenNote, WrittenPart

PART = WrittenPart([WrittenNote(0, 60, 24, 0), WrittenNote(24, 64, 12, 0), WrittenNote(96, 67, 24, 1), WrittenNote(96, 60, 48, 0)], end=192)


def test_notes_lie_by_onset_and_pitch() -> None:
    assert [(n.tick, n.pitch) for n in PART.notes] == [(0, 60), (24, 64), (96, 60), (96, 67)]


def test_unisons_are_one_note_as_long_as_the_longest() -> None:
    part = WrittenPart([WrittenNote(0, 60, 24, 0), WrittenNote(0, 60, 48, 1), WrittenNote(0, 60, 12, 2)])
    assert part.notes == [WrittenNote(0, 60, 48, 1)]


@pytest.mark.parametrize(("tick", "place"), [(-5, 0), (0, 0), (1, 1), (24, 1), (96, 2), (97, 4)])
def test_a_place_is_how_many_notes_begin_before(tick: int, place: int) -> None:
    assert PART.place(tick) == place


def test_rests_lie_between_the_last_release_and_the_next_onset() -> None:
    assert PART.rest(1) == (24, 24)
    assert PART.rest(2) == (36, 96)
    assert PART.rest(4) == (144, 192)


def test_where_nothing_is_written_all_is_rest() -> None:
    start, end = WrittenPart(end=100).rest(0)
    assert start < -(10**9)
    assert end == 100


def test_parts_are_taken_by_name_or_number(duet: Score) -> None:
    flute = WrittenPart.of_score(duet, ["flute"])
    assert [(n.tick, n.pitch, n.duration) for n in flute.notes[:2]] == [(24, 72, 72), (96, 74, 48)]
    assert WrittenPart.of_score(duet, [1]).notes == flute.notes


def test_parts_are_numbered_among_those_played_and_moved_to_the_axis_of_the_followed(duet: Score) -> None:
    piano = WrittenPart.of_score(duet, ["Piano"], shift=-1.0)
    assert [(n.tick, n.pitch, n.part) for n in piano.notes[:2]] == [(-24, 48, 0), (24, 55, 0)]


def test_no_name_is_no_part(duet: Score) -> None:
    assert len(WrittenPart.of_score(duet, [])) == 0


def test_a_part_that_is_not_there_is_refused_with_those_that_are(duet: Score) -> None:
    with pytest.raises(ScoreError, match="Flute"):
        WrittenPart.of_score(duet, ["Tuba"])


def test_what_comes_is_what_the_training_saw() -> None:
    """`Harmony.ahead` is `vocabulary.ahead` of the ticks that each pitch class sounds in the coming two quarters and the two after."""
    onset, length, pitch = np.array([0, 48, 60, 100]), np.array([48, 24, 60, 30]), np.array([60, 64, 67, 62])
    harmony = Harmony(onset, onset + length, pitch)
    for tick in (-12, 0, 6, 24, 90, 200):
        expected = v.ahead(v.chroma_between(onset, onset + length, pitch, np.array([tick, tick + 48, tick + 96])))
        assert np.allclose(harmony.ahead(tick), expected, atol=1e-6)


def test_where_nothing_comes_that_is_known_too() -> None:
    harmony = Harmony([0], [24], [60])
    assert harmony.ahead(500).tolist() == [0.0] * 24 + [1.0]
