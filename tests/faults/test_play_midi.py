"""A client that plays on a port of its own machine, and what may die: it, the gateway, the midi role, the server, its port, its JACK.

What sounds is heard by a synth on JACK, which nothing but the client plays. No note may sound for more than 0.3 s after any death.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import machine
import pytest
from faults import Row, Stage, Synth, settings

CLIENTS = Path(__file__).parent.parent.parent / "clients"
LIMIT_S = 0.3
CHANNEL = 5  # of the notes that the tests look at; the performer plays on another
PITCHES = (40, 47, 52, 59)
FAR = "rtfault-far"


class Player:
    """``play_midi.py`` as its users start it, in a session of its own, with its status lines."""

    def __init__(self, *arguments: str, code: str = "", within: tuple[str, ...] = ()) -> None:
        command = (
            [sys.executable, "-c", code, *arguments] if code else [sys.executable, str(CLIENTS / "play_midi.py"), "--json", *arguments]
        )
        command = [*within, *command]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=CLIENTS
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.said: list[str] = []
        for pipe, take in ((self.process.stdout, self.lines.put), (self.process.stderr, self.said.append)):
            threading.Thread(target=lambda pipe=pipe, take=take: [take(line) for line in pipe or ()], daemon=True).start()

    def until(self, condition: Callable[[dict[str, Any]], object], timeout_s: float = 20.0) -> dict[str, Any]:
        """The first status of which it holds."""
        until_s = time.monotonic() + timeout_s
        while time.monotonic() < until_s:
            try:
                status = json.loads(self.lines.get(timeout=max(until_s - time.monotonic(), 0.01)))
            except queue.Empty:
                break
            if condition(status):
                return status
        raise AssertionError(f"it did not come to that: {''.join(self.said)}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def far(jack_server: str) -> Iterator[Synth]:
    synth = Synth(FAR)
    yield synth
    synth.close()


@pytest.fixture
def player_of() -> Iterator[Callable[..., Player]]:
    """Starts players and ends them."""
    players: list[Player] = []

    def start(stage: Stage, *arguments: str, **settings: Any) -> Player:
        players.append(Player("--control", stage.server.config.wire.control, "--connect", FAR, *arguments, **settings))
        return players[-1]

    yield start
    for player in players:
        player.close()


@pytest.fixture
def playing(stage: Stage, far: Synth, player_of: Callable[..., Player]) -> Player:
    assert stage.wait(stage.well, 30.0)
    player = player_of(stage)
    player.until(lambda status: status["server"] and status["port"])
    return player


def hold(stage: Stage, far: Synth, seconds: float = 20.0) -> set[tuple[int, int]]:
    """Let notes sound at the far synth that would go on for so long."""
    keys = {(CHANNEL, pitch) for pitch in PITCHES}
    for _ in range(10):  # where the machine stalls one may be left out as late
        for pitch in PITCHES:
            assert stage.ask("note", pitch=pitch, duration_s=seconds, channel=CHANNEL, delay_s=0.05)["ok"]
        if stage.wait(lambda: far.sounding() >= keys, 0.6):
            return keys
    raise AssertionError("the notes do not sound")


def let_go(stage: Stage, far: Synth, after_s: float, row: Row | None = None) -> bool:
    """Whether everything that sounded at `after_s` was let go within the limit, beside what the machine stood still for.

    The worst of several goes into the row of the fault matrix.
    """
    held = far.sounding(after_s)
    assert held, "something sounded"
    stage.wait(lambda: max(far.released(key, after_s) for key in held) < float("inf"), 3.0)
    worst_s = max(far.released(key, after_s) for key in held) - after_s
    if row is not None:
        row.hang_s = max(row.hang_s or 0.0, worst_s)
    print(f"the last of {len(held)} notes was let go after {worst_s:.3f} s")
    return worst_s < LIMIT_S + machine.watch().total_s(after_s, after_s + min(worst_s, 10.0))


def test_notes_are_heard_there_in_order_with_their_ends(stage: Stage, far: Synth, playing: Player) -> None:
    far.heard.clear()
    for i in range(8):
        assert stage.ask("note", pitch=60 + i, duration_s=0.1, channel=CHANNEL, delay_s=0.1 + 0.1 * i)["ok"]
    mine = lambda kind: [m[1] for _, m in list(far.heard) if m[0] == kind | CHANNEL]  # noqa: E731
    assert stage.wait(lambda: set(mine(0x80)) >= set(mine(0x90)) and mine(0x90)[-1:] == [67])
    assert mine(0x90) == sorted(mine(0x90))
    assert not {key for key in far.sounding() if key[0] == CHANNEL}


def test_parts_channels_and_an_offset_are_what_it_is_told(stage: Stage, far: Synth, player_of: Callable[..., Player]) -> None:
    player = player_of(stage, "--parts", "client", "--channel", f"{CHANNEL + 1}=9", "--offset", "0.4")
    player.until(lambda status: status["server"] and status["port"])
    asked_s = time.monotonic()
    assert stage.ask("note", pitch=60, duration_s=0.1, channel=CHANNEL, delay_s=0.1)["ok"]
    assert stage.wait(lambda: bytes((0x88, 60, 0)) in [m for _, m in list(far.heard)])
    notes = [(when_s, m) for when_s, m in list(far.heard) if m[0] & 0xF0 == 0x90]
    assert [m for _, m in notes] == [bytes((0x98, 60, 72))], "the performer, who plays all the time, is not among them"
    assert notes[0][0] - asked_s > 0.45


def test_its_clock_is_known_and_the_bound_is_stated(stage: Stage, playing: Player) -> None:
    status = playing.until(lambda status: status["clock_error_s"] is not None)
    assert abs(status["clock_offset_s"]) <= status["clock_error_s"], "on one machine both clocks are one"


def test_on_a_clock_that_is_another_it_plays_at_the_same_moments(stage: Stage, far: Synth, player_of: Callable[..., Player]) -> None:
    """In a time namespace CLOCK_MONOTONIC is ahead by a day, as it may be on another machine."""
    elsewhere = ("unshare", "--time", "--monotonic", "86400", "--fork", "--kill-child")
    if shutil.which("unshare") is None or subprocess.run([*elsewhere, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this needs util-linux and the right to make a time namespace")
    player = player_of(stage, within=elsewhere)
    status = player.until(lambda status: status["server"] and status["port"])
    assert abs(status["clock_offset_s"] + 86400) <= status["clock_error_s"]
    pitches, near = list(range(60, 72)), stage.synth
    assert near is not None
    began_s = time.monotonic()
    for i, pitch in enumerate(pitches):
        assert stage.ask("note", pitch=pitch, duration_s=0.05, channel=CHANNEL, delay_s=0.1 + 0.1 * i)["ok"]
    begins = lambda synth: {m[1]: when_s for when_s, m in list(synth.heard) if m[0] == 0x90 | CHANNEL and when_s > began_s}  # noqa: E731
    assert stage.wait(lambda: pitches[-1] in begins(near) and pitches[-1] in begins(far))
    both = begins(near).keys() & begins(far).keys()
    assert len(both) > len(pitches) // 2, "where the machine stands still one may be left out as late"
    apart_s = sorted(abs(begins(near)[pitch] - begins(far)[pitch]) for pitch in both)
    print("apart by", ", ".join(f"{s * 1e3:.1f}" for s in apart_s), "ms")
    assert apart_s[len(apart_s) // 2] < 0.05, "two periods of JACK"


@pytest.mark.parametrize("whole_group", [False, True], ids=["it alone", "its whole group"])
def test_it_is_killed(stage: Stage, far: Synth, player_of: Callable[..., Player], whole_group: bool, row: Row) -> None:
    row.fault = f"the player: `kill -9`, {'with its whole process group' if whole_group else 'alone'} (worst of three)"
    row.lost = "what it would have played"
    for _ in range(3):
        player = player_of(stage)
        player.until(lambda status: status["server"] and status["port"])
        hold(stage, far)
        killed_s = time.monotonic()
        (os.killpg if whole_group else os.kill)(player.process.pid, signal.SIGKILL)
        assert let_go(stage, far, killed_s, row)
        time.sleep(0.4)
        assert not far.sounding(), "and nothing comes after that"
        assert stage.ask("panic")["ok"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_is_told_to_end(stage: Stage, far: Synth, playing: Player, number: signal.Signals, row: Row) -> None:
    row.fault = f"the player: {number.name}"
    hold(stage, far)
    told_s = time.monotonic()
    playing.process.send_signal(number)
    assert let_go(stage, far, told_s, row)
    assert playing.process.wait(10.0) == 0
    assert not far.sounding()


def test_it_hangs(stage: Stage, far: Synth, playing: Player, row: Row) -> None:
    row.fault = "the player: SIGSTOP"
    row.lost = "what it would have played meanwhile"
    hold(stage, far)
    stopped_s = time.monotonic()
    playing.process.send_signal(signal.SIGSTOP)
    try:
        assert let_go(stage, far, stopped_s, row)
    finally:
        playing.process.send_signal(signal.SIGCONT)
    hold(stage, far)


def test_the_gateway_is_killed(stage: Stage, far: Synth, playing: Player, row: Row) -> None:
    row.fault = "gateway: `kill -9`"
    row.lost = "what is played until it is connected again"
    row.learned = "silence; another epoch"
    hold(stage, far)
    killed_s = stage.server.kill("gateway")
    assert let_go(stage, far, killed_s, row)
    assert stage.wait(lambda: stage.server.restarted("gateway"), 20.0)
    playing.until(lambda status: status["server"] and status["expired"])
    hold(stage, far)


def test_the_gateway_hangs(stage: Stage, far: Synth, playing: Player, row: Row) -> None:
    row.fault = "gateway: SIGSTOP, for ever"
    row.lost = "what is played until it is connected again"
    row.learned = "silence; another epoch"
    hold(stage, far)
    stopped_s = time.monotonic()
    stage.server.process("gateway").send_signal(signal.SIGSTOP)
    assert let_go(stage, far, stopped_s, row)


def test_the_midi_role_is_killed(stage: Stage, far: Synth, playing: Player, row: Row) -> None:
    row.fault = "midi: `kill -9`"
    row.lost = "what is played until the role is back"
    row.learned = "a `cut` for each note"
    before = stage.restarts("midi")
    hold(stage, far)
    killed_s = stage.server.kill("midi")
    assert let_go(stage, far, killed_s, row)
    child = stage.server.supervisor.children["midi"]
    assert stage.wait(lambda: child.restarts > before and child.was_up, 20.0)
    hold(stage, far)


def test_a_panic_ends_what_sounds_and_what_waits_does_not_begin(stage: Stage, far: Synth, playing: Player, row: Row) -> None:
    row.fault = "`panic`"
    row.learned = "a `cut` for each note"
    hold(stage, far)
    assert stage.ask("note", pitch=70, duration_s=0.2, channel=CHANNEL, delay_s=0.6)["ok"]
    panicked_s = time.monotonic()
    assert stage.ask("panic")["ok"]
    assert let_go(stage, far, panicked_s, row)
    time.sleep(0.8)
    assert not [m for _, m in list(far.heard) if m[0] == 0x90 | CHANNEL and m[1] == 70]


def test_its_port_goes_and_comes_back(stage: Stage, far: Synth, player_of: Callable[..., Player]) -> None:
    here = Synth(f"{FAR}-guest")
    try:
        player = player_of(stage, "--connect", f"{FAR}-guest", "--client", "guest")
        player.until(lambda status: status["port"] and status["server"])
        hold(stage, here)
    finally:
        here.close()
    status = player.until(lambda status: not status["port"])
    assert status["port_lost"] == 1
    assert "has gone" in status["why"]
    back = Synth(f"{FAR}-guest")
    try:
        player.until(lambda status: status["port"])
        hold(stage, back)
    finally:
        back.close()


def guardian_of(player: Player) -> int:
    """The process that owns its port."""
    (pid,) = (pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == player.process.pid)
    return pid


def _parent(pid: int) -> int:
    """The parent of a process; 0 if there is none such."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def test_its_guardian_is_killed(stage: Stage, far: Synth, playing: Player, row: Row) -> None:
    row.fault = "the guardian of the player's port: `kill -9`"
    row.lost = "what it would have played until there is another"
    hold(stage, far)
    killed_s = time.monotonic()
    held = far.sounding(killed_s)
    os.kill(guardian_of(playing), signal.SIGKILL)
    assert stage.wait(lambda: max(far.released(key, killed_s) for key in held) < float("inf"), 20.0), "the next one lets go"
    row.hang_s = max(far.released(key, killed_s) for key in held) - killed_s
    playing.until(lambda status: status["port"] and status["port_lost"] == 1)
    hold(stage, far)


LEASE = """
import sys, time
from rtclient import Client, NoteLease, Port
port = Port(client="lease", destination=sys.argv[sys.argv.index("--connect") + 1])
port.open()
lease = NoteLease(lambda c, p, v: port.send([bytes((0x90 | c, p, v))]), lambda c, p: port.send([bytes((0x80 | c, p, 0))]))
with Client(sys.argv[sys.argv.index("--control") + 1], topics=[], lease=lease):
    while True:
        port.turn(time.monotonic())
        time.sleep(0.03)
"""


def test_a_client_with_a_lease_is_killed(stage: Stage, far: Synth, player_of: Callable[..., Player], row: Row) -> None:
    """The other way to play: on note_on and note_off, on the library's port."""
    row.fault = "a client that plays on `note_on` and `note_off`: `kill -9`"
    row.lost = "what it would have played"
    player = player_of(stage, code=LEASE)
    hold(stage, far)
    killed_s = time.monotonic()
    player.process.kill()
    assert let_go(stage, far, killed_s, row)


def test_its_own_jack_dies_and_comes_back(
    stage: Stage, own_jackd: Any, monkeypatch: pytest.MonkeyPatch, player_of: Callable[..., Player]
) -> None:
    """On another machine, as it were: the server's JACK goes on."""
    with own_jackd() as (name, jackd), monkeypatch.context() as patch:
        patch.setenv("JACK_DEFAULT_SERVER", name)
        player = player_of(stage, "--connect", "")
        player.until(lambda status: status["port"] and status["played"])
        jackd.kill()
        assert player.until(lambda status: not status["port"])["port_lost"] == 1
    with own_jackd() as (again, _):
        assert again == name, "the name is free again"
        player.until(lambda status: status["port"])
        assert player.process.poll() is None


def test_the_whole_server_dies(make_stage: Callable[[dict], Stage], far: Synth, player_of: Callable[..., Player], row: Row) -> None:
    row.fault = "gateway, midi, performer and standby at once: `kill -9`"
    row.lost = "the show"
    row.learned = "silence"
    stage = make_stage(settings("rtfault2"))
    player = player_of(stage)
    player.until(lambda status: status["server"] and status["port"])
    hold(stage, far)
    children = [stage.server.process(role) for role in ("gateway", "midi", "performer", "standby")]
    with stage.server.held():
        killed_s = time.monotonic()
        for child in children:
            child.kill()
        assert let_go(stage, far, killed_s, row)
