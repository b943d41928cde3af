"""The recorder in a whole server: what it does wrong touches nobody, and what it writes is what was heard."""

import signal
import time

import numpy as np
import soundfile

from rtserver.audio import table as t
from rtserver.events import Epoch, Recording, Role
from rtserver.roles.child import HANG_LIMITS_S

RATE = 48000
PERIOD = 1024
SETTINGS = {
    "name": "rtkeep",
    "audio": {"block_size": PERIOD, "spare_blocks": 4, "device": "system"},
    "outputs": {"monitor": {"source": "dry", "channels": [1], "align": False}},
    "generation": {"enabled": False},
}


def noise(seconds):
    return np.random.default_rng(0).uniform(-0.5, 0.5, (1, round(seconds * RATE))).astype(np.float32)


def test_input_and_what_was_played_are_kept_bit_for_bit(jack_server, live_server):
    """The monitor plays what comes in at once and as it is, so both files hold the same. JACK may lose a period where it is busy."""
    server = live_server(SETTINGS)
    signal = noise(2.0)
    server.play(signal, channels=1).result()
    server.close()
    log = server.log()
    assert log.header.frame == 0
    assert [e.epoch for e in log.events if isinstance(e, Epoch)] == [0]
    came, went = (soundfile.read(log.path.with_name(f"{name}.wav"), dtype="float32")[0] for name in ("input", "played"))
    assert len(came) == len(went)
    np.testing.assert_array_equal(came, went)
    first = int(np.argmax(came != 0))
    np.testing.assert_array_equal(came[first : first + PERIOD], signal[0, :PERIOD])
    assert np.count_nonzero(came) > 0.9 * signal.shape[1]


def test_a_recorder_that_hangs_touches_nobody_and_is_replaced(jack_server, live_server, monkeypatch):
    monkeypatch.setitem(HANG_LIMITS_S, "recorder", 2.0)
    server = live_server(SETTINGS)
    server.wait(lambda: server.session.frame > RATE // 2, 10.0)
    others = {name: child.restarts for name, child in server.supervisor.children.items() if name != "recorder"}
    server.process("recorder").send_signal(signal.SIGSTOP)
    frame, began = server.session.frame, time.monotonic()
    assert server.wait(lambda: server.restarted("recorder"), 20.0)
    assert time.monotonic() - began > 1.5, "it had its own, longer limit"
    assert server.session.frame > frame + RATE, "audio went on"
    assert {name: child.restarts for name, child in server.supervisor.children.items() if name != "recorder"} == others
    assert server.wait(lambda: server.session.counters("recorder")["frames"] > RATE // 2)
    server.close()
    log = server.log()
    states = [e.state for e in log.events if isinstance(e, Recording)]
    assert states[0] == "started"
    assert "resumed" in states
    assert states[-1] == "stopped"
    assert any(isinstance(e, Role) and (e.role, e.state) == ("recorder", "restarted") for e in log.events)
    n_frames = soundfile.info(log.path.with_name("input.wav")).frames
    assert abs(n_frames - int(server.session.block["audio.table"][t.FRAME])) <= 4 * PERIOD, "silence stands for what was lost"


def test_a_new_stream_is_an_epoch_with_a_gap_of_silence(jack_server, live_server):
    server = live_server(SETTINGS)
    server.wait(lambda: server.session.frame > RATE // 2, 10.0)
    server.kill("audio")
    assert server.wait(lambda: server.restarted("audio"), 15.0)
    after = server.session.frame
    assert server.wait(lambda: server.session.frame > after + RATE // 2)
    server.close()
    log = server.log()
    epochs = [e for e in log.events if isinstance(e, Epoch)]
    assert [e.epoch for e in epochs] == [0, 1]
    gap_s = (epochs[1].frame - epochs[0].frame) / RATE - (epochs[1].monotonic_ns - epochs[0].monotonic_ns) * 1e-9
    assert abs(gap_s) < 0.5, "the session's frames kept pace with time over the gap"
    (gap,) = [e for e in log.events if isinstance(e, Recording) and e.state == "gap" and "input" in e.detail]
    assert gap.available_frame == epochs[1].frame
