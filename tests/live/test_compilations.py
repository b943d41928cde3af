"""While a server plays, no role compiles a kernel: each would be a dropout of seconds."""

import numpy as np

from rtserver.demo import SCORE
from rtserver.events import Param
from rtserver.shared.session import COMPILATIONS

RATE = 48000


def test_no_role_compiles_once_it_is_up(jack_server, live_server):
    settings = {"name": "rtcompile", "audio": {"block_size": 1024, "spare_blocks": 4, "device": "system"}, "score": {"file": str(SCORE)}}
    server = live_server(settings | {"wire": {"enabled": False}})
    session = server.session
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    tape = server.play(tone[None].astype(np.float32), channels=2)
    for value in (-6.0, 0.0):  # there is no gateway: this test has its place
        session.emit("gateway", Param(0, 0, "outputs.harmonic.gain_db", value), "engine")
    tape.result()
    assert session.counters("engine")["hops"] > 100
    assert session.counters("follower")["hops"] > 0
    assert {name: int(session.role(name)[COMPILATIONS]) for name in server.supervisor.children} == dict.fromkeys(
        server.supervisor.children, 0
    )
