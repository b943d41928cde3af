"""The recorder role: what came in, what went out and every event go to disk. Whatever the disk does, the music does not hear of it.

It reads rings and is waited for by nobody: a disk that stalls costs silence in the file, counted; a disk that fails ends the recording,
with a line and an event, and it can be started again.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import msgspec

from rtserver.audio import table as audio_table
from rtserver.errors import RtserverError
from rtserver.events import Command, Event, Recording, Song, Status, encode
from rtserver.recording.log import DROPPED, loaded
from rtserver.recording.take import Take, new_folder, oldest, reason, sources
from rtserver.shared.session import COUNTERS, EVENT_PATHS, PID, RESTARTS, SECOND, Session, Setup, load_file

POLL_S = 0.02  # nobody wakes us: one wait and one turn cost less than a wake for every event
CHECK_S = 1.0  # how often the files are looked for, and the counters of all roles written down
LAST_EVENTS_S = 0.25  # midi lets go of every note while the session ends: that belongs to the recording
STATE_FILE = "recording.json"  # in the session's private folder: which recording a restarted recorder goes on with


class _State(msgspec.Struct, frozen=True):
    folder: str
    first_frame: int


class RecorderRole:
    """Starts, feeds and ends recordings."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.take: Take | None = None
        self._state = session.run_folder / STATE_FILE
        self._checked_s = 0.0

    def prepare(self) -> None:
        """Begin as configured, or go on with what a predecessor left."""
        session = self.session
        session.block["counters.recorder"][:] = 0
        if int(session.role("recorder")[RESTARTS]) > 0:
            if self._state.exists():
                left = msgspec.json.decode(self._state.read_bytes(), type=_State)
                self._open(Path(left.folder), left.first_frame, resume=True)
        elif session.config.recording.start:
            self._start(max((oldest(ring) for ring in sources(session).values()), default=session.frame))

    def turn(self) -> bool:
        """Take what has come."""
        if self.take is None or not self.take.behind:
            time.sleep(POLL_S)
        for deck, event in self.session.receive_with_decks("recorder"):
            self._record(event, deck)
            if isinstance(event, Command) and event.name == "record":
                self._obey(event)
            elif isinstance(event, Song) and event.state == "loading":
                self._record_song(event)
        self._pump()
        now_s = time.monotonic()
        if now_s - self._checked_s >= CHECK_S:
            self._checked_s = now_s
            self._check()
        return True

    def close(self) -> None:
        """Wait for the last events, then end the files."""
        end_s = time.monotonic() + LAST_EVENTS_S
        while time.monotonic() < end_s:
            self.turn()
        self._stop()

    def _obey(self, command: Command) -> None:
        if command.value == "start" and self.take is None:
            self._start(self.session.frame)
        elif command.value == "stop":
            self._stop()

    def _start(self, first_frame: int) -> None:
        try:
            folder = new_folder(self.session)
            self._state.write_bytes(msgspec.json.encode(_State(str(folder), first_frame)))
        except OSError as error:
            self._fail(error, self.session.config.recording.folder)
        else:
            self._open(folder, first_frame, resume=False)

    def _open(self, folder: Path, first_frame: int, resume: bool) -> None:
        try:
            self.take = Take(self.session, folder, first_frame, resume)
        except (OSError, RtserverError) as error:
            self._fail(error, str(folder))
        else:
            self._tell("resumed" if resume else "started", folder)

    def _stop(self) -> None:
        take = self.take
        if take is None:
            return
        self._record_counters()
        self._tell("stopped", take.folder)
        self._state.unlink(missing_ok=True)
        if self.take is not None:
            self.take = None
            try:
                take.close()
            except OSError as error:
                self._complain(error, str(take.folder))
        self._count()

    def _record_song(self, song: Song) -> None:
        with contextlib.suppress(OSError, msgspec.MsgspecError):  # a replay will say what it misses
            setup = msgspec.json.decode(load_file(self.session.run_folder, song.deck, song.frame).read_bytes(), type=Setup)
            self._record(loaded(song.frame, song.deck, setup))

    def _record(self, event: Event, deck: int = 0) -> None:
        if self.take is not None:
            try:
                self.take.send(event, deck)
            except OSError as error:
                self._fail(error, str(self.take.folder))

    def _pump(self) -> None:
        if self.take is None:
            return
        try:
            for gap in self.take.pump():
                self._emit(gap)
        except OSError as error:
            self._fail(error, str(self.take.folder))
        self._count()

    def _check(self) -> None:
        if self.take is None:
            return
        try:
            self.take.check()
        except OSError as error:
            self._fail(error, str(self.take.folder))
            return
        self._record_counters()

    def _record_counters(self) -> None:
        frame = self.session.frame
        for role in ("audio", *COUNTERS):
            if role.endswith(SECOND) and not self.session.role(role)[PID]:
                continue  # an empty deck
            self._record(Status(frame, frame, role, self._counters(role)))

    def _counters(self, role: str) -> dict[str, int]:
        if role != "audio":
            return self.session.counters(role) | {DROPPED: self._dropped(role)}
        return audio_table.counters(self.session.block) if "audio.table" in self.session.block else {}

    def _dropped(self, role: str) -> int:
        """Messages for a role that found no room in its rings since the session began."""
        return sum(int(self.session.ring(producer, role).dropped[0]) for producer, to in EVENT_PATHS.items() if role in to)

    def _fail(self, error: OSError | RtserverError, folder: str) -> None:
        """The recording is over; the music is not."""
        take, self.take = self.take, None
        if take is not None:
            with contextlib.suppress(OSError):  # the first error says what there is to say
                take.close()
        self._state.unlink(missing_ok=True)
        self.session.count("recorder", "failures")
        self._complain(error, folder)
        self._count()

    def _complain(self, error: OSError | RtserverError, folder: str) -> None:
        print(f"rtserver recorder: recording stopped: {folder}: {reason(error)}", file=sys.stderr, flush=True)
        frame = self.session.frame
        self._emit(Recording(frame, frame, "failed", folder, reason(error)))

    def _tell(self, state: str, folder: Path) -> None:
        frame = self.session.frame
        event = Recording(frame, frame, state, str(folder))
        self._record(event)
        self._emit(event)

    def _emit(self, event: Recording) -> None:
        """To the clients; a path or a reason that is too long for the ring loses its beginning or its end."""
        room = self.session.ring("recorder", "gateway").slot_size - 2
        over = len(encode(event)) - room
        if over > 0:
            detail = event.detail.encode()[: max(0, len(event.detail.encode()) - over)].decode(errors="ignore")
            event = msgspec.structs.replace(event, detail=detail)
            over = len(encode(event)) - room
        if over > 0:
            event = msgspec.structs.replace(event, folder=event.folder.encode()[over:].decode(errors="ignore"))
        self.session.emit("recorder", event, "gateway")

    def _count(self) -> None:
        counters = self.session.block["counters.recorder"]
        names = COUNTERS["recorder"]
        counters[names.index("recording")] = int(self.take is not None)
        if self.take is not None:
            totals = self.take.totals
            for name, value in (
                ("frames", totals.n_frames),
                ("gap_frames", totals.gap_frames),
                ("lost_frames", totals.lost_frames),
                ("events", totals.n_events),
            ):
                counters[names.index(name)] = value
