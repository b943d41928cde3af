"""A set list played with everything that can happen to it, recorded and lived through again: the same sound, the same notes."""

import msgspec
import numpy as np

from rtserver.audio import file as audio_file
from rtserver.config import parse
from rtserver.demo import RECORDING, SCORE
from rtserver.demo.again import again
from rtserver.events import Change, Click, Note, Position, Resume, Song
from rtserver.replay import Log
from rtserver.show import Song as Show
from rtserver.wire.client import Client

RATE, PERIOD, SECONDS = 48000, 256, 24
SETTINGS = {
    "name": "rtsetlist",
    "audio": {"block_size": PERIOD, "spare_blocks": 1, "device": "system", "output_channels": 3},
    "midi": {"api": "null"},
}
OPENING = {
    "score": {"file": str(SCORE)},
    "outputs": {
        "harmonic": {"source": "harmonic", "channels": [1], "on_late": "dry"},
        "percussive": {"source": "percussive", "channels": [2], "on_late": "mute"},
        "monitor": {"source": "dry", "channels": [3], "gain_db": -6.0},
        "click": {"source": "click", "channels": [3]},
    },
    "click": {"enabled": True},
    "generation": {"scale": "G major", "seed": 7, "grid": 6},
}
BALLAD = {
    "separation": {"preset": "stage", "mask": "hard"},
    "outputs": {
        "harmonic": {"source": "harmonic", "channels": [2], "gain_db": -3.0},
        "percussive": {"source": "percussive", "channels": [1]},
        "both": {"source": "harmonic", "channels": [3], "on_late": "dry"},
        "under": {"source": "dry", "channels": [3], "gain_db": -12.0},
        "click": {"source": "click", "channels": [2]},
    },
    "click": {"enabled": True, "count_in_bars": 1, "subdivision": 2},
    "generation": {"seed": 9, "tempo_bpm": 150.0, "grid": 6},
}


class Conductor:
    """Calls songs and changes what plays, as a client does."""

    def __init__(self, server):
        self.server = server
        self.client = Client(server.config.wire.control)

    def set(self, name, value):
        self.client.ask("set", name=name, value=value)

    def change(self, op, **arguments):
        """Another song, or another version of it; waits until it is heard."""
        before = self.server.supervisor.decks.playing
        self.client.ask(op, **arguments)
        assert self.server.wait(lambda: self.server.supervisor.decks.playing is not before, 60.0)
        began = self.server.session.frame
        assert self.server.wait(lambda: self.server.session.frame > began + RATE, 20.0)

    def pause(self, seconds):
        self.server.wait(lambda: False, seconds)


def play(server):
    """Two songs, the second one's engine killed, the first again, and then with other settings."""
    conductor = Conductor(server)
    try:
        assert server.wait(lambda: server.supervisor.decks.idle.state.value == "ready", 60.0)
        tape = server.play(audio_file.read(RECORDING)[0].mean(axis=0, keepdims=True)[:, : SECONDS * RATE])
        conductor.pause(2.0)
        conductor.set("outputs.harmonic.gain_db", -9.0)
        conductor.set("generation.temperature", 0.7)
        conductor.pause(0.5)
        conductor.change("song", name="next", at_frame=server.session.frame + RATE // 2)
        conductor.set("outputs.both.bypass", True)
        conductor.set("inputs.main.exponent", 4.0)
        conductor.set("generation.mode", "continue")
        conductor.set("generation.mode", "accompany")
        server.kill("engine.b")
        assert server.wait(lambda: server.restarted("engine.b"), 30.0)
        conductor.pause(0.5)
        conductor.set("inputs.main.mask", "soft")
        conductor.change("song", name="opening")
        conductor.set("outputs.monitor.mute", True)
        conductor.client.ask("seek", quarter=12.0)
        conductor.pause(1.0)
        louder = BALLAD["outputs"] | {"monitor": {"source": "dry", "channels": [3]}}
        opening = msgspec.structs.replace(server.show[0].config, outputs=parse({"outputs": louder}).outputs)
        server.show = [Show("opening", opening), server.show[1]]
        conductor.change("reload")
        conductor.client.ask("reset")
        conductor.pause(1.0)
        tape.process.kill()
        tape.process.communicate()
    finally:
        conductor.client.close()
    server.close()


def test_a_set_list_happens_again_bit_for_bit(own_jackd_of, live_server, tmp_path):
    with own_jackd_of(PERIOD):
        play(live_server(SETTINGS, {"opening": OPENING, "ballad": BALLAD}))
    (folder,) = (tmp_path / "record").iterdir()
    log = Log.read(folder)
    assert [(e.name, e.deck) for e in log.events if isinstance(e, Song) and e.state == "playing"] == [
        ("ballad", 1),
        ("opening", 0),
        ("opening", 1),
    ]
    assert [(stay.deck, list(stay.config.outputs)) for stay in log.stays] == [
        (0, list(OPENING["outputs"])),
        (1, list(BALLAD["outputs"])),
        (0, list(OPENING["outputs"])),
        (1, [*BALLAD["outputs"], "monitor"]),
    ]
    happened = ({Change, Click, Note, Position}, {Change, Click, Note, Resume}, {Change, Click, Position}, {Resume})
    for stay, kinds in zip(log.stays, happened, strict=True):
        assert kinds <= {type(event) for event in log.of(stay)}
    assert log.caveats == []
    result = again(folder, tmp_path / "again")
    live, _ = audio_file.read(folder / "played.wav")
    replayed, _ = audio_file.read(tmp_path / "again" / "played.wav")
    n = min(live.shape[1], replayed.shape[1])
    different = np.flatnonzero((live[:, :n] != replayed[:, :n]).any(axis=0))
    assert not different.size, f"{different.size} frames differ, the first is {different[0]} of {n}"
    assert n > 8 * RATE
    assert (np.abs(live).max(axis=1) > 0.01).all(), "there was something to hear on every channel"
    assert result.n_notes == result.n_same_notes > 5, f"the one or the other alone has {result.unlike}"
