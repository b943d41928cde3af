"""What a running server shares: who talks to whom, who counts what, whose heart still beats.

The supervisor makes one `Session`; every role attaches to it. A field has one writer; the comments beside the declarations say which.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from rtserver.config import Config
from rtserver.events import AnyEvent, Event, decode, encode
from rtserver.node import Array
from rtserver.shared.histogram import HopTimes
from rtserver.shared.memory import Block, Layout
from rtserver.shared.ring import MessageRing, SampleRing, VectorRing
from rtserver.shared.waker import Waker

ROLES = ("audio", "engine", "follower", "performer", "midi", "standby", "gateway")

# producer -> consumers of events. One ring each; the consumer's waker is posted with every event.
EVENT_PATHS: dict[str, tuple[str, ...]] = {
    "supervisor": ("gateway",),
    "engine": ("gateway",),
    "follower": ("performer", "gateway"),
    "performer": ("midi", "gateway"),
    "midi": ("performer", "gateway"),
    "gateway": ("supervisor", "engine", "follower", "performer", "midi"),
}

# Totals since the role's start, int64, written by that role alone. The audio role's own are in the callback's table (audio/table.py).
COUNTERS: dict[str, tuple[str, ...]] = {
    "engine": ("hops", "lagged_frames", "restarts", "hop_ns_last", "hop_ns_max", "nonfinite", "wakes"),
    "follower": ("hops", "late_hops", "positions", "lost_hops", "hop_ns_max"),
    "performer": ("events", "notes", "late_notes", "query_ns_max", "nonfinite"),
    "midi": ("notes_on", "notes_off", "late_notes", "dropped_notes", "late_ns_max", "panics", "messages_in", "port_errors"),
    "standby": ("releases",),
    "gateway": ("events", "commands", "bad_messages", "dropped_events", "dropped_bulk", "recorded"),
}
MAX_COUNTERS = 16

# Columns of the table of roles: whether memory is locked, the SCHED_FIFO priority held (0: none), and the memory taken (PSS, bytes)
PID, BEAT_NS, STATE, RESTARTS, LOCKED, PRIORITY, MEMORY = range(7)
STARTING, UP, CLOSING = range(3)

IN_RING_SIZE = 1 << 17  # frames: 2.7 s at 48 kHz, enough to rebuild an engine's state after its restart
OUT_RING_SIZE = 1 << 15
FEATURE_RING_SIZE = 1024  # hops: 10 s


class Setup(msgspec.Struct, frozen=True):
    """What the supervisor hands to each role beside the memory itself."""

    config: Config
    run_folder: str  # private folder of the session, removed at its end
    score_file: str = ""  # parsed score, ready to load
    n_tracks: int = 0


class SharedClock:
    """The session's clock as last published by the engine: a line through (frame, CLOCK_MONOTONIC)."""

    def __init__(self, session: Session) -> None:
        self._line = session.block["clock.line"]
        self._sequence = session.block["clock.sequence"]
        self.sample_rate = session.config.audio.sample_rate

    def publish(self, frame: float, time_s: float, rate: float, error_s: float) -> None:
        """Write a new line; only the engine does."""
        self._sequence[0] += 1
        self._line[:] = (frame, time_s, rate, error_s)
        self._sequence[0] += 1

    def line(self) -> tuple[float, float, float, float]:
        """(frame, time_s, rate, error_s), never a half-written one. The rate is 0 until the clock runs."""
        while True:
            before = int(self._sequence[0])
            frame, time_s, rate, error_s = (float(v) for v in self._line)
            if before % 2 == 0 and before == int(self._sequence[0]):
                return frame, time_s, rate, error_s

    @property
    def running(self) -> bool:
        """Whether a line has been published."""
        return int(self._sequence[0]) > 0

    def now_s(self) -> float:
        return time.monotonic()

    def frame_at(self, time_s: float) -> float:
        frame, at_s, rate, _ = self.line()
        return frame + (time_s - at_s) * (rate or self.sample_rate)

    def time_at(self, frame: float) -> float:
        at_frame, at_s, rate, _ = self.line()
        return at_s + (frame - at_frame) / (rate or self.sample_rate)


class Session:
    """One server session as seen from one process."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.setup = msgspec.json.decode(block.setup, type=Setup)
        self.config = self.setup.config
        self.clock = SharedClock(self)
        self.roles: Array = block["roles"]
        self.input_ring = SampleRing(block, "input")
        self.features = VectorRing(block, "features")
        self._rings: dict[tuple[str, str], MessageRing] = {}
        self._wakers: dict[str, Waker] = {}

    @staticmethod
    def declare(layout: Layout, n_channels: int, n_tracks: int, n_features: int) -> None:
        """Reserve everything but the audio callback's own table."""
        SampleRing.declare(layout, "input", n_channels, IN_RING_SIZE)  # writer: audio
        for track in range(n_tracks):
            SampleRing.declare(layout, f"track{track}", n_channels, OUT_RING_SIZE)  # writer: engine
        VectorRing.declare(layout, "features", n_features, FEATURE_RING_SIZE)  # writer: engine
        HopTimes.declare(layout)  # writer: engine
        layout.add("clock.line", "<f8", (4,))  # writer: engine
        layout.add("clock.sequence", "<i8", (1,))
        layout.add("roles", "<i8", (len(ROLES), 8))  # pid, state, restarts, memory: supervisor; heartbeat, state and the rest: the role
        layout.add("notes", "<i8", (16, 128))  # writer: midi. When each sounding note is due to end, CLOCK_MONOTONIC ns; 0 = silent
        for role in COUNTERS:
            layout.add(f"counters.{role}", "<i8", (MAX_COUNTERS,))
        for producer, consumers in EVENT_PATHS.items():
            for consumer in consumers:
                MessageRing.declare(layout, f"events.{producer}.{consumer}")
        for name in (*ROLES, "supervisor"):
            Waker.declare(layout, f"waker.{name}")

    @staticmethod
    def create(layout: Layout, setup: Setup) -> Session:
        """A new session; the caller is its supervisor."""
        session = Session(Block.create(layout, msgspec.json.encode(setup)))
        for name in (*ROLES, "supervisor"):
            session.waker(name).init()
        return session

    @staticmethod
    def attach(fd: int) -> Session:
        """The session behind an inherited descriptor."""
        return Session(Block.attach(fd))

    @property
    def run_folder(self) -> Path:
        """Private folder of the session."""
        return Path(self.setup.run_folder)

    def waker(self, role: str) -> Waker:
        """The semaphore that `role` waits on."""
        if role not in self._wakers:
            self._wakers[role] = Waker(self.block, f"waker.{role}")
        return self._wakers[role]

    def ring(self, producer: str, consumer: str) -> MessageRing:
        """The ring of events from one role to another."""
        key = (producer, consumer)
        if key not in self._rings:
            self._rings[key] = MessageRing(self.block, f"events.{producer}.{consumer}")
        return self._rings[key]

    def emit(self, producer: str, event: Event, *consumers: str) -> bool:
        """Send an event to `consumers` (all that listen to `producer` if none is named). False if a ring was full."""
        message = encode(event)
        sent = True
        for consumer in consumers or EVENT_PATHS[producer]:
            sent &= self.ring(producer, consumer).put(message)
            self.waker(consumer).post()
        return sent

    def receive(self, consumer: str) -> list[AnyEvent]:
        """Everything that waits for `consumer`, producer by producer."""
        events: list[AnyEvent] = []
        for producer, consumers in EVENT_PATHS.items():
            if consumer in consumers:
                events.extend(decode(message) for message in self.ring(producer, consumer).drain())
        return events

    def count(self, role: str, counter: str, by: int = 1) -> None:
        """Add to a counter of `role`; only that role does."""
        self.block[f"counters.{role}"][COUNTERS[role].index(counter)] += by

    def count_max(self, role: str, counter: str, value: int) -> None:
        """Raise a counter to `value` if that is more."""
        cell = self.block[f"counters.{role}"]
        index = COUNTERS[role].index(counter)
        cell[index] = max(int(cell[index]), value)

    def counters(self, role: str) -> dict[str, int]:
        """All counters of `role`."""
        values = self.block[f"counters.{role}"]
        return {name: int(values[i]) for i, name in enumerate(COUNTERS[role])}

    def role(self, name: str) -> Array:
        """The row of `name` in the table of roles."""
        return self.roles[ROLES.index(name)]

    def beat(self, name: str) -> None:
        """Say that `name` is alive."""
        self.role(name)[BEAT_NS] = time.monotonic_ns()

    @property
    def frame(self) -> int:
        """The session frame up to which input has arrived."""
        return self.input_ring.written_to
