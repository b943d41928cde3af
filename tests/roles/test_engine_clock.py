"""What the engine makes of the callback's stamps: one line over every start of the stream."""

from __future__ import annotations

import pytest

from rtserver.audio import table as t
from rtserver.config import Config
from rtserver.pipeline import build, plan_of
from rtserver.plan import open_session
from rtserver.roles.audio import begin_stream
from rtserver.roles.engine import EngineRole
from rtserver.shared.session import Session, Setup

RATE, BLOCK = 48000, 128


class Callback:
    """Stamps blocks as the native callback does."""

    def __init__(self, session: Session) -> None:
        self.table = session.block["audio.table"]
        self.start_s = 100.0

    def play(self, engine: EngineRole, n_blocks: int) -> None:
        for _ in range(n_blocks):
            frame = int(self.table[t.FRAME]) + BLOCK
            self.table[t.FRAME] = frame
            self.table[t.CLOCK_SEQUENCE] += 2
            self.table[t.CLOCK_FRAME] = frame
            self.table[t.CLOCK_NS] = round((self.start_s + frame / RATE) * 1e9)
            engine._follow_clock()


@pytest.fixture
def session(tmp_path) -> Session:
    config = Config()
    plan = plan_of(config, build(config))
    return open_session(Setup(config, str(tmp_path), "", plan.tracks), plan)


def test_a_new_stream_starts_the_line_anew_and_stamps_of_the_old_one_do_not_count(session: Session) -> None:
    engine, callback = EngineRole(session), Callback(session)
    begin_stream(session, 0)
    callback.play(engine, 500)
    assert session.clock.time_at(500 * BLOCK) == pytest.approx(100.0 + 500 * BLOCK / RATE, abs=1e-6)

    begin_stream(session, 500 * BLOCK + 4800)
    engine._follow_clock()  # the table still holds the last pair of the stream before
    callback.start_s += 0.05  # not enough to be taken for a restart by its size
    callback.play(engine, 2)
    frame = int(session.block["audio.table"][t.FRAME])
    assert session.clock.time_at(frame) == pytest.approx(100.05 + frame / RATE, abs=1e-6)


def test_the_starts_of_the_stream_are_told_with_their_frames(session: Session) -> None:
    for frame in (0, 4800, 96000):
        begin_stream(session, frame)
    assert [(epoch, frame) for epoch, frame, _ in t.epochs(session.block)] == [(0, 0), (1, 4800), (2, 96000)]


def test_a_session_remembers_the_latest_starts(session: Session) -> None:
    for k in range(t.EPOCH_RING + 3):
        begin_stream(session, 480 * k)
    starts = t.epochs(session.block)
    assert len(starts) == t.EPOCH_RING
    assert starts[-1][:2] == (t.EPOCH_RING + 2, 480 * (t.EPOCH_RING + 2))
    assert starts[0][:2] == (3, 480 * 3)
