"""The metrics role: serves the shared counters to Prometheus, from a process of its own, so that whoever scrapes delays nobody.

Where its port is taken the show goes on without metrics; it says so, and tries again.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server

from rtserver.operations.metrics import SessionCollector
from rtserver.roles.role import TURN_S
from rtserver.shared.session import Session

RETRY_S = 2.0


class MetricsRole:
    """An HTTP server that answers ``GET /metrics``."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.server: Any = None
        self._retry_s = 0.0

    def prepare(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(SessionCollector(self.session))
        error = self._serve()
        if error:
            config = self.session.config.metrics
            remedy = "end the other program, or set metrics.port to another port"
            said = f"metrics.port: cannot bind {config.bind}:{config.port}: {error}; no metrics until then: {remedy}"
            print(f"rtserver metrics: {said}", file=sys.stderr, flush=True)

    def _serve(self) -> str:
        """Open the port. Returns why that failed, or nothing."""
        config = self.session.config.metrics
        self._retry_s = time.monotonic() + RETRY_S
        try:
            self.server, _thread = start_http_server(config.port, config.bind, self.registry)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def turn(self) -> bool:
        time.sleep(TURN_S)
        if self.server is None and time.monotonic() >= self._retry_s:
            self._serve()
        return True

    def close(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
