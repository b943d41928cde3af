"""Workers read hop after hop, say where they begin, and notice what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtserver.config import Config, Generation, Recording
from rtserver.dsp.layout import N_HEARD
from rtserver.events import Entry, Note
from rtserver.roles.hops import HopReader
from rtserver.roles.performer import PerformerRole
from rtserver.shared.memory import Layout
from rtserver.shared.session import FEATURE_RING_SIZE, Session, Setup

HOP = 480


@pytest.fixture
def session(tmp_path: Path) -> Session:
    layout = Layout()
    Session.declare(layout, 1, 1, N_HEARD)
    config = Config(generation=Generation(tempo_bpm=150.0, grid=6), recording=Recording(folder="shows"))
    return Session.create(layout, Setup(config, str(tmp_path)))


def write(session: Session, first: int, n: int, offset: int = 0) -> None:
    """Hops `first` to `first` + n, each at its frame; the vector holds the number of its hop."""
    for k in range(first, first + n):
        session.features.write(np.full(N_HEARD, k, np.float32), (k + 1) * HOP + offset)


def read(reader: HopReader) -> list[tuple[int, int]]:
    x = np.zeros(N_HEARD, np.float32)
    return list(reader.hops(reader.written, x))


def test_hops_come_in_order_and_the_first_is_told(session: Session) -> None:
    reader = HopReader(session, "follower")
    write(session, 0, 3)
    assert read(reader) == [(480, 0), (960, 0), (1440, 0)]
    write(session, 3, 1)
    assert read(reader) == [(1920, 0)]
    assert session.receive("gateway") == [Entry(480, 480, "follower")]
    assert session.receive("recorder") == [Entry(480, 480, "follower")]


def test_it_begins_where_the_ring_is(session: Session) -> None:
    write(session, 0, 5)
    reader = HopReader(session, "performer")
    write(session, 5, 2)
    assert read(reader) == [(2880, 0), (3360, 0)]


def test_what_is_missing_is_counted_in_frames(session: Session) -> None:
    reader = HopReader(session, "follower")
    write(session, 0, 2)
    write(session, 102, 2)
    assert read(reader) == [(480, 0), (960, 0), (103 * HOP, 100 * HOP), (104 * HOP, 0)]


def test_hops_that_are_cut_anew_after_a_reset_are_no_gap(session: Session) -> None:
    reader = HopReader(session, "follower")
    write(session, 0, 2)
    write(session, 2, 2, offset=320)
    assert [missing for _, missing in read(reader)] == [0, 0, 0, 0]


def test_a_reader_that_was_away_too_long_goes_on_at_the_present(session: Session) -> None:
    reader = HopReader(session, "follower")
    write(session, 0, 1)
    read(reader)
    write(session, 1, FEATURE_RING_SIZE + 10)
    assert read(reader) == []
    write(session, FEATURE_RING_SIZE + 11, 1)
    assert read(reader) == [((FEATURE_RING_SIZE + 12) * HOP, (FEATURE_RING_SIZE + 10) * HOP)]
    assert session.counters("follower")["lost_hops"] == FEATURE_RING_SIZE + 10


def test_a_replay_begins_where_it_is_told(session: Session) -> None:
    reader = HopReader(session, "performer")
    reader.first_frame = 3 * HOP
    write(session, 0, 4)
    assert read(reader) == [(1440, 0), (1920, 0)]
    assert session.receive("gateway") == [Entry(1440, 1440, "performer")]


def test_over_a_gap_the_transport_goes_on_and_no_notes_pile_up(session: Session) -> None:
    """Two seconds of input never came: what was due meanwhile is left out, and what comes after lies on the same beat."""
    performer = PerformerRole(session)
    performer.prepare()
    silence = np.zeros(N_HEARD, np.float32)
    silence[100] = -120.0
    notes: list[Note] = []
    hops = [*range(600), *range(800, 1400)]
    for k in hops:
        session.features.write(silence, (k + 1) * HOP)
        performer.step()
        notes += [e for e in session.receive("midi") if isinstance(e, Note)]
        session.receive("gateway")
    gap = (600 * HOP, 801 * HOP)
    assert sum(note.frame > gap[1] for note in notes) > 5
    assert not [note for note in notes if gap[0] + performer.playing.horizon < note.frame < gap[1]]
    after = [note.frame for note in notes if gap[1] <= note.frame < gap[1] + 4800]
    assert len(after) <= session.config.generation.polyphony
    grid = performer.transport.frames_per_quarter / 4
    for note in notes:
        beats = performer.transport.quarter_at(note.frame) * 4
        assert abs(beats - round(beats)) * grid <= 2400, "on the grid, or as late as a note may be"
