"""Reading the log of a session, so that it can be looked at or lived through again.

``events.jsonl`` (`rtserver.recording.log`) says what was played into a session beside its audio: which song lay on which deck, commands,
parameters, MIDI, what came late, which worker died. `Log` is what the file says; `Rerun` makes a worker of another session do it again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import msgspec

from rtserver.audio.table import FOREVER
from rtserver.config import Config
from rtserver.config.click import COUNT_IN, PART
from rtserver.errors import RtserverError
from rtserver.events import (
    AnyEvent,
    Beat,
    Command,
    Cue,
    Entry,
    Event,
    Exit,
    Late,
    MidiIn,
    Note,
    Param,
    Position,
    Recording,
    Resume,
    Role,
    Song,
    Status,
    encode,
)
from rtserver.following.naming import COMMANDS
from rtserver.recording.log import DROPPED, FILE_NAME, LOG_VERSION, Loaded, SessionHeader, from_line
from rtserver.recording.take import TOO_SLOW
from rtserver.roles.agenda import EFFECT_S, Agenda, declared_frame, what
from rtserver.roles.hops import HOPS_A_SECOND, HopReader
from rtserver.shared.session import N_DECKS, RESTARTS, SECOND, Session

OUTSIDE = ("client", "command")  # parts of notes that no worker makes
PERFORMED = ("performer", "score", PART)  # parts of the notes that the performer tells
WORKERS = ("follower", "performer")  # in the order of the signal flow


class LogError(RtserverError):
    """A log is missing, damaged, or of another form."""


_header_decoder = msgspec.json.Decoder(SessionHeader)


@dataclass(frozen=True)
class Stay:
    """A song on a deck, in session frames: laid out at `loaded`, heard in [start, end), followed by another one there at `until`."""

    deck: int
    config: Config
    loaded: int
    start: int
    end: int
    until: int = FOREVER
    name: str = ""

    def role(self, role: str) -> str:
        """The literal name of a role on this deck."""
        return role + SECOND if self.deck else role


@dataclass(frozen=True)
class Stint:
    """The life of one process of a worker: it took the hops that end in [first, last].

    told : (frame taken, event), what it was told from outside, in the order of those frames. late : what came late in it or its heirs.
    doubtful : events of which nobody knows whether it got them or its dead predecessor. heir : whether there was a predecessor.
    """

    first: int
    last: int
    told: list[tuple[int, Event]]
    late: list[Late]
    doubtful: list[Event]
    heir: bool


@dataclass(frozen=True)
class Log:
    """One log.

    path : the file. header : its first line. config : the configuration of the session's first song. events : all events, each producer's
    in its order. decks : of each event, the deck to which it belongs where it belongs to one. stays : the songs that played, in order.
    torn : whether a crash cut the last line short, which is then left out.
    """

    path: Path
    header: SessionHeader
    config: Config
    events: list[AnyEvent] = field(repr=False)
    decks: list[int] = field(repr=False)
    stays: list[Stay] = field(repr=False)
    torn: bool = False

    @staticmethod
    def read(path: Path | str) -> Log:
        """Read ``events.jsonl``, or the one in the folder `path`. Raises `LogError`, naming the line."""
        path = Path(path)
        if path.is_dir():
            path = path / FILE_NAME
        try:
            data = path.read_bytes()
        except OSError as error:
            raise LogError(f"{path}: cannot be read ({error.strerror}); expected a recording's folder or its {FILE_NAME}") from None
        lines = data.split(b"\n")
        torn = bool(lines.pop())  # what follows the last line end: nothing, if the file is whole
        if not lines:
            raise LogError(f"{path}: empty; the session may have ended before anything was recorded")
        try:
            header = _header_decoder.decode(lines[0])
        except msgspec.MsgspecError as error:
            raise LogError(f"{path}, line 1: expected a session header ({error}); is it the log of a recording?") from None
        if header.version != LOG_VERSION:
            raise LogError(f"{path}: a log of form {header.version}, expected {LOG_VERSION}; it is of rtserver {header.release}")
        config = _config(header.config, f"{path}, line 1", header.release)
        stays = [Stay(0, config, 0, -FOREVER, FOREVER)]
        events: list[AnyEvent] = []
        decks: list[int] = []
        waiting: dict[int, Stay] = {}
        for number, line in enumerate(lines[1:], 2):
            if not line:
                continue
            try:
                deck, event = from_line(line)
            except msgspec.MsgspecError as error:
                raise LogError(f"{path}, line {number}: not an event ({error}); damaged, or of another release?") from None
            if isinstance(event, Loaded):
                its = _config(event.config, f"{path}, line {number}", header.release)
                waiting[event.deck] = Stay(event.deck, its, event.frame, FOREVER, FOREVER, name=event.name)
                continue
            events.append(event)
            decks.append(deck)
            if isinstance(event, Song) and event.state == "playing":
                if event.deck not in waiting:
                    raise LogError(f"{path}, line {number}: the song {event.name!r} begins, but its configuration is not in the log")
                stays[-1] = replace(stays[-1], end=event.frame)
                stays.append(replace(waiting.pop(event.deck), start=event.frame))
        for k, stay in enumerate(stays[:-2]):
            stays[k] = replace(stay, until=stays[k + 2].loaded)  # songs take turns on two decks
        return Log(path, header, config, events, decks, stays, torn)

    @property
    def audio(self) -> Path | None:
        """The recorded input beside the log; None where it was not recorded as one file."""
        path = self.path.with_name("input.wav")
        return path if path.is_file() else None

    def of(self, stay: Stay) -> list[AnyEvent]:
        """What was said by and to the roles of a deck while a song lay on it."""
        return self._by_stay[stay.deck, stay.loaded]

    @cached_property
    def _by_stay(self) -> dict[tuple[int, int], list[AnyEvent]]:
        found: dict[tuple[int, int], list[AnyEvent]] = {(stay.deck, stay.loaded): [] for stay in self.stays}
        loaded = [[stay.loaded for stay in self.stays if stay.deck == deck] for deck in range(N_DECKS)]
        for event, deck in zip(self.events, self.decks, strict=True):
            k = bisect_right(loaded[deck], _said(event))
            if k:
                found[deck, loaded[deck][k - 1]].append(event)
        return found

    def stints(self, stay: Stay, role: str) -> list[Stint]:
        """The lives of a worker (``follower``, ``performer``) while a song lay on its deck: more than one if it died.

        What the workers said to each other is not in it: a replay makes them say it again.
        """
        name, mine = stay.role(role), self.of(stay)
        late = [event for event in mine if isinstance(event, Late) and event.role == name]
        lives = self._lives(stay, role, [event.taken_frame for event in late])
        asked = {cue.name: cue.command or cue.parameter for cue in stay.config.cues.cue}
        fired = [event for event in mine if isinstance(event, Cue) and event.how not in ("dropped", "back")]
        cued = {(event.frame, event.available_frame, asked.get(event.name, "")) for event in fired}
        told: list[list[tuple[int, Event]]] = [[] for _ in lives]
        doubtful: list[list[Event]] = [[] for _ in lives]
        taken = {(e.what, e.frame, e.available_frame): e.taken_frame for e in late}
        hop_size = round(self.header.sample_rate / HOPS_A_SECOND)
        lasts = [last for _, last in lives]
        for event in mine:
            if not (isinstance(event, Param | Command | MidiIn | Beat | Note) and _is_for(role, event)):
                continue
            if isinstance(event, Param | Command) and (event.frame, event.available_frame, event.name) in cued:
                continue  # the follower says it again
            declared = declared_frame(event, round(EFFECT_S * self.header.sample_rate))
            at = taken.get((what(event), event.frame, declared))
            k = bisect_left(lasts, declared if at is None else at)
            if k == len(lives):
                continue  # nobody lived to see it
            if at is None and k > 0:  # an heir tells of what it found, so this came later, or went with its predecessor
                said = _said(event)
                if declared <= lives[k][0] - hop_size or said <= lasts[k - 1]:
                    continue
                if said <= self._buried(name, lasts[k - 1]):
                    doubtful[k].append(event)
            told[k].append((declared if at is None else at, event))
        return [
            Stint(
                first,
                last,
                sorted(told[k], key=lambda entry: entry[0]),
                [event for event in late if first <= event.taken_frame],
                doubtful[k],
                k > 0,
            )
            for k, (first, last) in enumerate(lives)
        ]

    def _lives(self, stay: Stay, role: str, late: list[int]) -> list[tuple[int, int]]:
        """First and last hop of every process of a worker."""
        name, firsts, said = stay.role(role), list[int](), late
        for event in self.of(stay):
            if isinstance(event, Entry) and event.role == name:
                firsts.append(event.frame)
            elif isinstance(event, Position) and role == "follower":
                said.append(event.frame)
            elif isinstance(event, Note) and role == "performer" and event.part in PERFORMED:
                said.append(event.available_frame)
        exits = [event.frame for event in self.events if isinstance(event, Exit) and event.role == name]
        lives: list[tuple[int, int]] = []
        for first, following in zip(firsts, [*firsts[1:], stay.until], strict=False):
            ended = [frame for frame in exits if first <= frame < following]
            # Who was killed while it spoke had not yet noted that hop.
            spoke = [frame for frame in said if first <= frame < following]
            lives.append((first, max(ended + spoke) if ended else following - 1))
        return lives

    def _buried(self, name: str, last: int) -> int:
        """When the death of a role after `last` was noticed."""
        return next((e.frame for e in self.events if isinstance(e, Role) and (e.role, e.state) == (name, "down") and e.frame >= last), last)

    @property
    def caveats(self) -> list[str]:
        """Why a replay will not be the session bit for bit; empty if it will."""
        found: list[str] = []
        if self.header.frame > 0:
            found.append(f"the recording began at frame {self.header.frame}: what was heard before is unknown")
        if self.torn:
            found.append("the log ends in the middle of a line: what was said last is unknown")
        gaps = [event for event in self.events if isinstance(event, Recording) and event.state == "gap"]
        for gap in gaps:
            if TOO_SLOW in gap.detail:
                found.append(f"the disk was too slow at frame {gap.frame}: {gap.detail}")
        for event in self.events:
            if isinstance(event, Resume):
                for gap in gaps:
                    if gap.frame < event.features_to < gap.available_frame:
                        found.append(f"what came in before the stream stopped is lacking from frame {gap.frame} on: workers heard more")
        listeners = {"recorder"}
        for stay in self.stays:
            for role in WORKERS:
                for stint in self.stints(stay, role):
                    listeners.add(stay.role(role))
                    if stint.doubtful:
                        which = ", ".join(what(event) for event in stint.doubtful)
                        found.append(f"{stay.role(role)} died before frame {stint.first}: who got {which} is unknown")
        for role in [stay.role("engine") for stay in self.stays]:
            late = max((e.counters.get("late_masks", 0) for e in self.events if isinstance(e, Status) and e.role == role), default=0)
            if late:
                found.append(f"masks of {role}'s network in the worker were late in {late} hops, where medians stood in")
        for role in [stay.role("separator") for stay in self.stays]:
            skipped = max((e.counters.get("skipped_hops", 0) for e in self.events if isinstance(e, Status) and e.role == role), default=0)
            if skipped:
                found.append(f"{role} skipped {skipped} hops: a replay's networks hear them, and its masks differ")
        dropped = {event.role: event.counters[DROPPED] for event in self.events if isinstance(event, Status) and DROPPED in event.counters}
        for role in listeners & {role for role, n in dropped.items() if n}:
            found.append(f"{dropped[role]} events found no room in the rings of {role}: which they were is unknown")
        return list(dict.fromkeys(found))


def _said(event: Event) -> int:
    """When an event was told, as well as the log knows: a parameter may be set far ahead."""
    return event.available_frame if isinstance(event, Param) else event.frame


def _config(raw: dict[str, object], where: str, release: str) -> Config:
    try:
        return msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        raise LogError(f"{where}: the configuration is of another release, {release} ({error})") from None


def _is_for(role: str, event: Param | Command | MidiIn | Beat | Note) -> bool:
    """Whether the gateway or midi sends such an event to that worker."""
    if isinstance(event, Note):  # those of performer and cues are made again
        return role == "follower" and event.part in OUTSIDE
    if isinstance(event, Param):
        return role == "performer" and event.name.startswith(("generation.", "click."))
    if isinstance(event, Command):
        return event.name in {"follower": ("reset", *COMMANDS), "performer": ("reset", "panic", COUNT_IN)}[role]
    return role == "performer" or isinstance(event, MidiIn)


class Worker(Protocol):
    """What a replay needs of a follower's or performer's role."""

    agenda: Agenda
    reader: HopReader

    def prepare(self) -> None: ...

    def step(self) -> None: ...


class Rerun:
    """Makes a worker do again what it did in a recorded session, whether one process or several.

    Parameters
    ----------
    session : Session
        Of the worker's deck, driven in step by its owner.
    role : str
        ``follower`` or ``performer``.
    stints : list of Stint
    make : callable
        A fresh worker, not yet prepared.

    Attributes
    ----------
    worker : Worker or None
        The present one; None where there was none.
    """

    def __init__(self, session: Session, role: str, stints: list[Stint], make: Callable[[], Worker]) -> None:
        self.session, self.role, self._make = session, role, make
        self._stints = deque(stints)
        self._told: deque[tuple[int, Event]] = deque()
        self._last = -1
        self.worker: Worker | None = None
        self._next()

    def step(self, frame: int) -> None:
        """Do what was done up to session frame `frame`. Call it before there are features beyond it."""
        while self.worker is not None:
            while self._told and self._told[0][0] <= frame:
                self._tell(self._told.popleft()[1], frame)
            self.worker.step()
            if not self._stints or frame < self._last:
                return
            self._next()

    def _next(self) -> None:
        if not self._stints:
            return
        stint, before = self._stints.popleft(), self.worker
        self.session.role(self.session.own(self.role))[RESTARTS] = int(stint.heir)
        self.worker = worker = self._make()
        worker.prepare()
        worker.agenda.postpone(stint.late)
        worker.reader.first_frame, worker.reader.last_frame = stint.first, stint.last
        if before is not None:
            worker.reader.go_on_from(before.reader)
            for event in before.agenda.leave():
                worker.agenda.add(event)
        self._told, self._last = deque(stint.told), stint.last

    def _tell(self, event: Event, frame: int) -> None:
        ring = self.session.ring("midi" if isinstance(event, MidiIn | Beat) else "gateway", self.session.own(self.role))
        if not ring.put(encode(event)):
            raise LogError(f"more than {ring.n_slots} events for {self.role} at frame {frame}")
