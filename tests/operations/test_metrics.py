"""What Prometheus reads is what the roles have counted."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rtserver.audio import table as t
from rtserver.config import Config, Metrics
from rtserver.operations.metrics import COUNTED, LONGEST_S, SessionCollector
from rtserver.roles import supervisor
from rtserver.shared.histogram import Histogram, HopTimes
from rtserver.shared.memory import Layout
from rtserver.shared.session import COUNTERS, PID, RESTARTS, STATE, UP, Session, Setup


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def session_of(tmp_path: Path, config: Config) -> Session:
    layout = Layout()
    t.declare(layout)
    Session.declare(layout, n_in=1, n_out=2, n_features=208)
    return Session.create(layout, Setup(config, str(tmp_path), latencies={"harmonic": 480}))


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return session_of(tmp_path, Config())


Samples = dict[tuple[str, ...], float]


def samples(text: str) -> Samples:
    """(name, values of the labels in alphabetical order …) -> value"""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, *(sample.labels[label] for label in sorted(sample.labels))] = sample.value
    return found


def scraped(session: Session) -> Samples:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SessionCollector(session))
    return samples(generate_latest(registry).decode())


def test_every_counter_that_is_named_exists() -> None:
    sources = [source for _, _, by_label in COUNTED.values() for source in by_label.values()] + list(LONGEST_S.values())
    for role, counter in sources:
        assert counter in (t.COUNTERS if role == "audio" else COUNTERS[role]), (role, counter)


def test_counters_are_those_of_the_roles(session: Session) -> None:
    session.count("midi", "notes_on", 7)
    session.block["audio.table"][t.UNDERFLOWS] = 3
    found = scraped(session)
    assert found["rt_notes_total", "on"] == 7
    assert found["rt_xruns_total", "output_underflow"] == 3


def test_times_are_in_seconds(session: Session) -> None:
    session.count_max("midi", "late_ns_max", 2_000_000)
    assert scraped(session)["rt_note_lateness_max_seconds",] == pytest.approx(0.002)


def test_hops_are_a_histogram_by_node(session: Session) -> None:
    times = HopTimes(session.block).claim("stft")
    for ns in (100_000, 200_000, 5_000_000):
        times.add(ns)
    found = scraped(session)
    assert found["rt_hop_seconds_count", "0", "stft"] == 3
    assert found["rt_hop_seconds_sum", "0", "stft"] == pytest.approx(0.0053)
    below = [value for key, value in found.items() if key[0] == "rt_hop_seconds_bucket" and float(key[2]) < 0.001]
    assert max(below) == 2


def test_of_roles_those_that_run_are_told(session: Session) -> None:
    row = session.role("midi")
    row[PID], row[STATE], row[RESTARTS] = os.getpid(), UP, 4
    found = scraped(session)
    assert (found["rt_role_up", "midi"], found["rt_restarts_total", "midi"]) == (1, 4)
    assert ("rt_role_up", "engine") not in found


def test_where_nothing_is_followed_no_position_is_told(session: Session) -> None:
    assert not any(name.startswith(("rt_position_quarters", "rt_tempo", "rt_confidence")) for name, *_ in scraped(session))


def test_the_position_is_that_of_the_deck_that_plays(session: Session) -> None:
    session.block["deck0.position"][:] = (480.0, 1.5, 90.0, 0.25)
    session.block["deck1.position"][:] = (960.0, 2.5, 100.0, 0.75)
    session.block["audio.table"][t.PLAYING] = 1
    found = scraped(session)
    assert (found["rt_position_quarters",], found["rt_tempo_bpm",], found["rt_confidence",]) == (2.5, 100.0, 0.75)


def test_callbacks_are_a_histogram(session: Session) -> None:
    times = Histogram(session.block["audio.times"])
    for ns in (20_000, 40_000):
        times.add(ns)
    found = scraped(session)
    assert found["rt_callback_seconds_count",] == 2
    assert found["rt_callback_seconds_sum",] == pytest.approx(60e-6)


def test_latency_is_in_frames(session: Session) -> None:
    assert scraped(session)["rt_latency_frames", "harmonic"] == 480


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[[int], Session]]:
    """Runs the role as a process on a port until the end of the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int) -> Session:
        session = session_of(tmp_path, Config(metrics=Metrics(port=port)))
        fd = session.block.fd
        process = subprocess.Popen([sys.executable, "-m", "rtserver.roles.role", "metrics", str(fd)], pass_fds=[fd])
        started.append(process)
        until(lambda: process.poll() is not None or session.role("metrics")[STATE] == UP)
        assert process.poll() is None
        return session

    yield start
    for process in started:
        process.terminate()
        assert process.wait(10.0) == 0


def until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def asked(port: int) -> Samples:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5.0) as answer:
        return samples(answer.read().decode())


def test_the_role_serves_what_is_counted_now(serving: Callable[[int], Session]) -> None:
    port = free_port()
    session = serving(port)
    for n in (1, 2):
        session.count("midi", "panics")
        assert asked(port)["rt_panics_total",] == n


def test_a_taken_port_is_waited_for(serving: Callable[[int], Session], capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        serving(port)
        assert f"cannot bind 127.0.0.1:{port}" in capfd.readouterr().err

    def answers() -> bool:
        try:
            return bool(asked(port))
        except OSError:
            return False

    until(answers)


def test_without_the_extra_there_is_a_line_and_no_role(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(supervisor.importlib.util, "find_spec", lambda _: None)
    assert not supervisor.metrics_available()
    assert "pip install 'rtserver[metrics]'" in capsys.readouterr().err
