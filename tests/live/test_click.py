"""A live server clicks on an output and on a MIDI port of their own: each click begins at its due frame, and does so in a replay."""

import os
import signal

import numpy as np

from rtserver.audio import file as audio_file
from rtserver.audio import table as t
from rtserver.events import Click, Command, Note, NoteOn, Param
from rtserver.reenact import replay

RATE, PERIOD = 48000, 1024
SETTINGS = {
    "name": "rtclick",
    "audio": {"block_size": PERIOD, "spare_blocks": 2, "device": "system"},
    "outputs": {"monitor": {"source": "dry", "channels": [1], "align": False}, "click": {"source": "click", "channels": [2]}},
    "generation": {"enabled": False, "tempo_bpm": 113.0, "metre": "3/4"},
    "click": {"enabled": True, "count_in_bars": 1},
    "midi": {"api": "null", "ports": {"synth": {}, "ear": {"parts": ["click"]}}},
}


def onsets(y):
    """Frames at which a click begins after silence."""
    loud = np.flatnonzero(np.abs(y) > 0)
    return [int(k) for k in loud[np.diff(loud, prepend=-RATE) > 1000]]


def test_in_twenty_seconds_every_click_begins_at_its_due_frame_and_again_in_a_replay(own_jackd_of, live_server, tmp_path):
    with own_jackd_of(PERIOD):
        server = live_server(SETTINGS)
        server.wait(lambda: server.session.frame > 8 * RATE, 60.0)
        now = server.session.frame
        server.session.emit("gateway", Param(now + 2400, now, "click.subdivision", 2.0), "performer", "recorder")
        server.wait(lambda: server.session.frame > 11 * RATE, 60.0)
        performer = server.process("performer").pid
        os.kill(performer, signal.SIGSTOP)  # longer than two clicks lie apart
        server.wait(lambda: False, 0.5)
        os.kill(performer, signal.SIGCONT)
        server.wait(lambda: server.session.frame > 13 * RATE, 60.0)
        now = server.session.frame
        server.session.emit("gateway", Command(now + 2400, now, "count_in", 2.0), "performer", "recorder")
        server.wait(lambda: server.session.frame > 20 * RATE, 60.0)
        late = int(server.session.block["audio.table"][t.LATE_CLICKS])
        server.close()
        log = server.log()
    folder = log.path.parent
    played, _ = audio_file.read(folder / "played.wav")
    told = [e.frame for e in log.events if isinstance(e, Note) and e.part == "click"]
    began = [e.frame for e in log.events if isinstance(e, Click) and e.frame < played.shape[1]]
    heard = onsets(played[1])
    assert heard == began
    assert set(heard) <= set(told)
    there = [frame for frame in told if frame < heard[-1]]
    assert late >= len(there) - len(heard) + 1 > 0, "what is not heard came late, and is counted"
    assert len(heard) >= 0.9 * len(there)
    assert not played[0].any(), "it is nowhere else"
    due = [e.frame for e in log.events if isinstance(e, NoteOn)]
    assert set(due) <= set(told)
    assert len(due) >= 0.9 * len(there)
    assert log.caveats == []
    replay(folder / "input.wav", tmp_path / "again", log)
    again, _ = audio_file.read(tmp_path / "again" / "played.wav")
    n = min(again.shape[1], played.shape[1])
    np.testing.assert_array_equal(again[:, :n], played[:, :n])
