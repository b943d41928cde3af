"""What is told of late hops is of late."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtserver.audio import table as t
from rtserver.config import Config
from rtserver.shared.histogram import HopTimes
from rtserver.shared.memory import Layout
from rtserver.shared.session import Session, Setup
from rtserver.wire.recent import WINDOW_S, RecentTimes

FAST_NS, SLOW_NS = 100_000, 2_000_000


@pytest.fixture
def session(tmp_path: Path) -> Session:
    layout = Layout()
    t.declare(layout)
    Session.declare(layout, n_in=1, n_out=2, n_features=208)
    return Session.create(layout, Setup(Config(), str(tmp_path)))


def add(session: Session, ns: int, n: int, deck: int = 0) -> None:
    times = HopTimes(session.block, deck).claim("hop")
    for _ in range(n):
        times.add(ns)


def test_a_long_past_does_not_hide_the_present(session: Session) -> None:
    recent = RecentTimes(session)
    add(session, FAST_NS, 5000)
    recent.tick(0.0)
    add(session, SLOW_NS, 10)
    hop = recent.summaries()["hop"]
    assert hop["p50_s"] == pytest.approx(SLOW_NS * 1e-9, rel=0.13)
    assert hop["count"] == 5010


def test_what_is_older_than_the_window_is_forgotten(session: Session) -> None:
    recent = RecentTimes(session)
    add(session, SLOW_NS, 10)
    for second in range(2 * WINDOW_S):
        add(session, FAST_NS, 10)
        recent.tick(float(second))
    hop = recent.summaries()["hop"]
    assert hop["p99_s"] == pytest.approx(FAST_NS * 1e-9, rel=0.13)
    assert hop["max_s"] == pytest.approx(SLOW_NS * 1e-9)


def test_an_engine_that_began_anew_is_told_as_it_is(session: Session) -> None:
    recent = RecentTimes(session)
    add(session, SLOW_NS, 100)
    recent.tick(0.0)
    HopTimes(session.block).clear()
    add(session, FAST_NS, 3)
    assert recent.summaries()["hop"]["count"] == 3
    assert recent.summaries()["hop"]["p99_s"] == pytest.approx(FAST_NS * 1e-9, rel=0.13)


def test_the_deck_that_plays_is_told(session: Session) -> None:
    recent = RecentTimes(session)
    add(session, FAST_NS, 7, deck=1)
    assert "hop" not in recent.summaries()
    session.block["audio.table"][t.PLAYING] = 1
    assert recent.summaries()["hop"]["count"] == 7
