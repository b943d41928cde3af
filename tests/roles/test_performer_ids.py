"""Note ids are unique within a boot, whoever made the note."""

from pathlib import Path

import numpy as np

from rtserver.config import Config, Generation
from rtserver.dsp.layout import LEVEL, N_HEARD
from rtserver.events import Note
from rtserver.roles.performer import PerformerRole
from rtserver.roles.playing import first_note_id
from rtserver.shared.memory import Layout
from rtserver.shared.session import Session, Setup

HOP = 480
HOURS_24 = 24 * 3600 * 192000


def play(session: Session, first_hop: int) -> list[int]:
    """The ids of what a performer plays that enters at a hop."""
    role = PerformerRole(session)
    role.prepare()
    silence = np.zeros(N_HEARD, np.float32)
    silence[LEVEL] = -120.0
    ids: list[int] = []
    for k in range(first_hop, first_hop + 500):
        session.features.write(silence, (k + 1) * HOP)
        role.step()
        ids += [event.note_id for event in session.receive("midi") if isinstance(event, Note)]
        session.receive("gateway")
    return ids


def test_a_performer_that_takes_a_dead_ones_place_counts_elsewhere(tmp_path: Path) -> None:
    layout = Layout()
    Session.declare(layout, 1, 1, N_HEARD)
    session = Session.create(layout, Setup(Config(generation=Generation(tempo_bpm=150.0, grid=6)), str(tmp_path)))
    before, after = play(session, 0), play(session, 500)
    assert before
    assert after
    assert len(set(before + after)) == len(before + after)


def test_ids_of_both_decks_differ_and_fit_a_number_of_json() -> None:
    hop = 220  # the shortest
    firsts = sorted(first_note_id(frame, deck) for frame in (hop, 2 * hop, HOURS_24) for deck in (0, 1))
    assert min(np.diff(firsts)) >= 4096
    assert firsts[-1] + 10**6 < 2**53
