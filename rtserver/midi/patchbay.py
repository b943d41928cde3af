"""The patchbay: a helper process of the midi role on JACK, for everything that needs a second JACK client.

It makes, watches and keeps the connections of our ports, holds the input ports, and tells when jackd has gone. It may block in libjack
without delaying a note, and when the midi process is killed it closes its clients later, in peace (see `rtserver.midi.ports`).

It talks in lines: ``in <port> <ns> <hex>`` for a message that arrived, without the last word when what was connected to that input has
gone, ``made <port>`` for a new connection of an output,
``links <gone> <back>`` and ``refused <count>`` for what it counts, ``ready`` once all is set up, ``lost`` when jackd has gone,
``error <why>``, and ``beat`` after every look at the connections: who hangs in libjack says nothing. It ends at the line ``quit``, or
`GRACE_S` after its standard input has ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from rtserver.midi import links
from rtserver.midi.gate import Gate
from rtserver.midi.ports import IN_PORT, OUT_PORT, QUEUE_SIZE, Ender, Input, keep_for_ever, rtmidi_api
from rtserver.shared.waker import Waker

if TYPE_CHECKING:
    import jack

CONNECTIONS = "midi-connections.json"  # in the run folder: what our ports are connected to, kept for the next patchbay
STANDBY = "midi-standby.json"  # in the run folder: the standby's port, which is connected as the midi role's own
GRACE_S = 0.3  # by then jackd has cleared away a midi process that was killed; closing a client before would hold that up
CLOSE_S = 2.0  # what closing the clients may take
INPUT_POLL_S = 0.002  # on ALSA and CoreMIDI, where inputs are polled; the driver stamps the arrival, so this delays but does not smear
PRIORITY = 45  # that of the midi role: a key passes at once, as a note does
SWITCH_S = 0.0002  # how long JACK's thread may wait for the interpreter while we look at connections
IDLE_S = 0.05
READY_S = 10.0
MAX_READ = 65536  # bytes: what a pipe holds
HANG_S = 2.0  # without a sign of life: eight looks, and longer than connecting takes on a machine that is too busy


class Arrival(NamedTuple):
    """A message that came in."""

    port: str
    arrived_ns: int  # CLOCK_MONOTONIC
    data: bytes  # empty: one of those that were connected to the port is no longer


class Wiring(msgspec.Struct, frozen=True):
    """One of our ports and what it is to be connected to, by part of the name."""

    name: str  # of an output: the full name of its port; of an input: the name of its client
    connect: list[str]


class Orders(msgspec.Struct, frozen=True):
    """What the midi role hands over on the command line, as JSON. Ports go by the names they have in the configuration."""

    client: str  # what the names of all our clients begin with
    outputs: dict[str, Wiring]
    inputs: dict[str, Wiring]
    run_folder: str
    bell: tuple[int, int] | None = None  # whom to wake: a waker's descriptor and offset


class Patchbay:
    """The helper process as the midi role sees it. What it says waits in the pipe for `listen`, which the other methods call.

    It rings the midi role's own bell: a thread that waited at the pipe would have to be woken first, and then take the interpreter away.
    """

    def __init__(self, orders: Orders, waker: Waker | None = None) -> None:
        self.heard_ns = time.monotonic_ns()  # the last sign of life
        self.lost = False
        self.ended = False
        self.complaint = ""
        self.refused = 0  # messages that came in too fast
        self.gone = 0  # connected ports that went away
        self.back = 0  # of them, those that came back
        self._made: deque[str] = deque(maxlen=256)
        self._messages: deque[Arrival] = deque(maxlen=QUEUE_SIZE)
        self._ready = False
        self._rest = b""  # of a line that is not whole yet
        if waker is not None:
            orders = msgspec.structs.replace(orders, bell=(waker.fd, waker.offset))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rtserver.midi.patchbay", msgspec.json.encode(orders).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what it has to say comes as a line; the rest is libjack's
            pass_fds=[orders.bell[0]] if orders.bell is not None else [],
        )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        until_s = time.monotonic() + READY_S
        while not (self._ready or self.ended) and (left_s := until_s - time.monotonic()) > 0:
            select.select([self._pipe], [], [], left_s)
            self.listen()
        self.heard_ns = time.monotonic_ns()  # making the clients may take long

    def hangs(self, now_ns: int, steady_ns: int) -> float:
        """Seconds for which the helper has given no sign of life, if they are too many; else 0. steady_ns : as in `rtserver.midi.rack`."""
        silent_s = (now_ns - max(self.heard_ns, steady_ns)) * 1e-9
        return silent_s if silent_s > HANG_S and not self.ended else 0.0

    @property
    def pid(self) -> int:
        """Of the helper."""
        return self._process.pid

    def kill(self) -> None:
        """End the helper at once; `ended` follows."""
        self._process.kill()

    def receive(self) -> list[Arrival]:
        """What has come in since the last call."""
        self.listen()
        return [self._messages.popleft() for _ in range(len(self._messages))]

    def made(self) -> set[str]:
        """The outputs that have got a new connection since the last call."""
        self.listen()
        return {self._made.popleft() for _ in range(len(self._made))}

    def close(self) -> None:
        """End the helper; waits at most 0.5 s for it."""
        try:
            self._process.communicate(b"quit\n", 0.5)
        except (subprocess.TimeoutExpired, ValueError, OSError):
            self._process.kill()
            self._process.wait()

    def listen(self) -> None:
        """Take what the helper has said up to now."""
        while not self.ended:
            try:
                data = os.read(self._pipe, MAX_READ)
            except BlockingIOError:
                return
            self.ended = not data
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._hear(*line.decode(errors="replace").split(" ", 3))

    def _hear(self, word: str, *rest: str) -> None:
        """A line."""
        self.heard_ns = time.monotonic_ns()
        match word, rest:
            case "in", [port, arrived_ns, data]:  # which is empty, and the line ends with a space, when a keyboard has gone
                self._messages.append(Arrival(port, int(arrived_ns), bytes.fromhex(data)))
            case "made", [port]:
                self._made.append(port)
            case "links", [gone, back]:
                self.gone, self.back = int(gone), int(back)
            case "refused", [count]:
                self.refused = int(count)
            case "ready", []:
                self._ready = True
            case "lost", []:
                self.lost = True
            case "error", why:
                self.complaint = " ".join(why)
            case _:
                pass


class Keeper:
    """The helper's insides: one client to look and connect with, and the inputs."""

    def __init__(self, orders: Orders) -> None:
        client = links.jack_client(f"{orders.client}-patchbay")
        if client is None:
            raise OSError("no JACK server answers")
        self.gone = False
        self._registered: deque[str] = deque(maxlen=1024)  # ports that came since the last look
        client.set_shutdown_callback(self._on_shutdown)
        client.set_port_registration_callback(self._on_port)
        client.activate()  # without a process callback: the graph does not wait for us
        self.client = client
        self.file = Path(orders.run_folder) / CONNECTIONS
        self.standby_file = Path(orders.run_folder) / STANDBY
        in_ports = {key: f"{wiring.name}:{IN_PORT}" for key, wiring in orders.inputs.items()}
        until_s = time.monotonic() + 4 * GRACE_S
        while {p.name for p in client.get_ports(is_midi=True)} & set(in_ports.values()) and time.monotonic() < until_s:
            time.sleep(IDLE_S)  # our predecessor still holds the names
        self._waker = Waker.inherited(*orders.bell) if orders.bell is not None else None
        self.bell, self._ring = os.pipe()  # can be read when something has come in
        os.set_blocking(self._ring, False)
        self.inputs = {key: Input(rtmidi_api("jack"), wiring.name, self._on_message) for key, wiring in orders.inputs.items()}
        self.gates = {key: Gate() for key in orders.inputs}
        self.ender = Ender(rtmidi_api("jack"), f"{orders.client}-ender") if orders.inputs else None
        self.outputs = {
            key: links.Links(client, wiring.name, True, wiring.connect, exclude=orders.client) for key, wiring in orders.outputs.items()
        }
        self.sources = {
            key: links.Links(client, in_ports[key], False, wiring.connect, exclude=orders.client) for key, wiring in orders.inputs.items()
        }
        self.unplugged: list[Arrival] = []  # inputs that have lost a connection
        self._kept = links.load(self.file)
        for name, link in self._links().items():
            link.restore((self._kept or {}).get(name, ()))
        # What a hand has taken off stays off over a restart: with a file, patterns count for ports that come later.
        self.look(match=self._kept is None)

    def look(self, match: bool = True) -> list[str]:
        """Look at all connections. The outputs that have got a new one."""
        fresh = {self._registered.popleft() for _ in range(len(self._registered))}
        made = [key for key, link in self.outputs.items() if link.poll(match, fresh)]
        for key, link in self.sources.items():
            before, gone = link.connected, link.gone
            link.poll(match, fresh)
            if link.gone > gone or before - link.connected:
                self.unplugged.append(Arrival(key, time.monotonic_ns(), b""))
        if self.ender is not None:
            links.Links(self.client, self.ender.name, True).follow([link.port for link in self.sources.values()])
            self.ender.end()
        wanted = {name: link.wanted for name, link in self._links().items()}
        if wanted != self._kept:
            links.save(self.file, wanted)
            self._kept = wanted
        standby = (links.load(self.standby_file) or {}).get(OUT_PORT, [])
        for port in standby:
            links.Links(self.client, port, True).follow(set[str]().union(*(link.connected for link in self.outputs.values())))
        return made

    def receive(self) -> list[Arrival]:
        """What has come in, as far as it may pass."""
        arrivals: list[Arrival] = []
        for key, port in self.inputs.items():
            gate = self.gates[key]
            arrivals += [Arrival(key, arrived_ns, data) for arrived_ns, data in port.receive() if gate.passes(arrived_ns, data)]
        arrivals += self.unplugged
        self.unplugged = []
        return arrivals

    def say(self, *lines: str) -> None:
        """Lines to the midi role, which is woken for them."""
        if lines:
            say(*lines)
            if self._waker is not None:
                self._waker.post()

    def close(self) -> None:
        """Leave; what belongs to a server that has gone is not touched."""
        if self.gone:
            keep_for_ever(self.client)
        else:
            for port in self.inputs.values():
                port.close()
            if self.ender is not None:
                self.ender.close()
            self.client.close()

    def _links(self) -> dict[str, links.Links]:
        """All that is connected, by the names under which it is kept."""
        return {f"{OUT_PORT}/{key}": link for key, link in self.outputs.items()} | {
            f"{IN_PORT}/{key}": link for key, link in self.sources.items()
        }

    def counts(self) -> list[str]:
        """The lines that say what has been counted."""
        all_links = self._links().values()
        return [
            f"links {sum(link.gone for link in all_links)} {sum(link.back for link in all_links)}",
            f"refused {sum(gate.refused for gate in self.gates.values())}",
        ]

    def _on_message(self) -> None:
        """Called by JACK's thread of an input."""
        with contextlib.suppress(BlockingIOError):  # it rings loudly enough
            os.write(self._ring, b"\0")

    def _on_port(self, port: jack.Port, register: bool) -> None:
        """Called by a thread of libjack's."""
        if register:
            self._registered.append(port.name)

    def _on_shutdown(self, _status: object, _reason: str) -> None:
        self.gone = True


def say(*lines: str) -> None:
    """Lines to the midi role, which may have gone."""
    data = "".join(f"{line}\n" for line in lines).encode()
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(1, data) :]


def run(keeper: Keeper) -> None:
    """Until told to quit, until jackd is gone, or until the midi process is."""
    look_s = time.monotonic() + links.POLL_S
    told: list[str] = keeper.counts()
    keeper.say("ready")
    while not keeper.gone:
        can_be_read = select.select([0, keeper.bell], [], [], IDLE_S)[0]
        if keeper.bell in can_be_read:
            os.read(keeper.bell, 4096)
        if 0 in can_be_read:
            if not os.read(0, 64):
                time.sleep(GRACE_S)
            # Closing a client hangs for ever if jackd dies meanwhile, and nobody is left to kill us.
            threading.Timer(CLOSE_S, os._exit, (0,)).start()
            keeper.close()
            os._exit(0)
        arrivals = keeper.receive()
        if arrivals:
            keeper.say(*(f"in {a.port} {a.arrived_ns} {a.data.hex()}" for a in arrivals))
        if time.monotonic() >= look_s:
            say("beat")
            keeper.say(*(f"made {key}" for key in keeper.look()))
            counts = keeper.counts()
            keeper.say(*(line for line in counts if line not in told))
            told = counts
            look_s = time.monotonic() + links.POLL_S
    keeper.say("lost")
    os._exit(0)  # without destructors: they crash where the server is gone


def main() -> int:
    """Entry point of the helper's process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they may reach the whole group; the midi role decides
    sys.setswitchinterval(SWITCH_S)
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    try:
        run(Keeper(msgspec.json.decode(sys.argv[1], type=Orders)))
    except Exception as error:
        say(f"error {type(error).__name__}: {error}".replace("\n", " "))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
