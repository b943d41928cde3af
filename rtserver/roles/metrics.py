"""The metrics role: serves the shared counters to Prometheus, from a process of its own, so that whoever scrapes delays nobody."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, start_http_server

from rtserver.errors import DeviceError
from rtserver.metrics import SessionCollector
from rtserver.roles.role import TURN_S
from rtserver.shared.session import Session


class MetricsRole:
    """An HTTP server that answers ``GET /metrics``."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def prepare(self) -> None:
        config = self.session.config.metrics
        registry = CollectorRegistry(auto_describe=False)
        registry.register(SessionCollector(self.session))
        try:
            self.server, self.thread = start_http_server(config.port, config.bind, registry)
        except OSError as error:
            remedy = "end the other program, or set metrics.port to another port"
            raise DeviceError(f"metrics.port: cannot bind {config.bind}:{config.port}: {error.strerror}; {remedy}") from None

    def turn(self) -> bool:
        time.sleep(TURN_S)
        return True

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
