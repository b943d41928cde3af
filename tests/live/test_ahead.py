"""What is set ahead takes effect at its frame, whoever dies before. Live: JACK, processes."""

from rtserver.events import Change
from rtserver.wire.client import Client

RATE = 48000
SETTINGS = {
    "name": "rtahead",
    "audio": {"block_size": 1024, "spare_blocks": 4, "device": "system"},
    "generation": {"enabled": False},
    "midi": {"api": "null"},
}


def test_a_change_that_waits_survives_its_engine(jack_server, live_server):
    server = live_server(SETTINGS)
    client = Client(server.config.wire.control, "test")
    at_frame = server.session.frame + 5 * RATE
    client.ask("set", name="outputs.harmonic.gain_db", value=-20.0, at_frame=at_frame)
    server.kill("engine")
    assert server.wait(lambda: server.restarted("engine"), 20.0)
    back = server.session.frame
    server.wait(lambda: server.session.frame > max(at_frame, back) + RATE // 4, 20.0)
    client.close()

    def changed() -> set[int]:
        return {e.frame for e in server.events() if isinstance(e, Change) and e.key == "level" and e.value < 0.2}

    assert server.wait(changed)
    (frame,) = changed()
    assert frame >= at_frame
    assert frame == at_frame or back > at_frame - RATE, "to the frame, unless the machine took five seconds for an engine"
