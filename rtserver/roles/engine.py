"""The engine role: wakes with every device block and runs the fast lane over what has come. No sockets, no files, no logging."""

from __future__ import annotations

import time

from rtserver.audio import table as t
from rtserver.clock import DelayLockedLoop
from rtserver.events import Command, Gap, Miss, Param
from rtserver.pipeline import fast_lane
from rtserver.roles.role import TURN_S
from rtserver.shared.histogram import HopTimes
from rtserver.shared.session import Session


class EngineRole:
    """Runs the graph, publishes the clock and the misses, sets the mixer's gains."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.table = session.block["audio.table"]
        self.loop = DelayLockedLoop(session.config.audio.sample_rate)
        self.misses_read = 0
        self.outputs = list(session.config.outputs)
        self.gains: dict[str, dict[str, float | str | bool]] = {
            name: {"gain_db": output.gain_db, "mute": output.mute} for name, output in session.config.outputs.items()
        }

    def prepare(self) -> None:
        self.lane = fast_lane(self.session)
        self.waker = self.session.waker("engine")
        self.misses_read = int(self.table[t.MISSES_WRITTEN])
        if self.session.frame:
            frame = self.lane.resume()
            self.session.emit("engine", Gap(frame, frame, 0, "engine restarted; its state was rebuilt from past input"))
        hop_times = HopTimes(self.session.block)
        hop_times.clear()
        self.hop_times = hop_times.claim("hop")
        self.lane.graph.watch(hop_times.timed)

    def turn(self) -> bool:
        self.waker.wait(TURN_S)
        self.session.count("engine", "wakes")
        self._recover()
        hops = self._run_hops()
        if hops:
            self.session.count("engine", "hops", hops)
        self._publish_clock()
        self._obey()
        self._report_misses()
        return True

    def _run_hops(self) -> int:
        """Every hop that has arrived, each timed. Returns how many."""
        hops, spent = 0, 0
        start = time.perf_counter_ns()
        while self.lane.run_hop():
            end = time.perf_counter_ns()
            spent = end - start
            self.hop_times.add(spent)
            self.session.count_max("engine", "hop_ns_max", spent)
            start = end
            hops += 1
        if hops:
            self.session.block["counters.engine"][3] = spent
        return hops

    def _recover(self) -> None:
        lost = self.lane.lost_frames()
        if lost:
            frame = self.lane.skip()
            self.session.count("engine", "lagged_frames", lost)
            self.session.count("engine", "restarts")
            self.session.emit("engine", Gap(frame, frame, lost, "input was lost: the stream started anew or the engine fell behind"))

    def _publish_clock(self) -> None:
        """Feed the newest (frame, time) pair of the callback to the delay-locked loop."""
        before = int(self.table[t.CLOCK_SEQUENCE])
        frame, stamp = int(self.table[t.CLOCK_FRAME]), int(self.table[t.CLOCK_NS])
        if before == 0 or before % 2 or before != int(self.table[t.CLOCK_SEQUENCE]):
            return
        self.loop.update(frame, stamp * 1e-9)
        self.session.clock.publish(self.loop.frame, self.loop.time_s, self.loop.rate, self.loop.error_s)

    def _obey(self) -> None:
        for event in self.session.receive("engine"):
            if isinstance(event, Param):
                self._set(event)
            elif isinstance(event, Command) and event.name == "reset":
                self.lane.graph.reset()

    def _set(self, event: Param) -> None:
        """``outputs.NAME.gain_db`` and ``outputs.NAME.mute`` take effect at the event's frame, or at once if that is past."""
        _, name, key = event.name.split(".")
        o = self.outputs.index(name)
        gains = self.gains[name]
        gains[key] = event.value
        target = 0.0 if gains["mute"] else 10.0 ** (float(gains["gain_db"]) / 20.0)
        self.session.block["audio.pending"][o] = event.frame
        self.session.block["audio.mix"][o, 0] = target

    def _report_misses(self) -> None:
        written = int(self.table[t.MISSES_WRITTEN])
        self.misses_read = max(self.misses_read, written - t.MISS_RING)
        while self.misses_read < written:
            output, frame, n_frames = (int(v) for v in self.session.block["audio.misses"][self.misses_read % t.MISS_RING])
            self.session.emit("engine", Miss(frame, frame + n_frames, self.outputs[output], n_frames))
            self.misses_read += 1

    def close(self) -> None:
        return None
