"""A server of a configuration, run for some seconds to see what a show would suffer: starts, misses, xruns, times, a note to each port.

Everything is the real thing, role by role, but for the sockets, which are private, and recording, metrics and log, which are off.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rtserver.config import Config, Log, Metrics, Recording, Wire
from rtserver.config.midi import MidiPort, outputs_of
from rtserver.errors import ConfigError, RtserverError
from rtserver.midi import links
from rtserver.midi.patchbay import CONNECTIONS
from rtserver.midi.ports import OUT_PORT
from rtserver.operations.doctor import hop_sizes
from rtserver.operations.report import Check, State
from rtserver.preflight import Preflight, preflight
from rtserver.roles.role import CAST
from rtserver.roles.supervisor import Supervisor
from rtserver.shared.histogram import HopTimes
from rtserver.shared.session import LOCKED, PRIORITY
from rtserver.show import Song
from rtserver.wire.client import Client

START_S = 180.0  # with a cold kernel cache
SETTLE_S = 1.0  # the first blocks of a stream are no measure of the later ones
TOLERABLE = 1 / 500  # of all blocks: beyond it a listener notices
PITCH, VELOCITY, NOTE_S = 60, 64, 0.3
TRIES, TRY_S = 3, 1.0  # of a note on one port


@dataclass
class PortNote:
    """What became of the note to one MIDI port."""

    port: str  # as in the configuration
    channel: int  # from 1
    tries: int = 0
    note_id: int = 0
    on: dict[str, Any] | None = None
    off: dict[str, Any] | None = None

    @property
    def where(self) -> str:
        """The port, for people."""
        return f"MIDI port {self.port}" if self.port else "the MIDI port"


class Notes:
    """A note to every MIDI output port in turn, asked for through the control socket as a client does, and what the midi role tells of it.

    Each port has a few tries: a note that the machine makes late is left out by midi, which says nothing about the port.
    """

    def __init__(self, config: Config, say: Callable[[str], object]) -> None:
        usual = config.generation.channel
        self.ports = [PortNote(name, channel_of(port, usual)) for name, port in outputs_of(config).items()]
        self._say = say
        self._client = Client(config.wire.control, "check")
        self._events = self._client.subscribe(["note_on", "note_off", "heartbeat"])
        self._events.poll(1000)  # a heartbeat: the subscriptions hold
        self._left = list(self.ports)
        self._until_s = 0.0

    @property
    def done(self) -> bool:
        """Whether every port has had its note, or all its tries."""
        return not self._left

    def look(self) -> None:
        """Take what has come, and ask for the next note where it is time."""
        while self._events.poll(0):
            topic, _, payload = self._events.recv_multipart()
            event = msgspec.msgpack.decode(payload)
            for port in self.ports:
                if port.note_id and event.get("note_id") == port.note_id:
                    port.on, port.off = (event, port.off) if topic == b"note_on" else (port.on, event)
        while self._left and (self._left[0].off or (self._left[0].tries == TRIES and time.monotonic() > self._until_s)):
            self._left.pop(0)
            self._until_s = 0.0
        if self._left and time.monotonic() > self._until_s:
            self._ask(self._left[0])

    def _ask(self, port: PortNote) -> None:
        if not port.tries:
            self._say(f"note on {port.where}, channel {port.channel}")
        port.tries, port.on = port.tries + 1, None
        about = {"pitch": PITCH, "velocity": VELOCITY, "duration_s": NOTE_S, "channel": port.channel - 1, "port": port.port}
        port.note_id = self._client.ask("note", **about)["note_id"]
        self._until_s = time.monotonic() + TRY_S

    def close(self) -> None:
        """Let go of the sockets."""
        self._client.close()


def channel_of(port: MidiPort, usual: int) -> int:
    """A channel (from 1) whose notes sound on `port`: the usual one, unless the port names others and not that one."""
    named = port.channels or port.programs
    return usual if not named or str(usual) in named else int(next(iter(named)))


def trial(songs: list[Song], seconds: float, *, with_note: bool = False, say: Callable[[str], object] = lambda _: None) -> list[Check]:
    """Check every song, start the first, wait, measure for `seconds` (longer if the notes take longer), end.

    `say` is told of every note as it sounds. Raises `ConfigError`; all else that goes wrong is among the checks.
    """
    with tempfile.TemporaryDirectory(prefix="rtserver-trial-") as name:
        folder = Path(name)
        wire = Wire(control=f"ipc://{name}/control", events=f"ipc://{name}/events", bulk=f"ipc://{name}/bulk")
        apart = {"wire": wire, "recording": Recording(), "metrics": Metrics(), "log": Log()}
        songs = [Song(song.name, msgspec.structs.replace(song.config, **apart)) for song in songs]
        began_s = time.monotonic()
        try:
            supervisor = Supervisor(preflight(songs, folder), folder)
        except ConfigError:
            raise
        except RtserverError as error:
            return [_refused(error)]
        checks = [_loaded(time.monotonic() - began_s)]
        try:
            supervisor.start()
            return checks + list(_run(supervisor, seconds, say if with_note else None))
        finally:
            supervisor.close()


def loading(songs: list[Song]) -> Check:
    """Whether configurations, scores, models and kernels load: all that can be known where there is nothing to play on."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rtserver-check-") as name:
        try:
            Preflight(songs, Path(name)).result()
        except RtserverError as error:
            return _refused(error)
    return _loaded(time.monotonic() - began_s)


def _loaded(took_s: float) -> Check:
    return Check("preflight", "ok", f"configuration, score and kernels in {took_s:.1f} s", expected="they load")


def _refused(error: RtserverError) -> Check:
    return Check("preflight", "fail", str(error), "see the message", "configuration, score, model and kernels load")


def _run(supervisor: Supervisor, seconds: float, say: Callable[[str], object] | None) -> Iterator[Check]:
    began_s = time.monotonic()
    while not supervisor.ready:
        supervisor.turn()
        if time.monotonic() - began_s > START_S:
            missing = ", ".join(name for name in supervisor.children if not supervisor.up(name)) or "no callback comes"
            yield Check(
                "start", "fail", f"not up after {START_S:.0f} s: {missing}", "see what these roles print", "all roles up, audio flows"
            )
            return
    yield Check("start", "ok", f"all roles up after {time.monotonic() - began_s:.1f} s", expected="all roles up, audio flows")
    yield from privileges(supervisor)
    _turn_for(supervisor, SETTLE_S)
    config = supervisor.session.config
    notes = Notes(config, say) if say is not None else None
    before, began_s = _counters(supervisor), time.monotonic()
    _turn_for(supervisor, seconds, notes)
    after, seconds = _counters(supervisor), time.monotonic() - began_s
    if notes is not None:
        notes.close()
        for port in notes.ports:
            yield note(port)
        yield from connections(supervisor, notes.ports)
    restarts = {child.name: child.restarts for child in supervisor.children.values() if child.restarts > 0}
    if restarts:
        told = ", ".join(f"{name} ended {n} times" for name, n in restarts.items())
        yield Check("roles", "fail", told, "see what these roles print on stderr", "none ends")
    yield from measured({key: after[key] - before[key] for key in after}, seconds, config)
    yield hop_time(supervisor)


def _turn_for(supervisor: Supervisor, seconds: float, notes: Notes | None = None) -> None:
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s or not (notes is None or notes.done):
        supervisor.turn()
        if notes is not None:
            notes.look()


def _counters(supervisor: Supervisor) -> dict[str, int]:
    from rtserver.audio import table

    return table.counters(supervisor.session.block)


def privileges(supervisor: Supervisor) -> Iterator[Check]:
    """What the roles were granted of the priority and the lock that they ask for."""
    rows = {name: supervisor.session.role(name) for name in supervisor.children}
    asking = [name for name in rows if name in CAST and CAST[name][2]]
    without = [name for name in asking if not rows[name][PRIORITY]]
    unlocked = [name for name in (*asking, "audio") if not rows[name][LOCKED]]
    for what, lacking in (("priority", without), ("locked memory", unlocked)):
        if lacking:
            yield Check(f"roles' {what}", "warn", f"refused to {', '.join(lacking)}", "see `rtserver doctor`", "granted to all that ask")
        else:
            yield Check(f"roles' {what}", "ok", "granted to all that ask", expected="granted to all that ask")


def measured(counted: dict[str, int], seconds: float, config: Config) -> Iterator[Check]:
    """What the callback counted in `seconds`."""
    audio = config.audio
    wanted = seconds * audio.sample_rate / audio.block_size
    callbacks = counted["callbacks"]
    state: State = "ok" if callbacks >= 0.9 * wanted else "fail"
    remedy = "" if state == "ok" else "the device stands still at times: another block size, another device, or restart the audio server"
    yield Check("callbacks", state, f"{callbacks} in {seconds:.0f} s", remedy, f"about {wanted:.0f}")
    larger = f"a larger audio.block_size (it is {audio.block_size}), or what `rtserver doctor` says of priority and processors"
    spare = f"audio.spare_blocks = {audio.spare_blocks + 1} or more (it is {audio.spare_blocks}), or a larger audio.block_size"
    xruns = max(counted["input_overflows"], counted["output_underflows"])  # JACK reports one of its own as both
    yield _share("xruns", xruns, callbacks, larger)
    yield _share("late callbacks", counted["long_intervals"], callbacks, larger)
    yield _share("misses", counted["misses"], callbacks * len(config.outputs), spare)


def _share(name: str, n: int, of: int, remedy: str) -> Check:
    share = n / max(of, 1)
    state: State = "ok" if n == 0 else "warn" if share <= TOLERABLE else "fail"
    return Check(name, state, f"{n} in {of} blocks, {share:.2%}", remedy if n else "", f"none; beyond {TOLERABLE:.1%} it is heard")


def hop_time(supervisor: Supervisor) -> Check:
    """Whether the engine has time enough for a hop."""
    config = supervisor.session.config
    allowed_s = min(hop_sizes(config)) / config.audio.sample_rate
    times = HopTimes(supervisor.session.block).claim("hop")
    p99_s = times.quantile(0.99)
    found = f"p99 {p99_s * 1e3:.2f} ms of {allowed_s * 1e3:.2f} ms, most {times.max_s * 1e3:.2f} ms"
    state: State = "ok" if p99_s < 0.5 * allowed_s else "warn" if p99_s < allowed_s else "fail"
    remedy = "" if state == "ok" else "a preset with longer hops, fewer inputs, or a faster processor; is something else running?"
    return Check("time of a hop", state, found, remedy, "p99 below half of it")


def note(port: PortNote) -> Check:
    """Whether both ends of the note left through the port."""
    name, expected = f"note on {port.where}, channel {port.channel}", "note-on and note-off sent"
    if port.on is None or port.off is None:
        missing = "note-on" if port.on is None else "note-off"
        remedy = "is the midi role up? see what it prints; is the machine busy? midi leaves out notes that are late"
        return Check(name, "fail", f"no {missing} was sent in {port.tries} tries", remedy, expected)
    late_s = (port.on["sent_ns"] - port.on["due_ns"]) * 1e-9
    found = f"note-on and note-off sent, {max(late_s, 0.0) * 1e3:.2f} ms late"
    if port.tries > 1:
        return Check(name, "warn", f"{found}, at try {port.tries}", "the machine was too busy before: see `rtserver doctor`", expected)
    return Check(name, "ok", found, expected=expected)


def connections(supervisor: Supervisor, ports: list[PortNote]) -> Iterator[Check]:
    """Whether somebody is behind each port. On ALSA and CoreMIDI that is the system's to know."""
    if supervisor.session.config.midi.api == "null":
        return
    kept = links.load(supervisor.session.run_folder / CONNECTIONS)
    if kept is None:
        if int(supervisor.session.counters("midi")["port_errors"]):
            yield Check("MIDI ports", "warn", "the null backend stands in: notes go nowhere", "see `rtserver doctor`", "ports")
        return
    for port in ports:
        heard = kept.get(f"{OUT_PORT}/{port.port}", [])
        if heard:
            yield Check(port.where, "ok", f"connected to {', '.join(heard)}", expected="a synth behind it")
        else:
            key = f"midi.ports.{port.port}.connect" if port.port else "midi.connect"
            remedy = f"name a synth in {key}, or connect the port by hand"
            yield Check(port.where, "warn", "nothing is connected to it: notes go nowhere", remedy, "a synth behind it")
