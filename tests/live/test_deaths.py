"""What goes on when a role is killed, and how a server ends."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from rtserver.audio import table as t
from rtserver.events import Gap, Role

RATE = 48000
PERIOD = 1024
SETTINGS = {
    "name": "rtdeath",
    "audio": {"block_size": PERIOD, "spare_blocks": 2, "device": "system"},
    "outputs": {
        "harmonic": {"source": "harmonic", "channels": [1], "on_late": "dry"},
        "percussive": {"source": "percussive", "channels": [2], "on_late": "mute"},
    },
    "generation": {"scale": "C major", "tempo_bpm": 200.0, "grid": 6},
}


def sine(seconds):
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)[None]


@pytest.fixture
def synth(jack_server):
    """A JACK MIDI input that stamps what it hears: (seconds, message)."""
    import rtmidi

    heard = []
    port = rtmidi.MidiIn(rtapi=rtmidi.API_UNIX_JACK, name="rtdeath-synth")
    port.set_callback(lambda got, _: heard.append((time.monotonic(), bytes(got[0]))))
    port.open_virtual_port("in")
    yield heard
    port.cancel_callback()
    port.close_port()
    port.delete()


def sounding(heard, until=float("inf")):
    """Pitches that are down after everything heard up to `until`."""
    down = set()
    for when, message in list(heard):
        if when <= until and message[0] & 0xF0 == 0x90 and message[2]:
            down.add(message[1])
        elif when <= until and message[0] & 0xE0 == 0x80:
            down.discard(message[1])
        elif when <= until and message[0] & 0xF0 == 0xB0 and message[1] in (120, 123):
            down.clear()
    return down


def test_sound_goes_on_when_the_engine_is_killed(jack_server, live_server):
    server = live_server(SETTINGS | {"generation": {"enabled": False}})
    tape = server.play(sine(8.0), channels=2)
    time.sleep(2.0)
    server.kill("engine")
    assert server.wait(lambda: server.restarted("engine"), 15.0)
    took = time.monotonic() - tape.started
    assert took < 7.0, "the engine must be back while the tape still plays"
    both = tape.result().sum(axis=0)
    # From half a second on, every stretch of 10 ms carries the sine, whoever plays it: separated, concealed or dry.
    stretches = both[RATE // 2 : -RATE // 2]
    level = np.sqrt((stretches[: len(stretches) // 480 * 480].reshape(-1, 480) ** 2).mean(axis=1))
    assert level.min() > 0.5 * 0.707 * 0.5
    assert server.session.block["audio.table"][t.MISSES] > 0
    told = [(e.role, e.state) for e in server.events() if isinstance(e, Role)]
    assert ("engine", "down") in told
    assert ("engine", "restarted") in told


def test_notes_end_when_due_though_the_engine_is_killed(synth, live_server):
    server = live_server(SETTINGS | {"midi": {"connect": ["rtdeath-synth"]}})
    held = {}
    until = time.monotonic() + 10.0
    while not held and time.monotonic() < until:
        ends_ns = server.session.block["notes"].max(axis=0)  # by pitch; 0 or less where nothing sounds
        held = {pitch: int(ends_ns[pitch]) * 1e-9 for pitch in sounding(synth) if ends_ns[pitch] > 0}
    assert held
    server.kill("engine")
    killed = time.monotonic()
    time.sleep(max(*held.values(), killed) - killed + 0.3)
    for pitch, end in held.items():
        released = [when for when, m in synth if when > killed - 0.1 and m[0] & 0xF0 == 0x80 and m[1] == pitch]
        assert released, f"pitch {pitch} hangs"
        assert released[0] < end + 0.3


def test_no_note_hangs_when_midi_is_killed_and_it_comes_back(synth, live_server):
    server = live_server(SETTINGS | {"midi": {"connect": ["rtdeath-synth"]}})
    assert server.wait(lambda: sounding(synth), 10.0), "the performer plays at once where nothing is followed"
    assert server.wait(lambda: len(sounding(synth)) > 0)
    killed = server.kill("midi")
    time.sleep(0.3)
    assert not sounding(synth, until=killed + 0.3)
    assert server.wait(lambda: server.restarted("midi"), 15.0)
    back = len(synth)
    assert server.wait(lambda: any(m[0] & 0xF0 == 0x90 for _, m in synth[back:]), 10.0), "new notes sound after the restart"


def test_the_session_goes_on_when_audio_is_killed(jack_server, live_server):
    server = live_server(SETTINGS | {"generation": {"enabled": False}})
    before = server.session.frame
    server.kill("audio")
    assert server.wait(lambda: server.restarted("audio"), 15.0)
    assert server.wait(lambda: server.session.counters("engine")["restarts"] > 0), "the engine sees the new stream"
    after = server.session.frame
    assert server.wait(lambda: server.session.frame > after + RATE // 4), "sound comes in again"
    server.wait(lambda: False, 0.3)
    gaps = [e for e in server.events() if isinstance(e, Gap)]
    assert [gap.n_frames > 0 and gap.frame > before for gap in gaps] == [True]


def test_the_other_workers_come_back(jack_server, live_server):
    server = live_server(SETTINGS)
    for role in ("performer", "gateway", "standby"):
        server.kill(role)
    for role in ("performer", "gateway", "standby"):
        assert server.wait(lambda role=role: server.restarted(role), 15.0), role


def test_a_role_that_hangs_is_replaced(jack_server, live_server):
    server = live_server(SETTINGS)
    server.process("performer").send_signal(signal.SIGSTOP)
    assert server.wait(lambda: server.restarted("performer"), 15.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_in_two_seconds_with_every_note_off(synth, tmp_path, number):
    show = tmp_path / "show.toml"
    show.write_text(
        f"""
        name = "rtdeath"
        [audio]
        block_size = {PERIOD}
        device = "system"
        [generation]
        tempo_bpm = 200.0
        [midi]
        connect = ["rtdeath-synth"]
        [wire]
        control = "ipc://{tmp_path}/control"
        events = "ipc://{tmp_path}/events"
        bulk = "ipc://{tmp_path}/bulk"
        """
    )
    server = subprocess.Popen([sys.executable, "-m", "rtserver", "run", str(show)], start_new_session=True)
    until = time.monotonic() + 60.0
    while not sounding(synth) and time.monotonic() < until:
        time.sleep(0.01)
    assert sounding(synth), "no note within a minute"
    server.send_signal(number)
    asked = time.monotonic()
    assert server.wait(10.0) == 0
    assert time.monotonic() - asked < 2.0
    time.sleep(0.1)
    assert not sounding(synth)


def test_the_roles_end_when_the_supervisor_is_killed(synth, tmp_path, live_server):
    """`kill -9` of the supervisor itself: its children notice, release their notes and end."""
    script = tmp_path / "server.py"
    script.write_text(
        "import sys, pathlib\n"
        "from rtserver.config import parse\n"
        "from rtserver.roles.supervisor import run\n"
        "def told(s):\n"
        "    if s.ready: print(*[c.process.pid for c in s.children.values() if c.process], flush=True)\n"
        "    return True\n"
        f"sys.exit(run(parse({SETTINGS | {'midi': {'connect': ['rtdeath-synth']}, 'wire': {'enabled': False}}!r}), told))\n"
    )
    server = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    pids = [int(pid) for pid in server.stdout.readline().split()]
    until = time.monotonic() + 30.0
    while not sounding(synth) and time.monotonic() < until:
        time.sleep(0.01)
    server.kill()
    killed = time.monotonic()
    server.wait()
    time.sleep(0.3)
    assert not sounding(synth, until=killed + 0.3)

    def gone(pid):
        try:
            with open(f"/proc/{pid}/stat") as file:
                return file.read().split()[2] == "Z"
        except OSError:
            return True

    until = time.monotonic() + 5.0
    while not all(gone(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert all(gone(pid) for pid in pids)
