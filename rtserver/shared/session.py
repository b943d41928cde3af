"""What a running server shares: who talks to whom, who counts what, whose heart still beats.

The supervisor makes one `Session`; every role attaches to it. A field has one writer; the comments beside the declarations say which.

Two songs can be loaded at once, each on a deck with an engine, a follower and a performer of its own. On the second deck these roles are
called ``engine.b`` and so on. Nobody need know: a session looks at one deck, and takes ``engine`` as the one of that deck.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from rtserver.config import Config
from rtserver.config.cues import MAX_CUES
from rtserver.config.midi import MAX_PORTS
from rtserver.events import AnyEvent, Event, decode, encode
from rtserver.node import Array
from rtserver.shared.histogram import HopTimes
from rtserver.shared.maskring import MaskRing
from rtserver.shared.memory import Block, Layout
from rtserver.shared.ring import MessageRing, SampleRing, VectorRing
from rtserver.shared.waker import Waker

DECK_ROLES = ("engine", "separator", "follower", "performer")
SECOND = ".b"  # suffix of their names on the second deck
ROLES = ("audio", *DECK_ROLES, *(role + SECOND for role in DECK_ROLES), "midi", "standby", "cables", "gateway", "recorder", "metrics")

# producer -> consumers of events. One ring each; the consumer's waker is posted with every event. The recorder looks by itself, so that
# recording costs a producer one more message in a ring and no more.
_PATHS: dict[str, tuple[str, ...]] = {
    "supervisor": ("gateway", "recorder"),
    "audio": ("gateway", "recorder"),
    "engine": ("gateway", "recorder"),
    # but for the performer, and positions for the engine: what cues ask for
    "follower": ("supervisor", "engine", "performer", "midi", "gateway", "recorder"),
    "performer": ("midi", "follower", "gateway", "recorder"),  # the follower: what is not the player's
    "midi": ("performer", "engine", "follower", "supervisor", "gateway", "recorder"),
    "cables": ("supervisor", "gateway", "recorder"),
    "recorder": ("gateway",),
    "gateway": ("supervisor", "engine", "follower", "performer", "midi", "recorder"),
}


def _on_both_decks(paths: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """A role of a deck speaks to its own deck, everyone else to both."""
    both: dict[str, tuple[str, ...]] = {}
    for producer, consumers in paths.items():
        twins = tuple(c + SECOND for c in consumers if c in DECK_ROLES)
        if producer not in DECK_ROLES:
            both[producer] = consumers + twins
            continue
        both[producer] = consumers
        both[producer + SECOND] = tuple(c + SECOND if c in DECK_ROLES else c for c in consumers)
    return both


EVENT_PATHS = _on_both_decks(_PATHS)

# Totals since the role's start, int64, written by that role alone. The audio role's own are in the callback's table (audio/table.py).
_COUNTED: dict[str, tuple[str, ...]] = {
    "engine": (
        *("hops", "lagged_frames", "restarts", "hop_ns_last", "hop_ns_max", "nonfinite", "wakes"),
        *("late_masks", "nonfinite_masks", "slow_networks"),  # hops without a network's masks, and runs of one beyond its budget
        "prompted_hops",  # of which a network was told what the score expects
    ),
    "separator": ("hops", "skipped_hops", "nonfinite", "run_ns_max"),
    "follower": ("hops", "late_hops", "positions", "lost_hops", "hop_ns_max", "last_hop", "own_notes", "own_keys"),
    "performer": (
        *("events", "notes", "late_notes", "query_ns_max", "nonfinite", "lost_hops", "last_hop", "clicks", "late_clicks"),
        *("left_late", "left_blocked", "replans"),
    ),
    "midi": (
        *("notes_on", "notes_off", "late_notes", "dropped_notes", "late_ns_max", "panics", "messages_in", "port_errors"),
        *("refused_in", "links_lost", "links_restored", "mapped", "ticks_in", "ticks_lost", "ticks_out", "keys_let_go"),
    ),
    "standby": ("releases", "overdue"),
    "cables": ("looks", "restored"),
    "gateway": (
        *("events", "commands", "bad_messages", "rate_limited", "denied", "dropped_events", "dropped_bulk", "dropped_replies"),
        *("lost_events", "lost_bulk", "log_failures", "clients"),
    ),
    "recorder": ("recording", "frames", "gap_frames", "lost_frames", "events", "failures"),
}
COUNTERS = _COUNTED | {role + SECOND: _COUNTED[role] for role in DECK_ROLES}
MAX_COUNTERS = 24

# Columns of the table of roles: whether memory is locked, the SCHED_FIFO priority held (0: none), the memory taken (PSS, bytes), and the
# kernels compiled since the role was up (none, or something was not warmed)
PID, BEAT_NS, STATE, RESTARTS, LOCKED, PRIORITY, MEMORY, COMPILATIONS = range(8)
STARTING, UP, CLOSING = range(3)

IN_RING_SIZE = 1 << 17  # frames: 2.7 s at 48 kHz, enough to rebuild an engine's state after its restart
TRACK_RING_SIZE = 1 << 15
MAX_TRACKS, MAX_TRACK_CHANNELS = 16, 32  # of one deck
N_DECKS = 2
POSITION: tuple[str, ...] = ("frame", "quarter", "tempo_bpm", "confidence")  # columns of a deck's position; frame 0: none was told
FEATURE_RING_SIZE = 1024  # hops: 10 s


class Track(msgspec.Struct, frozen=True):
    """A separated signal in the pool of a deck: channels `first` to `first` + `n_channels`, `latency` frames behind its input."""

    name: str
    input: str
    source: str
    first: int
    n_channels: int
    latency: int


class Setup(msgspec.Struct, frozen=True):
    """What the supervisor hands to each role beside the memory itself. Where a deck holds another song: that song's."""

    config: Config
    run_folder: str  # private folder of the session, removed at its end
    score_file: str = ""  # parsed score, ready to load
    tracks: tuple[Track, ...] = ()
    song: str = ""
    latencies: dict[str, int] = msgspec.field(default_factory=dict[str, int])  # frames, of every output


def deck_file(run_folder: Path | str, deck: int) -> Path:
    """Where the setup of the song on a deck lies."""
    return Path(run_folder) / f"deck{deck}.json"


def load_file(run_folder: Path | str, deck: int, frame: int) -> Path:
    """Where the setup of the song that was loaded on a deck at session frame `frame` lies for the recorder, which may come late."""
    return Path(run_folder) / f"deck{deck}-{frame}.json"


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
    """One server session as seen from one process.

    Parameters
    ----------
    block : Block
    deck : int
        The deck whose song `config` and `setup` tell of, and whose roles are meant by their names. A process that belongs to none goes
        with the song that plays, by `turn_to`.
    """

    def __init__(self, block: Block, deck: int = 0) -> None:
        self.block = block
        self.base = msgspec.json.decode(block.setup, type=Setup)
        self.turn_to(deck)
        self.clock = SharedClock(self)
        self.roles: Array = block["roles"]
        self.input_ring = SampleRing.of(block, "input")
        self.played = SampleRing.of(block, "played")
        recorded = bool(self.base.config.recording.folder)
        self._records = {producer: recorded and "recorder" in to for producer, to in EVENT_PATHS.items()}
        self._rings: dict[tuple[str, str], MessageRing] = {}
        self._wakers: dict[str, Waker] = {}

    @staticmethod
    def declare(layout: Layout, n_in: int, n_out: int, n_features: int) -> None:
        """Reserve everything but the audio callback's own table. `n_in` and `n_out` are the device's channels."""
        SampleRing.declare(layout, "input", n_in, IN_RING_SIZE)  # writer: audio
        SampleRing.declare(layout, "played", n_out, IN_RING_SIZE)  # writer: audio
        for deck in range(N_DECKS):
            layout.add(f"deck{deck}.samples", "<f4", (MAX_TRACK_CHANNELS, TRACK_RING_SIZE))  # writer: its engine, as of all of a deck
            layout.add(f"deck{deck}.spans", "<i8", (MAX_TRACKS, 2))
            layout.add(f"deck{deck}.levels", "<f8", (MAX_TRACKS, 3))  # gain in dB, mute, bypass of each output, for an engine that restarts
            VectorRing.declare(layout, f"deck{deck}.features", n_features, FEATURE_RING_SIZE)
            layout.add(f"deck{deck}.position", "<f8", (4,))  # the last one that the follower told: see POSITION
            layout.add(f"deck{deck}.cues", "<i1", (2, MAX_CUES))  # writer: its follower. Which have fired, which are armed
            HopTimes.declare(layout, deck)
            MaskRing.declare(layout, deck)
        layout.add("clock.line", "<f8", (4,))  # writer: the engine that plays
        layout.add("clock.sequence", "<i8", (1,))
        layout.add("roles", "<i8", (len(ROLES), 8))  # pid, state, restarts, memory: supervisor; heartbeat, state and the rest: the role
        layout.add("notes", "<i8", (16, 128))  # writer: midi. When each sounding note is due to end, CLOCK_MONOTONIC ns; 0 = silent
        layout.add("notes.ports", "<i8", (MAX_PORTS, 16, 128))  # writer: midi. The same for each port, as sent; < 0 = just released
        layout.add("keys", "|u1", (MAX_PORTS, 16, 128))  # writer: midi. What is down at each input port: see rtserver.midi.keys
        layout.add("midi.senders", "<i8", (MAX_PORTS,))  # writer: midi. Process ids of the ports' senders
        for role in COUNTERS:
            layout.add(f"counters.{role}", "<i8", (MAX_COUNTERS,))
        for producer, consumers in EVENT_PATHS.items():
            for consumer in consumers:
                shape = (64, 1024) if producer == "recorder" else (1024, 256)  # few words, but with paths in them
                MessageRing.declare(layout, f"events.{producer}.{consumer}", *shape)
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
    def attach(fd: int, deck: int = 0) -> Session:
        """The session behind an inherited descriptor, as a process of `deck` sees it."""
        return Session(Block.attach(fd), deck)

    def turn_to(self, deck: int) -> None:
        """See the session as a process of `deck` does: for one that belongs to none and goes with the song that plays."""
        self.deck = deck
        self.setup = self.setup_of(deck)
        self.config = self.setup.config
        self.features = VectorRing(self.block, f"deck{deck}.features")
        self._suffix = SECOND if deck == 1 else ""

    def own(self, role: str) -> str:
        """The literal name of a role as this process means it."""
        return role + self._suffix if role in DECK_ROLES else role

    def setup_of(self, deck: int) -> Setup:
        """What is on a deck."""
        path = deck_file(self.base.run_folder, deck)
        return msgspec.json.decode(path.read_bytes(), type=Setup) if path.exists() else self.base

    def track(self, track: Track, index: int) -> SampleRing:
        """The ring of track number `index` of this process's deck."""
        pool = self.block[f"deck{self.deck}.samples"]
        return SampleRing(pool[track.first : track.first + track.n_channels], self.block[f"deck{self.deck}.spans"][index])

    @property
    def run_folder(self) -> Path:
        """Private folder of the session."""
        return Path(self.setup.run_folder)

    def last_words(self, role: str) -> Path:
        """Where a role that ends by itself leaves why, for the supervisor to tell."""
        return self.run_folder / f"{role}.last-words"

    def waker(self, role: str) -> Waker:
        """The semaphore that `role` waits on."""
        return self._waker(self.own(role))

    def _waker(self, role: str) -> Waker:
        if role not in self._wakers:
            self._wakers[role] = Waker(self.block, f"waker.{role}")
        return self._wakers[role]

    def ring(self, producer: str, consumer: str) -> MessageRing:
        """The ring of events from one role to another, both by their literal names."""
        key = producer, consumer
        if key not in self._rings:
            self._rings[key] = MessageRing(self.block, f"events.{producer}.{consumer}")
        return self._rings[key]

    def emit(self, producer: str, event: Event, *consumers: str) -> bool:
        """Send an event to `consumers` (all that listen to `producer` if none is named). False if a ring was full.

        What the gateway is told the recorder is told too, and nobody cares whether it had room. It also learns to which deck the sender
        had turned: by a byte before the message, which no event begins with.
        """
        message = encode(event)
        producer, sent = self.own(producer), True
        for consumer in [self.own(consumer) for consumer in consumers] or EVENT_PATHS[producer]:
            if consumer == "recorder" or (consumer.endswith(SECOND) and not self.role(consumer)[PID]):
                continue  # the recorder comes last; an empty deck has no roles
            sent &= self.ring(producer, consumer).put(message)
            self._waker(consumer).post()
        if self._records[producer] and (not consumers or "gateway" in consumers or "recorder" in consumers):
            self.ring(producer, "recorder").put(bytes([self.deck]) + message if self.deck else message)
        return sent

    def receive(self, consumer: str) -> list[AnyEvent]:
        """Everything that waits for `consumer`, producer by producer."""
        return [event for _, event in self.receive_with_decks(consumer)]

    def receive_with_decks(self, consumer: str) -> list[tuple[int, AnyEvent]]:
        """The same, each with the deck to which its sender had turned; where that is not told (to the recorder it is), 0."""
        events: list[tuple[int, AnyEvent]] = []
        consumer = self.own(consumer)
        for producer, consumers in EVENT_PATHS.items():
            if consumer in consumers:
                for message in self.ring(producer, consumer).drain():
                    deck = message[0] if message[0] < N_DECKS else 0
                    events.append((deck, decode(message[1:] if deck else message)))
        return events

    def count(self, role: str, counter: str, by: int = 1) -> None:
        """Add to a counter of `role`; only that role does."""
        self.block[f"counters.{self.own(role)}"][COUNTERS[role].index(counter)] += by

    def count_set(self, role: str, counter: str, value: int) -> None:
        """Set a counter that holds the last of something; only `role` does."""
        self.block[f"counters.{self.own(role)}"][COUNTERS[role].index(counter)] = value

    def count_max(self, role: str, counter: str, value: int) -> None:
        """Raise a counter to `value` if that is more."""
        cell = self.block[f"counters.{self.own(role)}"]
        index = COUNTERS[role].index(counter)
        cell[index] = max(int(cell[index]), value)

    def counters(self, role: str) -> dict[str, int]:
        """All counters of `role`."""
        values = self.block[f"counters.{self.own(role)}"]
        return {name: int(values[i]) for i, name in enumerate(COUNTERS[role])}

    def role(self, name: str) -> Array:
        """The row of the literal `name` in the table of roles."""
        return self.roles[ROLES.index(name)]

    def beat(self, name: str, busy_s: float = 0.0) -> None:
        """Say that `name` is alive, and for how long it may now be too busy to say so."""
        self.role(self.own(name))[BEAT_NS] = time.monotonic_ns() + round(busy_s * 1e9)

    @property
    def frame(self) -> int:
        """The session frame up to which input has arrived."""
        return self.input_ring.written_to
