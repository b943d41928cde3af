"""Living through a recorded session again: the mixer misses what it missed, and changes when it changed; the engine dies and comes back.

The log says at which session frames that happened (`rtserver.replay`), and everything that mixer and engine do depends on session frames
alone. So the same input and the same log give the same sound, bit for bit.
"""

from __future__ import annotations

from bisect import bisect_right

from rtserver.audio import table as t
from rtserver.events import Absent, Change, Recording, Resume, Setting, Song
from rtserver.fastlane import FastLane
from rtserver.plan import Plan
from rtserver.recording.take import TOO_SLOW
from rtserver.replay import Log, LogError
from rtserver.shared.memory import Block


class MixerScript:
    """What happened to the mixer, output by output.

    Parameters
    ----------
    block : Block
    plan : Plan
    log : Log
    """

    def __init__(self, block: Block, plan: Plan, log: Log) -> None:
        self._table, self._pending, self._values = block["audio.table"], block["audio.pending"], block["audio.values"]
        names = [output.name for output in plan.outputs]
        self._absences: dict[int, list[tuple[int, int]]] = {o: [] for o in range(len(names))}
        self._changes: dict[int, list[tuple[int, int, float]]] = {}  # frame -> (output, key, value)
        edges: set[int] = set()
        for event in log.events:
            if isinstance(event, Absent):
                self._absences[names.index(event.output)].append((event.frame, event.frame + event.n_frames))
                edges |= {event.frame, event.frame + event.n_frames}
            elif isinstance(event, Change):
                change = (names.index(event.output), t.KEYS.index(event.key), event.value)
                self._changes.setdefault(event.frame, []).append(change)
                edges.add(event.frame)
            elif isinstance(event, Song) and event.state == "playing":
                raise LogError(f"{log.path}: the song changed at frame {event.frame}; a replay plays one song")
        # [end of the stream, start of the next one): what the recorder found missing
        missing = [e for e in log.events if isinstance(e, Recording) and e.state == "gap" and TOO_SLOW not in e.detail]
        self.gaps = {e.frame: e.available_frame for e in missing}
        self._edges = sorted(edges | set(self.gaps))

    def stage(self, frame: int) -> int:
        """Prepare the mixer for what happened at `frame`. Returns the next frame at which something did; `FOREVER` if nothing will."""
        for o, absences in self._absences.items():
            row = t.OUTPUTS + o * t.OUTPUT_WIDTH
            within = next(((begin, end) for begin, end in absences if begin <= frame < end), (0, 0))
            self._table[[row + t.FORCE_FROM, row + t.FORCE_UNTIL]] = within
        for o, key, value in self._changes.get(frame, ()):
            self._values[o, key] = value
            self._pending[o, key] = frame
        k = bisect_right(self._edges, frame)
        return self._edges[k] if k < len(self._edges) else t.FOREVER


class LaneScript:
    """What happened to the engine's lane of one input."""

    def __init__(self, lane: FastLane, log: Log) -> None:
        self.lane = lane
        self._script = [e for e in log.events if isinstance(e, Setting | Resume) and e.input == lane.name]
        self._aim()

    def run(self) -> None:
        """Process every hop that has arrived, as it was processed then."""
        lane = self.lane
        while True:
            self._follow()
            if lane.lost_frames() or not lane.run_hop():
                return

    def _follow(self) -> None:
        lane = self.lane
        while self._script:
            event = self._script[0]
            reached = event.frame <= lane.position or lane.lost_frames() > 0
            if not reached or lane.input.written_to < event.frame:
                return
            self._script.pop(0)
            if isinstance(event, Setting):
                lane.graph.set("hpss", event.key, event.value)
            else:
                lane.resume_at(event.frame, event.rebuilt_from)
                self._aim()

    def _aim(self) -> None:
        """No features were published between the engine's end and its return."""
        coming = next((e for e in self._script if isinstance(e, Resume)), None)
        self.lane.window = (-t.FOREVER, t.FOREVER if coming is None else coming.features_to + 1)
