"""The engine role: wakes with every device block and runs the fast lanes over what has come. No sockets, no files, no logging."""

from __future__ import annotations

import time

from rtserver.audio import table as t
from rtserver.audio.journal import unread
from rtserver.clock import DelayLockedLoop
from rtserver.events import Command, Gap, Late, Param, Position, Resume, Setting, StandIn
from rtserver.fastlane import RESET, TELLS_SCORE, FastLane
from rtserver.pipeline import fast_lanes
from rtserver.plan import level_of
from rtserver.roles.agenda import what
from rtserver.roles.role import TURN_S
from rtserver.separation.graph import SEPARATOR, own_settings
from rtserver.separation.prompter import POSITION
from rtserver.separation.separator import Separator
from rtserver.shared.histogram import HopTimes
from rtserver.shared.session import Session

WORK_S = 0.2  # an engine that is behind shows all the same that it lives: its turns come ten times a second and more
HORIZON_S = 0.1  # twice as long as the engine sleeps at most
GAIN_DB, MUTE, BYPASS = range(3)  # columns of a deck's levels


class Changes:
    """What is to change in the mixer, and when. The kernel holds one waiting change an output and key; the others wait here."""

    def __init__(self, session: Session) -> None:
        self._outputs = list(session.config.outputs)
        self._levels = session.block[f"deck{session.deck}.levels"]
        self._first = session.deck * t.MAX_OUTPUTS
        self._values = session.block["audio.values"]
        self._pending = session.block["audio.pending"]
        self._waiting: dict[tuple[int, int, int], float] = {}  # (frame, row, column): value
        self._session = session
        audio = session.config.audio
        self._horizon = round(HORIZON_S * audio.sample_rate) + 2 * audio.block_size

    def add(self, event: Param) -> None:
        """``outputs.NAME.gain_db``, ``.mute`` or ``.bypass`` takes effect at the event's frame, or at once if that is past."""
        _, name, key = event.name.split(".")
        k = self._outputs.index(name)
        levels = self._levels[k]
        levels[("gain_db", "mute", "bypass").index(key)] = event.value
        column, value = (1, float(levels[BYPASS])) if key == "bypass" else (0, level_of(float(levels[GAIN_DB]), bool(levels[MUTE])))
        self._waiting[event.frame, self._first + k, column] = value  # of several changes at one frame the last one holds

    def arm(self) -> None:
        """Hand the kernel what is due soon and it has room for, the earliest first. What is due later would keep others waiting."""
        soon = self._session.frame + self._horizon
        for frame, row, column in sorted(change for change in self._waiting if change[0] <= soon):
            if self._pending[row, column] == t.NOTHING:
                self._values[row, column] = self._waiting.pop((frame, row, column))
                self._pending[row, column] = frame


class EngineRole:
    """Runs the graphs of its deck, publishes the clock and what the mixer did, hands changes to the mixer."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.table = session.block["audio.table"]
        self.loop = DelayLockedLoop(session.config.audio.sample_rate)
        self.epoch = 0  # the stream's, as far as the clock knows
        self.head = t.DECKS + session.deck * t.DECK_WIDTH
        self.outputs = list(session.config.outputs)
        self.changes = Changes(session)
        self.running = False
        self.tail = session.config.audio.sample_rate  # frames that a song is served after its end: longer than any fade or delay

    def prepare(self) -> None:
        self.lanes: list[FastLane] = fast_lanes(self.session, live=True)
        self.waker = self.session.waker("engine")
        self.workers = [self.session.waker(role) for role in ("follower", "performer")]  # who waits for features
        nodes = [lane.graph.node(SEPARATOR) for lane in self.lanes if SEPARATOR in lane.graph]
        self.separators: list[Separator] = nodes
        self._watch()
        if self._begun and self.session.frame:
            self._resume("engine started")

    @property
    def _begun(self) -> bool:
        """Whether the song of this deck has been given a start."""
        return int(self.table[self.head + t.START]) < t.FOREVER

    def turn(self) -> bool:
        self.waker.wait(TURN_S)
        self.session.count("engine", "wakes")
        self._obey()
        if not self.running and self._begun:
            self.running = True
            if int(self.table[self.head + t.START]) > 0:
                self._resume("song started")
        self._follow_clock()
        if self.running and self.session.frame < int(self.table[self.head + t.END]) + self.tail:
            self._work()
        self.changes.arm()
        self._report()
        return True

    def _work(self) -> None:
        window = int(self.table[self.head + t.START]), int(self.table[self.head + t.END])
        features = int(self.session.features.count[0])
        for lane in self.lanes:
            lane.window = window
            self._recover(lane)
            self._run_hops(lane)
        self._count_masks()
        if int(self.session.features.count[0]) != features:  # after the outputs, which are in more of a hurry
            for waker in self.workers:
                waker.post()

    def _run_hops(self, lane: FastLane) -> None:
        """Every hop that has arrived, for `WORK_S` at most, each timed; and the settings that came with it."""
        start = time.perf_counter_ns()
        until = start + round(1e9 * WORK_S)
        while start < until and lane.run_hop():
            end = time.perf_counter_ns()
            self.hop_times.add(end - start)
            self.session.count_set("engine", "hop_ns_last", end - start)
            self.session.count_max("engine", "hop_ns_max", end - start)
            self.session.count("engine", "hops")
            start = end
        for frame, key, value in lane.applied:
            self.session.emit("engine", Setting(frame, frame, lane.name, key, value))
        lane.applied.clear()
        for frame, n_hops, reason in lane.unmasked:
            self.session.emit("engine", StandIn(frame, lane.position, lane.name, n_hops, reason))
        lane.unmasked.clear()
        if lane.prompter is not None:
            for frame, declared, taken in lane.prompter.late:
                self.session.emit("engine", Late(frame, declared, self.session.own("engine"), f"{POSITION} {lane.name}", taken))
            lane.prompter.late.clear()

    def _count_masks(self) -> None:
        if self.separators:
            late, bad, slow = (sum(of) for of in zip(*((s.n_missing, s.n_bad, s.source.slow) for s in self.separators), strict=True))
            for name, value in (("late_masks", late), ("nonfinite_masks", bad), ("slow_networks", slow)):
                self.session.count_set("engine", name, value)
            prompters = (lane.prompter for lane in self.lanes if lane.prompter is not None)
            self.session.count_set("engine", "prompted_hops", sum(prompter.n_prompted for prompter in prompters))

    def _watch(self) -> None:
        """Time every node; where there are several inputs, a node is called after its own."""
        hop_times = HopTimes(self.session.block, self.session.deck)
        hop_times.clear()
        self.hop_times = hop_times.claim("hop")
        for lane in self.lanes:
            prefix = f"{lane.name}." if len(self.lanes) > 1 else ""
            lane.graph.watch(lambda name, process, prefix=prefix: hop_times.timed(prefix + name, process))

    def _resume(self, reason: str) -> None:
        """Rebuild what a predecessor, or a longer life, would know."""
        self.running = True
        for lane in self.lanes:
            features_to = self._features_to()
            frame, begin = lane.resume()
            # a new process begins with the song's own
            settings = own_settings(lane.graph, self.session.config.separation_of(lane.name))
            if lane.prompter is not None:
                settings[TELLS_SCORE] = lane.prompter.shown
            for key, value in settings.items():
                self.session.emit("engine", Setting(frame, frame, lane.name, key, value))
            self.session.emit("engine", Resume(frame, frame, lane.name, begin, features_to, reason))

    def _features_to(self) -> int:
        """The session frame at the end of the newest feature vector."""
        features = self.session.features
        return int(features.frames[(int(features.count[0]) - 1) % features.capacity])

    def _recover(self, lane: FastLane) -> None:
        lost = lane.lost_frames()
        if lost:
            features_to = self._features_to()
            frame, begin = lane.resume()
            self.session.count("engine", "lagged_frames", lost)
            self.session.count("engine", "restarts")
            reason = "input was lost: the stream started anew or the engine fell behind"
            self.session.emit("engine", Resume(frame, frame, lane.name, begin, features_to, reason))
            if lane is self.lanes[0]:
                self.session.emit("engine", Gap(frame, frame, lost, reason))

    def _follow_clock(self) -> None:
        """Feed the newest (frame, time) pair of the callback to the delay-locked loop; the deck that plays publishes it."""
        before = int(self.table[t.CLOCK_SEQUENCE])
        frame, stamp = int(self.table[t.CLOCK_FRAME]), int(self.table[t.CLOCK_NS])
        if before == 0 or before % 2 or before != int(self.table[t.CLOCK_SEQUENCE]):
            return
        epoch = int(self.table[t.EPOCHS])
        if epoch != self.epoch:
            self.loop.restart()
            self.epoch = epoch
        if epoch and frame <= int(self.session.block["audio.epochs"][(epoch - 1) % t.EPOCH_RING, 0]):
            return  # the pair is of the stream before
        self.loop.update(frame, stamp * 1e-9)
        if int(self.table[t.PLAYING]) == self.session.deck:
            self.session.clock.publish(self.loop.frame, self.loop.time_s, self.loop.rate, self.loop.error_s)

    def _obey(self) -> None:
        now = self.session.frame
        for event in self.session.receive("engine"):
            if isinstance(event, Param) and event.frame < now:
                self.session.emit("engine", Late(event.frame, event.frame, self.session.own("engine"), what(event), now))
            if isinstance(event, Param) and event.name.startswith("inputs."):
                self._schedule(event)
            elif isinstance(event, Param):
                self.changes.add(event)
            elif isinstance(event, Position):
                for lane in self.lanes:
                    lane.hear(event)
            elif isinstance(event, Command) and event.name == "reset":
                for lane in self.lanes:
                    lane.reset()
                    frame = lane.position
                    self.session.emit("engine", Resume(frame, frame, lane.name, frame, frame, RESET))

    def _schedule(self, event: Param) -> None:
        """``inputs.NAME.mask`` and whatever else separation has hold from the first hop at the event's frame on."""
        _, name, key = event.name.split(".")
        for lane in self.lanes:
            if lane.name == name:
                lane.schedule(event.frame, key, event.value)

    def _report(self) -> None:
        """Tell what the mixer did to this deck's outputs since the last look, a predecessor's included."""
        for event in unread(self.session.block, self.session.deck, self.outputs):
            self.session.emit("engine", event)

    def close(self) -> None:
        self._report()
