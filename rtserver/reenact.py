"""Living through a recorded session again: songs are laid out and change when they did, the mixer misses what it missed, the engine and the
workers die and come back.

The log says at which session frames that happened (`rtserver.replay`), and everything that mixer, engine and workers do depends on session
frames alone. So the same input and the same log give the same sound and the same notes, bit for bit.
"""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from rtserver.audio import file as audio_file
from rtserver.audio import table as t
from rtserver.audio.clicks import ClickRing
from rtserver.audio.stream import begin_stream
from rtserver.events import Absent, AnyEvent, Change, Click, Lag, Late, Recording, Resume, Setting, decode
from rtserver.fastlane import RESET, FastLane, pass_positions
from rtserver.node import Array
from rtserver.pipeline import fast_lanes
from rtserver.plan import Plan, lay_out, open_session
from rtserver.recording.log import to_line
from rtserver.recording.take import TOO_SLOW
from rtserver.recording.wave import Wave
from rtserver.render import Rendered, exchange, finish, prepared, workers_of
from rtserver.replay import WORKERS, Log, LogError, Rerun, Stay
from rtserver.separation.prompter import POSITION
from rtserver.shared.memory import Block
from rtserver.shared.session import DECK_ROLES, EVENT_PATHS, PID, Session, Setup, deck_file
from rtserver.verdict import SCORE_FILE
from rtserver.wire.sink import FileSink

PIECE_SIZE = 1 << 14  # frames read and written at once


class OutputScript:
    """What happened to the outputs of one song: when its tracks were absent, when ramps began, and what was clicked.

    Parameters
    ----------
    block : Block
    deck : int
    outputs : list of str
        In the order of their rows.
    events : list of Event
    """

    def __init__(self, block: Block, deck: int, outputs: list[str], events: list[AnyEvent]) -> None:
        self._table, self._pending, self._values = block["audio.table"], block["audio.pending"], block["audio.values"]
        first = deck * t.MAX_OUTPUTS
        self._absences = {first + k: deque[tuple[int, int]]() for k in range(len(outputs))}
        self._changes: dict[int, list[tuple[int, int, float]]] = {}  # frame -> (row, key, value)
        self._ring = ClickRing(block, deck)
        self._table[t.DECKS + deck * t.DECK_WIDTH + t.SCRIPTED] = 1  # what came late does so again, whatever the performer tells
        self._clicks = {event.frame: event for event in events if isinstance(event, Click)}
        for event in events:
            if isinstance(event, Absent):
                self._absences[first + outputs.index(event.output)].append((event.frame, event.frame + event.n_frames))
            elif isinstance(event, Change):
                change = (first + outputs.index(event.output), t.KEYS.index(event.key), event.value)
                self._changes.setdefault(event.frame, []).append(change)

    def stage(self, frame: int) -> None:
        """Prepare the mixer for what happened at `frame`."""
        for o, absences in self._absences.items():
            while absences and absences[0][1] <= frame:
                absences.popleft()
            row = t.OUTPUTS + o * t.OUTPUT_WIDTH
            self._table[[row + t.FORCE_FROM, row + t.FORCE_UNTIL]] = absences[0] if absences else (0, 0)
        if (click := self._clicks.get(frame)) is not None:
            self._ring.script(frame, click.velocity, click.accent)
        for o, key, value in self._changes.get(frame, ()):
            self._values[o, key] = value
            self._pending[o, key] = frame


class LaneScript:
    """What happened to the engine's lane of one input.

    Parameters
    ----------
    lane : FastLane
    stay : Stay
    events : list of Event
    """

    def __init__(self, lane: FastLane, stay: Stay, events: list[AnyEvent]) -> None:
        self.lane = lane
        self._heard = stay.start, stay.end
        self._running = stay.start <= 0  # the first song's engine runs from the start, the others' when they are called for
        self._script = deque(e for e in events if isinstance(e, Setting | Resume) and e.input == lane.name)
        if lane.prompter is not None:
            lane.prompter.postpone(e for e in events if isinstance(e, Late) and e.what == f"{POSITION} {lane.name}")
        self._aim()

    def run_hop(self) -> bool:
        """Process one hop if it has arrived, as it was processed then."""
        self._follow()
        return self._running and not self.lane.lost_frames() and self.lane.run_hop()

    def _follow(self) -> None:
        lane = self.lane
        while self._script:
            event = self._script[0]
            reached = not self._running or event.frame <= lane.position or lane.lost_frames() > 0
            if not reached or lane.input.written_to < event.frame:
                return
            self._script.popleft()
            if isinstance(event, Setting):
                lane.set(event.key, event.value)
            elif event.reason == RESET:
                lane.reset()
            else:
                lane.resume_at(event.frame, event.rebuilt_from)
                self._running = True
                self._aim()

    def _aim(self) -> None:
        """No features were published between the engine's end and its return."""
        coming = next((e for e in self._script if isinstance(e, Resume) and e.reason != RESET), None)
        start, end = self._heard
        self.lane.window = (start, end if coming is None else min(end, coming.features_to + 1))


class Performance:
    """A song on its deck: the engine's lanes, the workers, the outputs, each with its script."""

    def __init__(self, session: Session, log: Log, stay: Stay) -> None:
        self.deck = stay.deck
        self.session = session
        for role in DECK_ROLES:
            session.role(stay.role(role))[PID] = os.getpid()  # there is somebody to talk to
        events = log.of(stay)
        self.outputs = OutputScript(session.block, stay.deck, list(session.config.outputs), events)
        self.lanes = [LaneScript(lane, stay, events) for lane in fast_lanes(session)]
        there = workers_of(session)
        self.workers = [Rerun(session, role, log.stints(stay, role), there[role]) for role in WORKERS if role in there]

    def work(self) -> None:
        """What engine and workers do after a block."""
        followed = self.session.config.followed_input
        for lane in self.lanes:
            while lane.run_hop():
                if lane.lane.name == followed:  # workers talk to each other: neither may be blocks ahead
                    self._step(lane.lane.position)
        self._step(self.session.frame)

    def _step(self, frame: int) -> None:
        for worker in self.workers:
            worker.step(frame)
        pass_positions(self.session, [script.lane for script in self.lanes])


class Reenactment:
    """One private session that lives through a recorded one, driven block by block.

    Parameters
    ----------
    log : Log
    folder : Path
        For the songs' setups and parsed scores.
    """

    def __init__(self, log: Log, folder: Path) -> None:
        self.log, self._folder = log, folder
        self._prepared: dict[bytes, tuple[Setup, Plan]] = {}
        self._coming = deque(log.stays)
        setup, self.plan = self._prepare(log.stays[0])
        self.session = open_session(setup, self.plan, log.header.channels if any(log.header.channels) else None)
        self.block = self.session.block
        self._table = self.block["audio.table"]
        self._decks: dict[int, Performance] = {}
        # [end of the stream, start of the next one): what the recorder found missing
        missing = [e for e in log.events if isinstance(e, Recording) and e.state == "gap" and TOO_SLOW not in e.detail]
        self._gaps = {e.frame: e.available_frame for e in missing}
        self._lags = {e.frame: e.n_frames for e in log.events if isinstance(e, Lag)}
        self._silent = 0  # frames until the stream goes on
        self._edges = sorted(set(_edges(log.events)) | set(self._gaps) | set(self._lags) | {stay.loaded for stay in log.stays})
        self._turn(0)

    def _prepare(self, stay: Stay) -> tuple[Setup, Plan]:
        """Check a song, as the preflight did."""
        key = msgspec.json.encode((stay.name, stay.config))
        if key not in self._prepared:
            folder = self._folder / f"song{len(self._prepared)}"
            folder.mkdir()
            plan, score = prepared(stay.config, folder), folder / SCORE_FILE
            setup = Setup(stay.config, str(self._folder), str(score) if score.exists() else "", plan.tracks, stay.name)
            self._prepared[key] = setup, plan
        return self._prepared[key]

    def _turn(self, frame: int) -> None:
        """Lay out the songs that were laid out by `frame`."""
        while self._coming and self._coming[0].loaded <= frame:
            stay = self._coming.popleft()
            setup, plan = self._prepare(stay)
            deck_file(self._folder, stay.deck).write_bytes(msgspec.json.encode(setup))
            if stay is not self.log.stays[0]:
                self._empty(stay)
                lay_out(self.block, plan, stay.deck)
            head = t.DECKS + stay.deck * t.DECK_WIDTH
            self._table[[head + t.START, head + t.END]] = (stay.start, stay.end)
            self._decks[stay.deck] = Performance(Session(self.block, stay.deck), self.log, stay)

    def _empty(self, stay: Stay) -> None:
        """What was meant for the song before is gone."""
        for producer, consumers in EVENT_PATHS.items():
            for role in DECK_ROLES:
                if stay.role(role) in consumers:
                    self.session.ring(producer, stay.role(role)).drain()

    def exchange(self, indata: Array, outdata: Array) -> None:
        """What the audio callback did: (n_frames, device channels) float32 in and out."""
        done = 0
        while done < len(indata):  # cut where something happened: how blocks are cut changes nothing
            frame, left = int(self._table[t.FRAME]), len(indata) - done
            if frame in self._gaps:
                self.work()  # the engine had its time for what came before
                begin_stream(self.session, self._gaps[frame])
                self._silent = self._gaps[frame] - frame
            if self._silent:  # no stream ran
                n = min(left, self._silent)
                outdata[done : done + n] = 0.0
                self._silent -= n
                done += n
                continue
            n = min(left, self._stage(frame) - frame)
            exchange(self.session, indata[done : done + n], outdata[done : done + n])
            done += n

    def _stage(self, frame: int) -> int:
        """Prepare for what happened at `frame`; returns the next frame at which something did, `FOREVER` if nothing will."""
        self._turn(frame)
        if frame in self._lags:
            self._table[t.EXTRA_DELAY] = self._lags[frame]
        for deck in self._decks.values():
            deck.outputs.stage(frame)
        k = bisect_right(self._edges, frame)
        return self._edges[k] if k < len(self._edges) else t.FOREVER

    def work(self) -> None:
        """What engines and workers did after a block."""
        for deck in self._decks.values():
            deck.work()

    def events(self) -> Iterator[tuple[int, AnyEvent]]:
        """Everything emitted since the last call, with its deck."""
        for deck in self._decks.values():
            for name in [deck.session.own(role) for role in DECK_ROLES if role in EVENT_PATHS]:
                for message in deck.session.ring(name, "gateway").drain():
                    yield deck.deck, decode(message)
            deck.session.ring(deck.session.own("performer"), "midi").drain()


def _edges(events: list[AnyEvent]) -> Iterator[int]:
    """The frames at which something happened to an output."""
    for event in events:
        if isinstance(event, Absent | Change | Click):
            yield event.frame
        if isinstance(event, Absent):
            yield event.frame + event.n_frames


def replay(path: Path, folder: Path, log: Log, progress: Callable[[int], None] = lambda _: None) -> Rendered:
    """Let a recorded session happen again.

    Parameters
    ----------
    path : Path
        What came in: the recording's ``input.wav``.
    folder : Path
        Receives ``played.wav``, what went to the device, frame for frame as the recording's own, and ``events.jsonl``, what engines and
        workers said.
    log : Log
    progress : callable
        Told the number of frames done after each block.

    Raises
    ------
    LogError
        If the log does not say enough, or the file is not the session's.
    """
    if log.header.frame:
        raise LogError(f"{log.path}: begins at session frame {log.header.frame}; a replay needs the session from its start")
    heard = audio_file.info(path)
    if heard.sample_rate != log.header.sample_rate:
        raise LogError(
            f"{path} is at {heard.sample_rate} Hz, the session of {log.path} ran at {log.header.sample_rate}: another recording?"
        )
    for source in (path, log.path):
        audio_file.check_apart(source, [folder / "played.wav", folder / "events.jsonl"])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rtserver-") as scratch:
        again = Reenactment(log, Path(scratch))
        n_in, n_out = len(again.session.input_ring.samples), len(again.session.played.samples)
        if heard.n_channels != n_in:
            raise LogError(f"{path} has {heard.n_channels} channels, the session of {log.path} had {n_in}: another recording?")
        played, sink = Wave(folder / "played.wav", heard.sample_rate, n_out), FileSink(folder / "events.jsonl")
        n_events = 0
        for piece in audio_file.blocks(path, PIECE_SIZE):
            out = np.zeros((piece.shape[1], n_out), np.float32)
            for start in range(0, len(out), again.plan.block_size):
                block = np.ascontiguousarray(piece[:, start : start + again.plan.block_size].T)
                again.exchange(block, out[start : start + len(block)])
                again.work()
                for deck, event in again.events():
                    sink.put(to_line(event, deck))
                    n_events += 1
            played.write(out.T)
            progress(played.n_frames)
        played.close()
        finish(sink)
    return Rendered([folder / "played.wav", folder / "events.jsonl"], n_events, {})
