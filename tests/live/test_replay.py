"""Live sessions with misses, a killed and a halted engine, a killed stream, and changes of every kind, recorded and lived through again."""

import os
import signal
import subprocess

import numpy as np

from rtserver.audio import file as audio_file
from rtserver.events import Absent, Change, Gap, Lag, Miss, Param, Resume, Setting
from rtserver.reenact import replay
from rtserver.replay import Log

RATE, PERIOD = 48000, 256
SETTINGS = {
    "name": "rtreplay",
    "audio": {"block_size": PERIOD, "spare_blocks": 1, "device": "system"},
    "outputs": {
        "harmonic": {"source": "harmonic", "channels": [1], "on_late": "dry"},
        "percussive": {"source": "percussive", "channels": [2], "on_late": "mute"},
        "both": {"source": "harmonic", "channels": [3], "gain_db": -6.0},
        "dry": {"source": "dry", "channels": [3], "gain_db": -6.0},
    },
    "midi": {"api": "null"},
}


def noise(seconds):
    rng = np.random.default_rng(7)
    at_s = np.arange(round(seconds * RATE)) / RATE
    hits = rng.uniform(-0.5, 0.5, len(at_s)) * np.exp(-((at_s % 0.5) * 30))
    return (hits + 0.1 * np.sin(2 * np.pi * 330 * at_s)).astype(np.float32)[None]


def test_a_session_with_all_its_faults_happens_again_bit_for_bit(own_jackd_of, live_server, tmp_path):
    with own_jackd_of(PERIOD):
        server = live_server(SETTINGS)
        tape = server.play(noise(12.0))

        def set_parameter(name, value, in_s=0.05):
            now = server.session.frame
            server.session.emit("gateway", Param(now + round(in_s * RATE), now, name, value), "engine", "recorder")

        def pause(seconds):
            server.wait(lambda: False, seconds)

        pause(1.0)
        for name, value in (("outputs.harmonic.gain_db", -12.0), ("outputs.percussive.mute", True), ("outputs.both.bypass", True)):
            set_parameter(name, value)
        set_parameter("inputs.main.mask", "hard", in_s=0.2)
        pause(0.7)
        set_parameter("outputs.percussive.mute", False)
        server.kill("engine")
        assert server.wait(lambda: server.restarted("engine"), 20.0)
        pause(0.7)
        engine = server.process("engine").pid
        os.kill(engine, signal.SIGSTOP)
        pause(0.2)
        os.kill(engine, signal.SIGCONT)
        pause(0.5)
        set_parameter("inputs.main.exponent", 4.0)
        set_parameter("outputs.both.bypass", False)
        pause(0.5)
        server.kill("audio")
        assert server.wait(lambda: server.restarted("audio"), 20.0)
        pause(1.0)
        server.close()
        tape.process.kill()
        tape.process.communicate()
    log = the_log(tmp_path)
    kinds = {type(event) for event in log.events}
    assert {Absent, Change, Gap, Miss, Resume, Setting} <= kinds, "the session had faults"
    assert any(event.reason == "engine started" for event in log.events if isinstance(event, Resume))
    happens_again(log, tmp_path)


def the_log(tmp_path):
    (folder,) = (tmp_path / "record").iterdir()
    return Log.read(folder)


def happens_again(log, tmp_path):
    """What was played is played again."""
    folder = log.path.parent
    assert log.caveats == []
    replay(folder / "input.wav", tmp_path / "again", log)
    live, _ = audio_file.read(folder / "played.wav")
    again, _ = audio_file.read(tmp_path / "again" / "played.wav")
    n = min(live.shape[1], again.shape[1])
    assert n > 3 * RATE
    different = np.flatnonzero((live[:, :n] != again[:, :n]).any(axis=0))
    assert not different.size, f"{different.size} frames differ, the first is {different[0]} of {n}"
    assert (np.abs(live).max(axis=1) > 0.01).all(), "there was something to hear on every channel"


def test_a_session_whose_period_changed_happens_again(own_jackd_of, live_server, tmp_path):
    with own_jackd_of(PERIOD):
        server = live_server(SETTINGS)
        tape = server.play(noise(9.0))
        for period in (4 * PERIOD, 3 * PERIOD, PERIOD):
            server.wait(lambda: False, 1.0)
            subprocess.run(["jack_bufsize", str(period)], check=True, capture_output=True)
        server.wait(lambda: False, 1.0)
        server.close()
        tape.process.kill()
        tape.process.communicate()
    log = the_log(tmp_path)
    assert [event.n_frames for event in log.events if isinstance(event, Lag)] == [3 * PERIOD, 2 * PERIOD, 0]
    happens_again(log, tmp_path)
