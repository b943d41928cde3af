"""The patchbay: a helper process of the midi role on JACK, for everything that needs a second JACK client.

It makes, watches and keeps the connections of our ports, holds the input port, and tells when jackd has gone. It may block in libjack
without delaying a note, and when the midi process is killed it closes its clients later, in peace (see `rtserver.midi.ports`).

It talks in lines: ``in <ns> <hex>`` for a message that arrived, ``made`` for a new connection of the output, ``ready`` once all is set up,
``lost`` when jackd has gone, ``error <why>``. It ends at the line ``quit``, or `GRACE_S` after its standard input has ended.
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
from collections.abc import Callable
from pathlib import Path

import msgspec

from rtserver.midi import links
from rtserver.midi.ports import IN_PORT, OUT_PORT, Input, keep_for_ever

CONNECTIONS = "midi-connections.json"  # in the run folder: what our ports are connected to, kept for the next patchbay
STANDBY = "midi-standby.json"  # in the run folder: the standby's port, which is connected as the midi role's own
GRACE_S = 0.3  # by then jackd has cleared away a midi process that was killed; closing a client before would hold that up
CLOSE_S = 2.0  # what closing the clients may take
INPUT_POLL_S = 0.002  # while something is connected to the input; the driver stamps the arrival, so this delays but does not smear
IDLE_S = 0.05
READY_S = 10.0


class Orders(msgspec.Struct, frozen=True):
    """What the midi role hands over on the command line, as JSON."""

    port: str  # full name of the midi role's output port
    client: str
    connect: list[str]
    run_folder: str


class Patchbay:
    """The helper process as the midi role sees it."""

    def __init__(self, orders: Orders, wake: Callable[[], None]) -> None:
        self.lost = False
        self.ended = False
        self.complaint = ""
        self._made = False
        self._wake = wake
        self._messages: deque[tuple[int, bytes]] = deque(maxlen=1024)
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rtserver.midi.patchbay", msgspec.json.encode(orders).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what it has to say comes as a line; the rest is libjack's
        )
        threading.Thread(target=self._read, name="patchbay", daemon=True).start()
        self._ready.wait(READY_S)

    def receive(self) -> list[tuple[int, bytes]]:
        """What has come in since the last call: (arrival on CLOCK_MONOTONIC in ns, message)."""
        return [self._messages.popleft() for _ in range(len(self._messages))]

    def made(self) -> bool:
        """Whether the output has got a new connection since the last call."""
        made, self._made = self._made, False
        return made

    def close(self) -> None:
        """End the helper; waits at most 0.5 s for it."""
        try:
            self._process.communicate(b"quit\n", 0.5)
        except (subprocess.TimeoutExpired, ValueError, OSError):
            self._process.kill()

    def _read(self) -> None:
        """A thread that sleeps in the pipe."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            match line.split(maxsplit=1):
                case [b"in", rest]:
                    arrived_ns, data = rest.split()
                    self._messages.append((int(arrived_ns), bytes.fromhex(data.decode())))
                case [b"made"]:
                    self._made = True
                case [b"ready"]:
                    self._ready.set()
                    continue
                case [b"lost"]:
                    self.lost = True
                case [b"error", why]:
                    self.complaint = why.decode().strip()
                case _:
                    continue
            self._wake()
        self.ended = True
        self._ready.set()
        self._wake()


class Keeper:
    """The helper's insides: one client to look and connect with, one input."""

    def __init__(self, orders: Orders) -> None:
        client = links.jack_client(f"{orders.client}-patchbay")
        if client is None:
            raise OSError("no JACK server answers")
        import rtmidi

        self.gone = False
        client.set_shutdown_callback(self._on_shutdown)
        self.client = client
        self.file = Path(orders.run_folder) / CONNECTIONS
        self.standby_file = Path(orders.run_folder) / STANDBY
        in_port = f"{orders.client}-in:{IN_PORT}"
        until_s = time.monotonic() + 4 * GRACE_S
        while any(p.name == in_port for p in client.get_ports(is_midi=True)) and time.monotonic() < until_s:
            time.sleep(IDLE_S)  # our predecessor still holds the name
        self.input = Input(rtmidi.API_UNIX_JACK, f"{orders.client}-in")
        self.links = {
            OUT_PORT: links.Links(client, orders.port, True, orders.connect, exclude=orders.client),
            IN_PORT: links.Links(client, in_port, False, exclude=orders.client),
        }
        self._kept = links.load(self.file)
        for name, link in self.links.items():
            link.restore((self._kept or {}).get(name, ()))
        # What a hand has taken off stays off over a restart: with a file, patterns count for ports that come later.
        self.look(match=self._kept is None)

    def look(self, match: bool = True) -> bool:
        """Look at all connections. True if the output has a new one."""
        made = {name: link.poll(match) for name, link in self.links.items()}
        wanted = {name: link.wanted for name, link in self.links.items()}
        if wanted != self._kept:
            links.save(self.file, wanted)
            self._kept = wanted
        standby = (links.load(self.standby_file) or {}).get(OUT_PORT, [])
        for port in standby:
            links.Links(self.client, port, True).follow(self.links[OUT_PORT].connected)
        return bool(made[OUT_PORT])

    def close(self) -> None:
        """Leave; what belongs to a server that has gone is not touched."""
        if self.gone:
            keep_for_ever(self.client)
        else:
            self.input.close()
            self.client.close()

    def _on_shutdown(self, _status: object, _reason: str) -> None:
        self.gone = True


def say(line: str) -> None:
    """One line to the midi role, which may have gone."""
    with contextlib.suppress(OSError):
        os.write(1, f"{line}\n".encode())


def run(keeper: Keeper) -> None:
    """Until told to quit, until jackd is gone, or until the midi process is."""
    look_s = time.monotonic() + links.POLL_S
    say("ready")
    while not keeper.gone:
        busy = bool(keeper.links[IN_PORT].connected)
        if select.select([0], [], [], INPUT_POLL_S if busy else IDLE_S)[0]:
            if not os.read(0, 64):
                time.sleep(GRACE_S)
            # Closing a client hangs for ever if jackd dies meanwhile, and nobody is left to kill us.
            threading.Timer(CLOSE_S, os._exit, (0,)).start()
            keeper.close()
            os._exit(0)
        for arrived_ns, message in keeper.input.receive():
            say(f"in {arrived_ns} {message.hex()}")
        if time.monotonic() >= look_s:
            if keeper.look():
                say("made")
            look_s = time.monotonic() + links.POLL_S
    say("lost")
    os._exit(0)  # without destructors: they crash where the server is gone


def main() -> int:
    """Entry point of the helper's process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they may reach the whole group; the midi role decides
    try:
        run(Keeper(msgspec.json.decode(sys.argv[1], type=Orders)))
    except Exception as error:
        say(f"error {type(error).__name__}: {error}".replace("\n", " "))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
