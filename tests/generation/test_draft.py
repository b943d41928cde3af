"""A draft can be taken back: the performer is then as it was."""

import pytest

from rtserver.generation import vocabulary as v
from rtserver.generation.constraints import Constraints
from rtserver.generation.draft import Draft
from rtserver.generation.performer import Performer
from rtserver.generation.vocabulary import NoteEvent

LIMITS = Constraints("C major", 48, 84, 3)


@pytest.fixture(scope="module")
def performer() -> Performer:
    return Performer(seed=3)


def extend(draft: Draft, n: int) -> list[NoteEvent]:
    made: list[NoteEvent] = []
    for _ in range(n):
        before = draft.performer.snapshot()
        made.append(draft.add(draft.performer.query(LIMITS), before, v.condition(None)).note)
    return made


def test_a_plan_that_is_made_again_is_the_same(performer: Performer) -> None:
    performer.reset()
    draft = Draft(performer)
    first = extend(draft, 8)
    assert draft.drop()
    assert extend(draft, 8) == first


def test_dropping_goes_back_to_the_last_note_that_was_committed(performer: Performer) -> None:
    performer.reset()
    draft = Draft(performer)
    extend(draft, 3)
    tick = draft.pop().tick
    draft.drop()
    assert (performer.tick, len(draft)) == (tick, 0)


def test_undoing_takes_back_one(performer: Performer) -> None:
    performer.reset()
    draft = Draft(performer)
    extend(draft, 3)
    tick = draft.steps[1].tick
    draft.undo()
    assert (performer.tick, len(draft)) == (tick, 2)


def test_the_revision_tells_whoever_shows_it(performer: Performer) -> None:
    performer.reset()
    draft = Draft(performer)
    assert not draft.drop()
    seen = [draft.revision]
    extend(draft, 1)
    seen.append(draft.revision)
    draft.drop()
    seen.append(draft.revision)
    assert seen == sorted(set(seen))


def test_a_note_of_the_score_that_is_taken_back_comes_again(performer: Performer) -> None:
    performer.reset()
    draft = Draft(performer)
    draft.add(NoteEvent(0, 60, 24), performer.snapshot(), v.condition(None), part=0)
    assert draft.place == 1
    draft.drop()
    assert draft.place == 0
