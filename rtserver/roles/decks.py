"""The two decks: one song plays, the next one is loaded and warmed beside it, and takes over at a frame.

A deck goes round: empty → loading (its roles start) → ready → playing → ending → empty. What fails on the way to ready leaves what plays
untouched. The supervisor turns the decks; they spawn nothing themselves.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import msgspec

from rtserver.audio import table as t
from rtserver.audio.journal import unfinished, unread
from rtserver.config import Config
from rtserver.errors import RtserverError
from rtserver.events import Exit, encode
from rtserver.events import Song as SongEvent
from rtserver.plan import lay_out
from rtserver.preflight import Preflight, Prepared
from rtserver.shared.session import COUNTERS, DECK_ROLES, EVENT_PATHS, PID, SECOND, Session, deck_file, load_file
from rtserver.show import SONG_TABLES, Song

LEAD_S = 0.3  # from the order to the change: the engine wakes within 50 ms and rebuilds 0.75 s of state in less than 100
MAX_NAME_SIZE = 80  # bytes of a name in an event
TAIL_S = 1.0  # an ending song's roles live on for so long after the change


class State(Enum):
    """Of a deck."""

    EMPTY = "empty"
    LOADING = "loading"
    READY = "ready"
    PLAYING = "playing"
    ENDING = "ending"


@dataclass
class Deck:
    """One deck. `go` is the frame at which it is to play once it is ready; None: it waits for an order."""

    number: int
    state: State = State.EMPTY
    index: int = -1  # of its song in the set list
    song: Prepared | None = None
    go: int | None = None
    end: int = t.FOREVER

    @property
    def suffix(self) -> str:
        """What the names of its roles end with."""
        return SECOND if self.number else ""


def roles_of(song: Prepared) -> list[str]:
    """Roles that a song needs, those who make sound first."""
    roles = ["engine"]
    if song.song.config.deferred_inputs:
        roles.append("separator")
    if song.song.config.score.file:
        roles.append("follower")
    if song.song.config.keeps_time:
        roles.append("performer")
    return roles


def tell_exit(session: Session, name: str) -> None:
    """Tell how far a worker that has ended came; of other roles there is nothing to tell."""
    counters = COUNTERS.get(name, ())  # audio's are elsewhere
    if "last_hop" in counters:
        last_hop = int(session.block[f"counters.{name}"][counters.index("last_hop")])
        session.emit("supervisor", Exit(last_hop, session.frame, name))


def differences(show: Config, other: Config) -> dict[str, list[str]]:
    """What a running server cannot change and in which two configurations differ: sections, each with its keys (none for a plain value)."""
    found: dict[str, list[str]] = {}
    for section in show.__struct_fields__:
        ours, theirs = getattr(show, section), getattr(other, section)
        if section not in (*SONG_TABLES, "setlist") and ours != theirs:
            keys = ours.__struct_fields__ if isinstance(ours, msgspec.Struct) else ()
            found[section] = [key for key in keys if getattr(ours, key) != getattr(theirs, key)]
    return found


class Decks:
    """Which song is where.

    Parameters
    ----------
    session : Session
        The supervisor's; the first song of the set list is laid out on its first deck.
    setlist : list of Prepared
    run_folder : Path
    spawn, end, up : callables
        The supervisor's: start the roles of these names, end them, say whether they are all up.
    """

    def __init__(
        self,
        session: Session,
        setlist: list[Prepared],
        run_folder: Path,
        *,
        spawn: Callable[[list[str]], None],
        end: Callable[[list[str]], None],
        up: Callable[[list[str]], bool],
    ) -> None:
        self.session = session
        self.setlist = setlist
        self.run_folder = run_folder
        self._spawn, self._end, self._up = spawn, end, up
        self.table = session.block["audio.table"]
        self.rate = session.config.audio.sample_rate
        self.decks = [Deck(0, State.PLAYING, 0, setlist[0]), Deck(1)]
        self._preflight: tuple[Preflight, str] | None = None
        self._impossible: set[int] = set()  # songs of the set list that the open device cannot serve
        self._waiting: tuple[str, int] | None = None  # an order that came while a song was ending
        self._offer(setlist[0], 0)

    @property
    def playing(self) -> Deck:
        """The deck that is heard, or about to be."""
        return self.decks[int(self.table[t.PLAYING])]

    @property
    def idle(self) -> Deck:
        """The other one."""
        return self.decks[1 - int(self.table[t.PLAYING])]

    @property
    def _coming(self) -> int | None:
        """The song to be loaded ahead of time."""
        index = self.playing.index + 1
        return index if 0 < index < len(self.setlist) and index not in self._impossible else None

    def turn(self) -> None:
        """Take every deck one step further. Called often; waits for nothing."""
        idle = self.idle
        if self._preflight is not None and self._preflight[0].done and idle.state is not State.ENDING:
            self._take_reload()
        if self._waiting is not None and idle.state is not State.ENDING:
            order, self._waiting = self._waiting, None
            self.order(*order)
        if idle.state is State.LOADING and self._up(self._names(idle)):
            idle.state = State.READY
            self._tell(idle, "ready")
        if idle.state is State.READY and idle.go is not None:
            self._change(idle, idle.go)
        elif idle.state is State.ENDING and self.session.frame > idle.end + TAIL_S * self.rate:
            self._unload(idle)
        elif idle.state is State.EMPTY and self._preflight is None and self._coming is not None:
            self.load(self._coming)

    def order(self, which: str, frame: int) -> None:
        """Play a song from `frame` on, or as soon as it is ready: its name, ``next`` or ``previous``."""
        index = self._index(which)
        if index is None:
            known = ", ".join(s.song.name for s in self.setlist)
            self.refuse(which, f"no such song; the set list has {known}")
            return
        idle = self.idle
        if idle.state is State.ENDING:  # it is still heard
            self._waiting = (which, frame)
            return
        if idle.state is not State.EMPTY and idle.index != index:
            self._unload(idle)
        if idle.state is State.EMPTY:
            self.load(index)
        if idle.state is not State.EMPTY:
            idle.go = frame

    def reload(self, show: list[Song]) -> None:
        """Take a show that has been read anew: check it, load its version of the song that plays, and change to it."""
        wrong = differences(self.session.config, show[0].config)
        if wrong:
            sections = " ".join(f"[{section}]" if keys else section for section, keys in wrong.items())
            keys = ", ".join(f"{section}.{key}" for section, keys in wrong.items() for key in keys)
            self.refuse("reload", f"{sections}: changes need a restart; nothing was changed" + (f" ({keys})" if keys else ""))
            return
        if self._preflight is not None:
            self._preflight[0].cancel()
        folder = Path(tempfile.mkdtemp(prefix="reload-", dir=self.run_folder))
        self._preflight = (Preflight(show, folder), self._name(self.playing))
        self._tell(self.playing, "checking")

    def load(self, index: int) -> None:
        """Lay a song out on the idle deck and start its roles there."""
        idle, song = self.idle, self.setlist[index]
        needs, has = (song.plan.device_in, song.plan.device_out), (int(self.table[t.DEVICE_IN]), int(self.table[t.DEVICE_OUT]))
        if needs[0] > has[0] or needs[1] > has[1]:
            wants = f"wants {needs[0]} inputs and {needs[1]} outputs of the device"
            self._impossible.add(index)
            self.refuse(song.song.name, f"{wants}, {has[0]} and {has[1]} are open: restart with audio.input_channels and output_channels")
            return
        idle.song, idle.index, idle.state, idle.end = song, index, State.LOADING, t.FOREVER
        lay_out(self.session.block, song.plan, idle.number)
        for producer, consumers in EVENT_PATHS.items():
            for consumer in consumers:  # what was meant for the song before
                if consumer in self._all_names(idle):
                    ring = self.session.ring(producer, consumer)
                    ring.taken[0] = ring.written[0]
        frame = self.session.frame
        if self.session.config.recording.folder:
            load_file(self.run_folder, idle.number, frame).write_bytes(msgspec.json.encode(song.setup(self.run_folder)))
        self._offer(song, idle.number)
        self._spawn(self._names(idle))
        self._tell(idle, "loading", frame)

    def close(self) -> None:
        """End what runs beside the roles."""
        if self._preflight is not None:
            self._preflight[0].cancel()

    def tell_rest(self) -> None:
        """What the mixer did after the engines had gone, and how far the workers came."""
        for deck in self.decks:
            self._tell_rest(deck)

    def _tell_rest(self, deck: Deck) -> None:
        if deck.song is None:
            return
        block, outputs = self.session.block, list(deck.song.song.config.outputs)
        view = Session(block, deck.number)  # the recorder learns of which deck this is
        for event in (*unread(block, deck.number, outputs), *unfinished(block, deck.number, outputs)):
            view.emit("supervisor", event)
        for name in self._names(deck):
            tell_exit(self.session, name)

    def _take_reload(self) -> None:
        assert self._preflight is not None
        preflight, name = self._preflight
        self._preflight = None
        try:
            prepared = preflight.result()
        except RtserverError as error:
            self.refuse("reload", str(error))
            return
        self.setlist = prepared
        self._impossible.clear()
        names = [s.song.name for s in prepared]
        self.playing.index = names.index(name) if name in names else -1
        if self.idle.state is not State.EMPTY:
            self._unload(self.idle)
        self.load(max(self.playing.index, 0))
        if self.idle.state is not State.EMPTY:
            self.idle.go = 0

    def _index(self, which: str) -> int | None:
        names = [s.song.name for s in self.setlist]
        if which in names:
            return names.index(which)
        step = {"next": 1, "previous": -1}.get(which)
        if step is None or not 0 <= self.playing.index + step < len(names):
            return None
        return self.playing.index + step

    def _change(self, deck: Deck, frame: int) -> None:
        """Let `deck` take over at `frame`, or as soon as it can."""
        old, start = self.playing, max(frame, self.session.frame + round(LEAD_S * self.rate))
        heads = [t.DECKS + d.number * t.DECK_WIDTH for d in (old, deck)]
        self.table[heads[1] + t.END] = t.FOREVER
        self.table[heads[1] + t.START] = start
        self.table[heads[0] + t.END] = start
        old.state, old.end, deck.state, deck.go = State.ENDING, start, State.PLAYING, None
        self.table[t.PLAYING] = deck.number
        for name in self._names(deck):
            self.session.waker(name).post()
        self._tell(deck, "playing", start)

    def _unload(self, deck: Deck) -> None:
        self._end(self._names(deck))
        self._tell_rest(deck)
        for name in self._all_names(deck):
            self.session.role(name)[PID] = 0
        self.table[t.DECKS + deck.number * t.DECK_WIDTH + t.N_OUTPUTS] = 0
        deck.state, deck.song, deck.index, deck.go = State.EMPTY, None, -1, None

    def _offer(self, song: Prepared, deck: int) -> None:
        """Leave a song's setup where the roles of the deck find it, whole or not at all."""
        path = deck_file(self.run_folder, deck)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(song.setup(self.run_folder)))
        os.replace(fresh, path)

    def _names(self, deck: Deck) -> list[str]:
        return [role + deck.suffix for role in roles_of(deck.song)] if deck.song else []

    @staticmethod
    def _all_names(deck: Deck) -> list[str]:
        return [role + deck.suffix for role in DECK_ROLES]

    @staticmethod
    def _name(deck: Deck) -> str:
        return deck.song.song.name if deck.song else ""

    def _tell(self, deck: Deck, state: str, frame: int | None = None) -> None:
        now = self.session.frame
        self.session.emit("supervisor", SongEvent(now if frame is None else frame, now, self._name(deck), state, deck.number))

    def refuse(self, name: str, why: str) -> None:
        """Tell why something is not going to happen."""
        print(f"rtserver: {name} refused: {why}", file=sys.stderr, flush=True)
        now = self.session.frame
        event = SongEvent(now, now, name.encode()[:MAX_NAME_SIZE].decode(errors="ignore"), "refused", self.playing.number)
        room = self.session.ring("supervisor", "gateway").slot_size - len(encode(event)) - 4  # a longer event would not fit into its ring
        self.session.emit("supervisor", msgspec.structs.replace(event, detail=why.encode()[:room].decode(errors="ignore")))
