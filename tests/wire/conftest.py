"""Gateways to test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the tests share helpers that are no tests

from gateway_process import Gateway, configuration


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short name: the path of an ipc socket holds some 100 characters."""
    return tmp_path_factory.mktemp("w")


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for the tests of a module that leave it as it was."""
    gateway = Gateway(tmp_path_factory.mktemp("w"))
    try:
        yield gateway.started()
    finally:
        gateway.close()


@pytest.fixture
def make(folder: Path) -> Iterator[Callable[..., Gateway]]:
    """Makes gateways of one's own: ``make(table=...)``."""
    made: list[Gateway] = []

    def one(**tables: Any) -> Gateway:
        made.append(Gateway(folder, configuration(folder, **tables)))
        return made[-1]

    yield one
    for gateway in made:
        gateway.close()
