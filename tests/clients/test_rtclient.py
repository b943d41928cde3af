"""The client library: its parts that do no I/O, with time and losses of the test's making."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "clients"))

import rtclient
from rtclient import LEASE_S, Clock, NoteLease, Stream, reached

MS = 1_000_000  # nanoseconds
waits = st.floats(0, 3e9)
ways = st.floats(0, 50 * MS)


def header(sequence: int, epoch: int = 1, sent_ns: int = 0) -> list[Any]:
    return [1, "boot", epoch, sequence, 0, 0, sent_ns, None]


def heartbeat(sequences: dict[str, int], *notes: tuple[int, int]) -> dict[str, Any]:
    return {"kind": "heartbeat", "sequences": sequences, "notes": [(*note, 1) for note in notes]}


# -- the clock ------------------------------------------------------------------------------------------------------------------------


@given(st.integers(-(10**15), 10**15), st.floats(-1, 1), st.lists(st.tuples(waits, ways, ways), min_size=1, max_size=20), waits)
def test_the_offset_lies_within_its_stated_error(
    offset_ns: int, drift: float, pings: list[tuple[float, float, float]], later_ns: float
) -> None:
    """Whatever the ways took and as long as the clocks part no faster than stated."""
    clock, now = Clock(), 10**15

    def server(ns: float) -> float:
        return ns + offset_ns + drift * Clock.DRIFT * (ns - 10**15)

    for wait, there, back in pings:
        sent = now + wait
        now = sent + there + back
        clock.ping(round(sent), round(server(sent + there)), round(now))
        found, error = clock.offset_ns(round(now))
        assert abs(found - (server(now) - now)) <= error + 100  # nanoseconds, for rounding
    found, error = clock.offset_ns(round(now + later_ns))
    assert abs(found - (server(now + later_ns) - now - later_ns)) <= error + 100


def test_the_error_is_half_the_shortest_round_trip() -> None:
    clock = Clock()
    for sent, round_trip in ((0, 40 * MS), (1000, 2 * MS), (2000, 80 * MS)):
        clock.ping(sent, sent + round_trip // 2, sent + round_trip)
    assert clock.offset_ns(2000)[1] == pytest.approx(MS, rel=0.05)


def test_the_error_grows_with_the_age_of_the_ping() -> None:
    clock = Clock()
    clock.ping(0, MS, 2 * MS)
    assert clock.offset_ns(2 * MS + 10**9)[1] - clock.offset_ns(2 * MS)[1] == pytest.approx(0.5 * MS)


def test_a_clock_that_jumps_is_measured_anew() -> None:
    clock = Clock()
    clock.ping(0, MS, 2 * MS)
    clock.ping(3 * MS, 10**12, 5 * MS)
    assert clock.offset_ns(5 * MS) == pytest.approx((10**12 - 4 * MS, MS), rel=0.002)


def test_before_the_first_ping_nothing_is_known() -> None:
    assert Clock().offset_ns(0)[1] == float("inf")


# -- the lease ------------------------------------------------------------------------------------------------------------------------


class Synth:
    """What sounds, as a synth would know it."""

    def __init__(self) -> None:
        self.sounding: set[tuple[int, int]] = set()
        self.lease = NoteLease(self.start, self.stop)
        self.stopped: list[tuple[int, int]] = []

    def start(self, channel: int, pitch: int, velocity: int) -> None:
        assert (channel, pitch) not in self.sounding
        assert 1 <= velocity <= 127
        self.sounding.add((channel, pitch))

    def stop(self, channel: int, pitch: int) -> None:
        self.sounding.remove((channel, pitch))
        self.stopped.append((channel, pitch))

    def take(self, topic: str, payload: dict[str, Any], now_s: float, epoch: int = 1) -> None:
        self.lease.take(topic, header(1, epoch), payload, now_s, now_s)

    def on(self, pitch: int, note_id: int, now_s: float, epoch: int = 1) -> None:
        self.take("note_on", {"channel": 0, "pitch": pitch, "note_id": note_id, "velocity": 72}, now_s, epoch)

    def off(self, pitch: int, note_id: int, now_s: float) -> None:
        self.take("note_off", {"channel": 0, "pitch": pitch, "note_id": note_id}, now_s)


@pytest.fixture
def synth() -> Synth:
    synth = Synth()
    synth.take("heartbeat", heartbeat({}), 0.0)
    return synth


def test_a_note_sounds_from_its_note_on_to_its_note_off(synth: Synth) -> None:
    synth.on(60, 1, 0.1)
    assert synth.sounding == {(0, 60)}
    synth.off(60, 1, 0.2)
    assert synth.sounding == set()


def test_all_notes_end_when_the_server_falls_silent(synth: Synth) -> None:
    synth.on(60, 1, 0.1)
    synth.on(64, 2, 0.1)
    synth.lease.check(LEASE_S - 0.001)
    assert len(synth.sounding) == 2
    synth.lease.check(LEASE_S)
    assert synth.sounding == set()
    assert synth.lease.expired == 2


def test_other_messages_are_no_heartbeat(synth: Synth) -> None:
    synth.on(60, 1, 0.29)
    synth.lease.check(LEASE_S)
    assert synth.sounding == set()


def test_without_a_lease_no_note_begins(synth: Synth) -> None:
    synth.on(60, 1, LEASE_S)
    assert synth.sounding == set()
    synth.take("heartbeat", heartbeat({}, (0, 60)), LEASE_S)
    assert synth.sounding == set()  # it does not begin in its middle
    synth.on(62, 2, LEASE_S)
    assert synth.sounding == {(0, 62)}


def test_a_note_whose_note_off_was_lost_ends_with_the_next_heartbeat(synth: Synth) -> None:
    synth.on(60, 1, 0.05)
    synth.on(64, 2, 0.05)
    synth.take("heartbeat", heartbeat({}, (0, 64)), 0.1)
    assert synth.sounding == {(0, 64)}


def test_an_old_note_off_does_not_end_a_newer_note(synth: Synth) -> None:
    synth.on(60, 1, 0.05)
    synth.on(60, 2, 0.06)
    assert synth.stopped == [(0, 60)]
    synth.off(60, 1, 0.07)
    assert synth.sounding == {(0, 60)}


def test_another_gateway_begins_with_silence(synth: Synth) -> None:
    synth.on(60, 1, 0.05)
    synth.on(62, 2, 0.06, epoch=2)
    assert synth.sounding == set()


@given(
    st.lists(
        st.tuples(st.sampled_from(["on", "off", "beat"]), st.integers(60, 63), st.booleans(), st.floats(0, 0.15)),
        max_size=60,
    )
)
def test_no_note_outlives_the_servers_own_by_more_than_the_lease(steps: list[tuple[str, int, bool, float]]) -> None:
    """Whatever is lost on the way: `steps` are what the server does, and whether the client gets to know of it."""
    synth, now, held, note_id = Synth(), 0.0, dict[int, int](), 0
    ended = dict.fromkeys(range(60, 64), 0.0)
    for kind, pitch, arrives, wait in steps:
        now += wait
        if synth.lease.left_s(now) <= 0:
            synth.lease.check(now)
        if kind == "on" and pitch not in held:
            note_id += 1
            held[pitch] = note_id
            if arrives:
                synth.on(pitch, note_id, now)
        elif kind == "off" and pitch in held:
            if arrives:
                synth.off(pitch, held[pitch], now)
            del held[pitch]
            ended[pitch] = now
        elif kind == "beat" and arrives:
            synth.take("heartbeat", heartbeat({}, *((0, pitch) for pitch in held)), now)
        for _, sounding in synth.sounding:
            assert sounding in held or now - ended[sounding] <= LEASE_S
    synth.lease.check(now + LEASE_S)
    assert synth.sounding == set()


# -- joining --------------------------------------------------------------------------------------------------------------------------


@given(st.data())
def test_a_stream_accounts_for_every_message_after_the_snapshot(data: st.DataObject) -> None:
    """Messages 1 to n; some are lost on the way; heartbeats come between; the snapshot is taken somewhere."""
    n = data.draw(st.integers(0, 40))
    beats = data.draw(st.sets(st.integers(0, n)))
    asked = data.draw(st.integers(0, n))
    answered = data.draw(st.integers(asked, n))
    lost = data.draw(st.sets(st.integers(1, n or 1)))
    stream = Stream()
    stream.topics = ["position"]
    got: list[int] = []
    reported, included = 0, None

    def collect(messages: Any) -> None:
        nonlocal reported
        for message in messages:
            reported += message.payload["messages"] if message.topic == "lost" else 0
            got.extend([message.header[3]] if message.topic == "position" else [])

    for i in range(n + 1):
        if i and i not in lost:
            collect(stream.take("position", header(i), {}))
        if i in beats or i in (0, n):
            collect(stream.take("heartbeat", header(i + 1), heartbeat({"position": i})))
        if i == asked:
            included = i  # what the server knows when it answers
        if i == answered and included is not None:
            assert stream.wants_snapshot
            collect(stream.join({"boot_id": "boot", "epoch": 1, "sequences": {"position": included}}))
    assert included is not None
    assert got == [i for i in range(included + 1, n + 1) if i not in lost]
    assert reported == len([i for i in lost if included < i <= n])
    assert stream.lost == reported


def test_a_snapshot_of_another_server_is_asked_for_again() -> None:
    stream = Stream()
    list(stream.take("heartbeat", header(1), heartbeat({})))
    assert list(stream.join({"boot_id": "boot", "epoch": 2, "sequences": {}})) == []
    stream.wants_snapshot = False
    list(stream.take("heartbeat", header(1, epoch=2), heartbeat({})))
    assert stream.wants_snapshot
    assert [m.topic for m in stream.join({"boot_id": "boot", "epoch": 2, "sequences": {}})] == ["snapshot"]


@pytest.mark.parametrize(
    ("endpoint", "control", "expected"),
    [
        ("tcp://0.0.0.0:5581", "tcp://192.168.1.7:5580", "tcp://192.168.1.7:5581"),
        ("tcp://[::]:5581", "tcp://[fd00::7]:5580", "tcp://[fd00::7]:5581"),
        ("tcp://127.0.0.1:5581", "tcp://127.0.0.1:5580", "tcp://127.0.0.1:5581"),
        ("ipc:///run/events", "ipc:///run/control", "ipc:///run/events"),
    ],
)
def test_an_endpoint_that_listens_everywhere_is_where_the_server_was_reached(endpoint: str, control: str, expected: str) -> None:
    assert reached(endpoint, control) == expected


def test_a_copy_of_it_under_another_name_needs_nothing_of_the_server(tmp_path: Path) -> None:
    shutil.copytree(Path(rtclient.__file__).parent, tmp_path / "copied")
    code = "import sys, copied; print(copied.Client.__module__, *{'rtserver', 'rtclient'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("copied.client", "")
