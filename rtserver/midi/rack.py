"""The rack: every port of the server, opened on whatever MIDI system there is, with what plays on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rtserver.config import Config
from rtserver.config.midi import outputs_of, ports_of
from rtserver.errors import DeviceError
from rtserver.events import Note
from rtserver.midi import patchbay as pb
from rtserver.midi import sender
from rtserver.midi.gate import Gate
from rtserver.midi.player import PortPlayer
from rtserver.midi.ports import Input, NullOutput, Output, client_name, find_api, rtmidi_api
from rtserver.midi.pulse import ClockOut
from rtserver.node import Array
from rtserver.shared.waker import Waker

# A sender silent for so long is stuck, not slow. On JACK all that it is connected to stands still with it: nobody else can end its notes.
HANG_S = 0.3


@dataclass
class Slot:
    """One output port."""

    name: str  # as in the configuration
    player: PortPlayer
    output: Output
    greet_ns: int | None = None  # when its programs are to be sent
    clock: ClockOut | None = None  # where it sends MIDI clock
    offset_ns: int = 0

    @property
    def next_due_ns(self) -> int | None:
        """When its next message is due; None if none is."""
        dues = (self.player.next_due_ns, self.clock.next_due_ns if self.clock is not None else None)
        return min((due for due in dues if due is not None), default=None)

    @property
    def ended(self) -> bool:
        """Whether the process behind the port has ended."""
        return isinstance(self.output, sender.Sender) and self.output.ended

    def settle(self, now_ns: int) -> None:
        """Strike off what was let go long enough before the last sign of life of the process behind the port: that it has sent."""
        self.player.table.settle(self.output.heard_ns if isinstance(self.output, sender.Sender) else now_ns)

    def hangs(self, now_ns: int, steady_ns: int) -> float:
        """Seconds for which the process behind the port has given no sign of life, if they are too many; else 0.

        steady_ns : the end of the last stall of the whole machine, for which no sender is to blame.
        """
        if not isinstance(self.output, sender.Sender):
            return 0.0
        silent_s = (now_ns - max(self.output.heard_ns, steady_ns)) * 1e-9
        return silent_s if silent_s > HANG_S else 0.0

    def kill(self) -> None:
        """End the process behind the port."""
        if isinstance(self.output, sender.Sender):
            self.output.kill()


class Rack:
    """All ports of `config`.

    Parameters
    ----------
    config : Config
    run_folder : Path
        Where connections are kept for the next midi role.
    cells : Array
        Tables of sounding notes, int64 ``(MAX_PORTS, 16, 128)``, in the order of the configuration.
    pids : Array
        Where the standby finds the processes behind the ports, int64 ``(MAX_PORTS,)``.
    """

    def __init__(self, config: Config, run_folder: Path, cells: Array, pids: Array) -> None:
        self.config = config
        self.ports = ports_of(config)
        self.api = "null"
        self.patchbay: pb.Patchbay | None = None  # on JACK
        self.lost = False  # the MIDI system has gone
        self._run_folder = run_folder
        self._pids = pids
        self._inputs: dict[str, Input] = {}  # on ALSA and CoreMIDI
        self._gates: dict[str, Gate] = {}
        self.slots = [
            Slot(name, PortPlayer(port, cells[i], name), NullOutput(), None, ClockOut() if port.clock else None, round(port.offset_s * 1e9))
            for i, (name, port) in enumerate(outputs_of(config).items())
        ]

    def open(self, waker: Waker) -> str:
        """Open everything; about 0.4 s on JACK. Returns, where a null backend had to stand in, why and what to do."""
        self.api, complaint = find_api(self.config)
        if self.api != "null":
            try:
                self._open_outputs()
            except DeviceError as error:
                self.api, complaint = "null", f"{error}: notes go nowhere until it is there"
        self._pids[:] = 0
        for i, slot in enumerate(self.slots):
            self._pids[i] = slot.output.pid if isinstance(slot.output, sender.Sender) else 0
        if self.api == "jack":
            self.open_patchbay(waker)
        elif self.api != "null":
            self._open_inputs()
        return complaint

    def open_patchbay(self, waker: Waker) -> None:
        """Start the process that makes connections and listens on JACK; it posts `waker`."""
        outputs = {slot.name: pb.Wiring(slot.output.name, self.ports[slot.name].connect) for slot in self.slots}
        inputs = {name: pb.Wiring(self._input_client(name), port.connect_input) for name, port in self.ports.items() if port.input}
        self.patchbay = pb.Patchbay(pb.Orders(client_name(self.config), outputs, inputs, str(self._run_folder)), waker)

    def take_song(self, config: Config) -> None:
        """Another song of the same show plays: tell the synths its programs. What sounds goes on."""
        ports = outputs_of(config)
        for slot in self.slots:
            if slot.player.take_song(ports[slot.name]):
                slot.output.send(*slot.player.greeting())

    def found(self) -> bool:
        """Whether a MIDI system is there by now."""
        return find_api(self.config)[0] != "null"

    @property
    def stands_in(self) -> bool:
        """Whether the null backend stands in for a MIDI system that is missing."""
        return self.api == "null" != self.config.midi.api

    @property
    def polls(self) -> bool:
        """Whether inputs have to be asked; on JACK the patchbay wakes us."""
        return bool(self._inputs)

    @property
    def deaf(self) -> bool:
        """Whether nobody listens on JACK, until another patchbay is started."""
        return self.patchbay is not None and self.patchbay.ended

    @property
    def next_due_ns(self) -> int | None:
        """When the next message is due on any port."""
        return min((due for slot in self.slots if (due := slot.next_due_ns) is not None), default=None)

    @property
    def complaint(self) -> str:
        """What a port last refused, and why."""
        return next((slot.output.complaint for slot in self.slots if slot.output.complaint), "")

    def tells(self, slot: Slot, note: Note) -> bool:
        """Whether `slot` is the first of those that play `note`: what several ports play is told of once."""
        return slot is next(s for s in self.slots if s.player.plays(note))

    def receive(self) -> list[pb.Arrival]:
        """What has come in on any port, as far as it may pass."""
        if self.patchbay is not None:
            return self.patchbay.receive()
        arrivals: list[pb.Arrival] = []
        for name, port in self._inputs.items():
            arrivals += [pb.Arrival(name, ns, data) for ns, data in port.receive() if self._gates[name].passes(ns, data)]
        return arrivals

    def made(self) -> set[str]:
        """The ports that have got a new connection since the last call."""
        made = self.patchbay.made() if self.patchbay is not None else set[str]()
        made |= {slot.name for slot in self.slots if isinstance(slot.output, sender.Sender) and slot.output.made()}
        return made

    def listen(self, now_ns: int) -> None:
        """Take what the senders have said."""
        for slot in self.slots:
            if isinstance(slot.output, sender.Sender):
                slot.output.listen(now_ns)

    def totals(self) -> dict[str, int]:
        """What ports, schedules and patchbay have counted since they exist."""
        patchbay = self.patchbay
        return {
            "dropped_notes": sum(slot.player.schedule.dropped for slot in self.slots),
            "port_errors": sum(slot.output.errors for slot in self.slots),
            "refused_in": patchbay.refused if patchbay is not None else sum(gate.refused for gate in self._gates.values()),
            "ticks_out": sum(slot.clock.ticks for slot in self.slots if slot.clock is not None),
            "links_lost": patchbay.gone if patchbay is not None else 0,
            "links_restored": patchbay.back if patchbay is not None else 0,
        }

    def close(self) -> None:
        """Take all ports away, once the driver has what was sent. Tables of ports whose sender is gone are left for the standby."""
        ended = [slot for slot in self.slots if slot.ended]
        for slot in self.slots:
            slot.output.lost = self.lost
            if isinstance(slot.output, sender.Sender):
                slot.output.quit()
        for slot in self.slots:
            slot.output.close()
            if slot not in ended:
                slot.player.table.clear()
        self._pids[:] = 0
        for port in self._inputs.values():
            port.close()
        if self.patchbay is not None:
            self.patchbay.close()

    def _open_outputs(self) -> None:
        """All at once: each needs a third of a second."""
        orders = [sender.Orders(self.api, client_name(self.config, slot.name), self.ports[slot.name].connect) for slot in self.slots]
        senders = [sender.Sender(order) for order in orders]
        try:
            for one in senders:
                one.ready()
        except DeviceError:
            for one in senders:
                one.lost = True
                one.close()
            raise
        for slot, one in zip(self.slots, senders, strict=True):
            slot.output = one

    def _open_inputs(self) -> None:
        for name, port in self.ports.items():
            if port.input:
                self._inputs[name] = Input(rtmidi_api(self.api), self._input_client(name))
                self._gates[name] = Gate()

    def _input_client(self, name: str) -> str:
        return f"{client_name(self.config, name)}-in"
