"""Who waits for features is woken when there are some."""

from __future__ import annotations

import numpy as np
import pytest

from rtserver.audio import table as t
from rtserver.config import Config
from rtserver.pipeline import build, plan_of
from rtserver.plan import open_session
from rtserver.roles.audio import begin_stream
from rtserver.roles.engine import EngineRole
from rtserver.shared.session import Session, Setup

BLOCK = 128


@pytest.fixture
def session(tmp_path) -> Session:
    config = Config()
    plan = plan_of(config, build(config))
    return open_session(Setup(config, str(tmp_path), "", plan.tracks), plan)


def test_follower_and_performer_are_woken_with_every_hop_of_features_and_only_then(session: Session) -> None:
    engine = EngineRole(session)
    engine.prepare()
    session.block["audio.table"][t.DECKS + t.START] = 0
    session.block["audio.table"][t.DECKS + t.END] = t.FOREVER
    begin_stream(session, 0)
    silence = np.zeros((session.input_ring.samples.shape[0], BLOCK), np.float32)
    woken = 0
    for n in range(40):
        session.input_ring.write(silence, n * BLOCK)
        before = int(session.features.count[0])
        engine._work()
        rings = [session.waker(role).wait(0.0) for role in ("follower", "performer")]
        assert rings == [int(session.features.count[0]) > before] * 2
        woken += all(rings)
    assert 5 <= woken < 40, "a hop of features is longer than a block"
