"""Fixtures: whole servers, each on a private JACK server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from liveserver import LiveServer, lag


@pytest.fixture
def own_jackd_of(monkeypatch, own_jackd):
    """Run a JACK server with a period of one's own for the length of a `with`."""

    @contextlib.contextmanager
    def run(period: int) -> Iterator[str]:
        with own_jackd(period) as (name, _server):
            monkeypatch.setenv("JACK_DEFAULT_SERVER", name)
            monkeypatch.setenv("JACK_NO_START_SERVER", "1")
            yield name

    return run


@pytest.fixture
def live_server(tmp_path) -> Iterator[Callable[[dict], LiveServer]]:
    """Starts servers (the JACK server must be there) and ends them."""
    with contextlib.ExitStack() as stack:

        def start(raw: dict, songs: dict[str, dict] | None = None) -> LiveServer:
            server = LiveServer(tmp_path, raw, songs)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def measure_lag():
    return lag
