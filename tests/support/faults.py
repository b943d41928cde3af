"""What a fault does to a live server, seen from outside: the sound it puts out, the notes a synth hears, the events a subscriber gets.

`Stage` is a server with a synth and a subscriber; a `Trial` is one fault in it, with a sine through JACK all the while. `Row` is what
is kept of it: one line of the fault matrix (docs/faults.md, written by tools/fault_table.py).
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import machine
import msgspec
import numpy as np
import zmq
from liveserver import RATE, LiveServer, Tape

PERIOD = 1024
REPORT = "FAULT_REPORT"  # environment: the file that rows are appended to
SILENT = 1e-3  # a sine of 0.5 is below this for less than a frame at a time
HEAD_S = 0.3  # until the sine has come through


def settings(name: str, **changes: Any) -> dict:
    """A server whose two outputs sum to the input whatever happens, and whose performer plays all the time."""
    return {
        "name": name,
        "audio": {"block_size": PERIOD, "spare_blocks": 2, "device": "system"},
        "outputs": {
            "harmonic": {"source": "harmonic", "channels": [1], "on_late": "dry"},
            "percussive": {"source": "percussive", "channels": [2], "on_late": "mute"},
        },
        "generation": {"scale": "C major", "tempo_bpm": 200.0, "grid": 6},
        "midi": {"connect": [f"{name}-synth"]},
        **changes,
    }


def sine(seconds: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)[None]


def longest_silence(record: np.ndarray) -> float:
    """Seconds of the longest silence in what the outputs played, after the sine has come through."""
    loud = np.flatnonzero(np.abs(record.sum(axis=0)) >= SILENT)
    loud = loud[loud >= HEAD_S * RATE]
    edges = np.concatenate([[HEAD_S * RATE], loud, [record.shape[1]]])
    return float(np.diff(edges).max()) / RATE


class Synth:
    """A JACK MIDI input that stamps what it hears: (seconds, message)."""

    def __init__(self, name: str) -> None:
        import rtmidi

        self.heard: list[tuple[float, bytes]] = []
        self._port: Any = rtmidi.MidiIn(rtapi=rtmidi.API_UNIX_JACK, name=name)
        self._port.set_callback(lambda got, _: self.heard.append((time.monotonic(), bytes(got[0]))))
        self._port.open_virtual_port("in")

    def sounding(self, until_s: float = float("inf")) -> set[tuple[int, int]]:
        """(channel, pitch) that are down after everything heard up to `until_s`."""
        down: set[tuple[int, int]] = set()
        for when_s, m in list(self.heard):
            if when_s > until_s:
                break
            kind, channel = m[0] & 0xF0, m[0] & 0x0F
            if kind == 0x90 and m[2]:
                down.add((channel, m[1]))
            elif kind in (0x80, 0x90):
                down.discard((channel, m[1]))
            elif kind == 0xB0 and m[1] in (120, 123):
                down = {key for key in down if key[0] != channel}
        return down

    def released(self, key: tuple[int, int], after_s: float) -> float:
        """When `key` was let go for the first time after `after_s`; infinity if it was not."""
        for when_s, m in list(self.heard):
            kind = m[0] & 0xF0
            off = (kind == 0x80 or (kind == 0x90 and not m[2])) and m[1] == key[1]
            if when_s > after_s and m[0] & 0x0F == key[0] and (off or (kind == 0xB0 and m[1] in (120, 123))):
                return when_s
        return float("inf")

    def hang_s(self, due_s: dict[tuple[int, int], float], after_s: float) -> float:
        """Seconds by which the worst of the notes that sounded at `after_s` outlived its due end; infinity if one was never let go."""
        return max([0.0, *(self.released(key, after_s) - due for key, due in due_s.items())])

    def close(self) -> None:
        self._port.cancel_callback()
        self._port.close_port()
        self._port.delete()


class Subscriber:
    """A client that reads every event: (seconds, topic, payload), and counts what its sequence numbers say it lost."""

    def __init__(self, endpoint: str) -> None:
        self.events: list[tuple[float, str, dict[str, Any]]] = []
        self.lost = 0
        self.epochs: list[int] = []  # of the gateways heard, in order
        self._socket = zmq.Context.instance().socket(zmq.SUB)
        self._socket.subscribe("")
        self._socket.connect(endpoint)
        self._stop = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        last: dict[tuple[int, str], int] = {}
        while not self._stop:
            if not self._socket.poll(50):
                continue
            topic, header, payload = self._socket.recv_multipart()
            epoch, sequence = msgspec.msgpack.decode(header)[2:4]
            name = topic.decode()
            if name.startswith("midi."):  # raw MIDI, which somebody else asked for
                continue
            if epoch not in self.epochs:
                self.epochs.append(epoch)
            if (epoch, name) in last:
                self.lost += sequence - last[epoch, name] - 1
            last[epoch, name] = sequence
            self.events.append((time.monotonic(), name, msgspec.msgpack.decode(payload)))
        self._socket.close(0)

    def since(self, at_s: float, *topics: str) -> list[dict[str, Any]]:
        """Payloads of what came after `at_s`."""
        return [e for when_s, topic, e in list(self.events) if when_s >= at_s and topic in topics]

    def close(self) -> None:
        self._stop = True
        self._thread.join()


def ask(endpoint: str, op: str, timeout_s: float = 2.0, **arguments: Any) -> dict[str, Any]:
    """One request of a client; the whole reply, empty if none came."""
    with zmq.Context.instance().socket(zmq.DEALER) as control:
        control.linger = 0
        control.connect(endpoint)
        control.send_multipart([b"RT1", msgspec.msgpack.encode({"id": str(uuid.uuid4()), "op": op, **arguments})])
        return msgspec.msgpack.decode(control.recv_multipart()[1]) if control.poll(round(timeout_s * 1000)) else {}


class Stage:
    """A live server, a synth that its midi role is connected to, and a subscriber."""

    def __init__(self, folder: Path, raw: dict, synth: bool = True) -> None:
        self.synth = Synth(f"{raw['name']}-synth") if synth else None
        try:
            self.server = LiveServer(folder, raw)
        except BaseException:
            if self.synth is not None:
                self.synth.close()
            raise
        self.subscriber = Subscriber(self.server.config.wire.events)
        self.session = self.server.session
        self.wait = self.server.wait

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        return ask(self.server.config.wire.control, op, **arguments)

    def restarts(self, role: str) -> int:
        return self.server.supervisor.children[role].restarts

    def well(self) -> bool:
        """Whether every role is up and has been seen up."""
        return self.server.supervisor.ready and all(c.was_up for c in self.server.supervisor.children.values())

    def on_time(self) -> bool:
        """Whether the session frame is where the clock says, within a quarter of a second."""
        frame, at_s, rate, _ = self.session.clock.line()
        return abs(self.session.frame - (frame + (time.monotonic() - at_s) * rate)) < RATE // 4

    def close(self) -> None:
        self.subscriber.close()
        self.server.close()
        if self.synth is not None:
            self.synth.close()


class Trial:
    """One fault. Enter: the tape runs and notes sound. Leave: the tape has ended, and everything is measured.

    Parameters
    ----------
    stage : Stage
    seconds : float
        Length of the sine, at most; 0 plays none (where the tape would die with its JACK server).
    tail_s : float
        For how long it plays on when all that the trial waits for has happened.
    note_s : float
        Duration of the four notes that a client plays before the fault. Longer than the trial: only a release ends them.
    """

    def __init__(
        self, stage: Stage, seconds: float = 5.0, note_s: float = 1.0, signal: np.ndarray | None = None, tail_s: float = 1.0
    ) -> None:
        self.stage, self.note_s, self.tail_s = stage, note_s, tail_s
        self.signal = sine(seconds) if signal is None and seconds else signal
        self.tape: Tape | None = None
        self.fault_s = 0.0
        self.held: dict[tuple[int, int], float] = {}  # (channel, pitch) that sounded at the fault, and when each is due to end
        self.record = np.zeros((2, 0), np.float32)
        self.gap_s: float | None = None
        self.back_s: float | None = None
        self.began_s, self.ended_s = time.monotonic(), float("inf")

    def _sound_notes(self) -> bool:
        """Let four notes sound at once; a machine that stalls may drop one as late, then all are struck again."""
        for _ in range(10):
            for pitch in (40, 47, 52, 59):
                assert self.stage.ask("note", pitch=pitch, duration_s=self.note_s, channel=3)["ok"]
            if self.stage.wait(lambda: sum(key[0] == 3 for key in self.stage.synth.sounding()) == 4, 0.6):
                return True
        return False

    def __enter__(self) -> Trial:
        assert self.stage.wait(self.stage.well, 30.0), "the stage is not well before the trial"
        self.began_s = time.monotonic()
        if self.signal is not None:
            self.tape = self.stage.server.play(self.signal, channels=2)
            time.sleep(2 * HEAD_S)
        if self.stage.synth and not self._sound_notes():
            if self.tape is not None:
                self.tape.stop()  # else it would go on playing into the next trial
            raise AssertionError("the notes do not sound")
        return self

    def strike(self, action: Callable[[], object]) -> None:
        """Do it, and remember what sounds at that moment."""
        cells = self.stage.session.block["notes"]
        sounding = self.stage.synth.sounding() if self.stage.synth else set()
        self.held = {key: int(cells[key]) * 1e-9 for key in sounding if cells[key] > 0}
        self.frame = self.stage.session.frame
        self.fault_s = time.monotonic()
        action()

    def kill(self, role: str) -> None:
        """SIGKILL, and wait until the role is back."""
        before = self.stage.restarts(role)
        self.strike(self.stage.server.process(role).kill)
        self.await_restart(role, before)

    def await_restart(self, role: str, before: int) -> None:
        """Wait until `role` has been started again since `before` restarts, and is up."""
        child = self.stage.server.supervisor.children[role]
        assert self.stage.wait(lambda: child.restarts > before and child.was_up, 20.0), f"{role} does not come back"
        self.back_s = time.monotonic() - self.fault_s

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            if self.tape is not None:
                self.tape.process.kill()
                self.tape.process.wait()
            return
        if self.tape is not None:
            self.stage.wait(lambda: self.tape.process.poll() is not None, self.tail_s)
            self.record = self.tape.stop()
            self.gap_s = longest_silence(self.record)
        for when_s, topic, e in self.stage.subscriber.events:  # shown where a test fails
            if when_s >= self.fault_s and topic in ("role", "device", "gap", "resume", "miss", "recording"):
                print(f"{when_s - self.fault_s:7.3f} s", {k: v for k, v in e.items() if k != "available_frame"})
        last_s = max([self.fault_s, *(due for due in self.held.values() if due < self.fault_s + 5.0)])
        self.stage.wait(lambda: False, max(0.5, last_s + 0.5 - time.monotonic()))  # also for the last events
        self.ended_s = time.monotonic()

    def went_on(self, within_s: float = 0.05) -> bool:
        """Whether no silence was longer than `within_s`, by default two periods of JACK, beside what the processors stood still for."""
        assert self.gap_s is not None
        stalled_s = machine.watch().total_s(self.began_s, self.ended_s, ours=False)
        print(f"the longest silence: {self.gap_s:.3f} s; the processors stood still for {stalled_s:.3f} s")
        return self.gap_s < within_s + stalled_s

    def let_go(self, within_s: float = 0.3, from_fault: bool = False) -> bool:
        """Whether no note sounded longer than due by more than `within_s`, beside what the machine stood still for meanwhile."""
        if self.stage.synth is None:
            return True
        hangs_s: list[tuple[float, float]] = []
        for key, due_s in self.held.items():
            released_s = self.stage.synth.released(key, self.fault_s)
            stalled_s = machine.watch().total_s(self.fault_s, min(released_s, time.monotonic()))
            hangs_s.append((released_s - (self.fault_s if from_fault else due_s), stalled_s))
        print("notes hung for, the machine stood still for:", ", ".join(f"{hang_s:.3f} {stalled_s:.3f} s" for hang_s, stalled_s in hangs_s))
        return all(hang_s < within_s + stalled_s for hang_s, stalled_s in hangs_s)

    def hang_s(self, from_fault: bool = False) -> float:
        """How much longer than due the worst note sounded; `from_fault`: how long after the fault, where nobody was left to play it."""
        if self.stage.synth is None:
            return 0.0
        return self.stage.synth.hang_s({key: self.fault_s if from_fault else due_s for key, due_s in self.held.items()}, self.fault_s)

    def events(self, *topics: str) -> list[dict[str, Any]]:
        """What the subscriber has got since the fault."""
        return self.stage.subscriber.since(self.fault_s, *topics)

    def told(self) -> list[str]:
        """Changes of roles as the subscriber learned them: ``engine down``, ``engine restarted``."""
        return [f"{e['role']} {e['state']}" for e in self.events("role")]

    def tells(self, *changes: str) -> bool:
        """Whether these changes of roles, and no others, are what the subscriber learns; it may take a moment."""
        self.stage.wait(lambda: self.told() == list(changes))
        print("told:", self.told())
        return self.told() == list(changes)

    @property
    def missed_s(self) -> float:
        """Seconds of the longest miss that the subscriber learned of."""
        return max((e["n_frames"] for e in self.events("miss")), default=0) / RATE

    @property
    def lost_s(self) -> float:
        """Seconds of input that `gap` events say were lost."""
        return sum(e["n_frames"] for e in self.events("gap")) / RATE

    def learned(self) -> str:
        """The subscriber's news, in words."""
        news = [", ".join(self.told())]
        gaps, misses = self.events("gap"), self.events("miss")
        if gaps:
            news.append(f"`gap` of {self.lost_s:.2f} s")
        if self.events("resume"):
            news.append("`resume`")
        if misses:
            news.append(f"{len(misses)} `miss`, longest {self.missed_s:.2f} s")
        return "; ".join(n for n in news if n)


@dataclasses.dataclass
class Row:
    """One line of the matrix. Empty cells mean that the question does not arise."""

    test: str
    group: str
    fault: str = ""
    audio: str = ""  # did it go on
    gap_s: float | None = None
    hang_s: float | None = None
    lost: str = ""
    learned: str = ""
    back_s: float | None = None

    def take(self, trial: Trial, from_fault: bool = False) -> None:
        """What a trial has measured."""
        self.gap_s, self.back_s = trial.gap_s, trial.back_s
        self.hang_s = trial.hang_s(from_fault)
        self.lost = self.lost or (f"{trial.lost_s:.2f} s of input" if trial.lost_s else "nothing")
        self.learned = trial.learned()

    def write(self) -> None:
        """Append it to the report that the environment names, if any."""
        if path := os.environ.get(REPORT):
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(dataclasses.asdict(self)) + "\n")
