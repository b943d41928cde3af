"""Fixtures of the fault matrix: a row to fill, a stage to try faults on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults import Row, Stage, settings

passed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.stash[passed] = report.passed
    return report


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Iterator[Row]:
    """A row of the matrix; it is written when the test has passed."""
    row = Row(test=request.node.name, group=Path(request.node.path).stem.removeprefix("test_"))
    yield row
    if request.node.stash.get(passed, False):
        assert row.fault, "a row names its fault"
        row.write()


@pytest.fixture(scope="module")
def stage(jack_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One server for all faults of a module that it survives: that it does is part of the test."""
    stage = Stage(tmp_path_factory.mktemp("s"), settings("rtfault"))
    yield stage
    stage.close()


@pytest.fixture
def make_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[dict], Stage]]:
    """Stages of one's own; a JACK server must be there."""
    made: list[Stage] = []

    def make(raw: dict) -> Stage:
        made.append(Stage(tmp_path_factory.mktemp("s"), raw))
        return made[-1]

    yield make
    for stage in made:
        stage.close()
