"""The next song is loaded while this one plays, and starts without a gap. Live: JACK, processes, the decks."""

import msgspec
import numpy as np

from rtserver.config import parse
from rtserver.events import Command, Song
from rtserver.show import Song as Show

RATE, PERIOD = 48000, 1024
SETTINGS = {
    "name": "rtsongs",
    "audio": {"block_size": PERIOD, "spare_blocks": 4, "device": "system"},
    "generation": {"enabled": False},
    "midi": {"api": "null"},
}
SONGS = {
    "loud": {"outputs": {"monitor": {"source": "dry", "channels": [1]}}},
    "soft": {
        "outputs": {
            "monitor": {"source": "dry", "channels": [1], "gain_db": -20.0},
            "harmonic": {"source": "harmonic", "channels": [2]},
        }
    },
}


def songs(server):
    return [(e.name, e.state) for e in server.events() if isinstance(e, Song)]


def test_the_next_song_starts_without_a_gap_and_can_be_called_back(jack_server, live_server):
    server = live_server(SETTINGS, SONGS)
    decks = server.supervisor.decks
    server.session.emit("gateway", Command(0, 0, "song", "lullaby"), "supervisor")
    assert server.wait(lambda: ("lullaby", "refused") in songs(server))
    assert decks.playing.number == 0, "an unknown song is refused, and what plays goes on"
    assert server.wait(lambda: decks.idle.state.value == "ready", 20.0)
    tape = server.play(np.full((1, 4 * RATE), 0.5, np.float32))
    server.wait(lambda: False, 0.7)
    frame = server.session.frame + RATE
    server.session.emit("gateway", Command(frame, frame, "song", "next"), "supervisor")
    monitor, harmonic, _ = tape.result()
    heard = monitor[np.argmax(monitor > 0.4) : np.flatnonzero(monitor > 0.04)[-1]]
    assert heard.min() > 0.049, "no hole between the songs"
    assert heard[0] == 0.5
    np.testing.assert_allclose(heard[-1], 0.05, rtol=1e-5)
    assert np.abs(np.diff(heard)).max() < 0.5 * 1.1 / (0.02 * RATE), "no click either"
    assert np.abs(harmonic).max() > 0.4, "the second song's engine serves"
    assert server.wait(lambda: ("soft", "playing") in songs(server))
    assert server.wait(lambda: decks.idle.state.value == "empty", 20.0)
    assert "engine" not in server.supervisor.children, "the first song's engine has gone"
    assert server.supervisor.children["engine.b"].restarts == 0
    server.session.emit("gateway", Command(0, 0, "song", "previous"), "supervisor")
    assert server.wait(lambda: songs(server)[-1] == ("loud", "playing"), 20.0)


def test_reload_changes_to_the_new_settings_of_the_song_that_plays(jack_server, live_server):
    audio = SETTINGS["audio"] | {"output_channels": 2}
    server = live_server({**SETTINGS, "audio": audio}, {"loud": SONGS["loud"]})
    soft = parse(SONGS["soft"])
    server.show = [Show("loud", msgspec.structs.replace(server.config, outputs=soft.outputs))]
    server.session.emit("gateway", Command(0, 0, "reload"), "supervisor")
    assert server.wait(lambda: server.supervisor.decks.playing.number == 1, 20.0)
    assert list(server.session.setup_of(1).config.outputs) == ["monitor", "harmonic"]


def test_a_reload_that_the_device_cannot_serve_is_refused_and_says_what_needs_a_restart(jack_server, live_server, capfd):
    server = live_server(SETTINGS, {"loud": SONGS["loud"]})
    server.show = [Show("loud", msgspec.structs.replace(server.config, outputs=parse(SONGS["soft"]).outputs))]
    server.session.emit("gateway", Command(0, 0, "reload"), "supervisor")
    assert server.wait(lambda: ("loud", "refused") in songs(server), 20.0)
    server.show = [Show("loud", msgspec.structs.replace(server.config, name="other"))]
    server.session.emit("gateway", Command(0, 0, "reload"), "supervisor")
    assert server.wait(lambda: ("reload", "refused") in songs(server), 20.0)
    assert server.supervisor.decks.playing.number == 0
    says_what_needs_a_restart(server, capfd)


def says_what_needs_a_restart(server, capfd):
    config = server.config
    before = len(songs(server))
    midi = msgspec.structs.replace(config.midi, program=7)
    audio = msgspec.structs.replace(config.audio, block_size=512, spare_blocks=1)
    server.show = [Show("loud", msgspec.structs.replace(config, midi=midi, audio=audio, outputs=parse(SONGS["soft"]).outputs))]
    server.session.emit("gateway", Command(0, 0, "reload"), "supervisor")
    assert server.wait(lambda: ("reload", "refused") in songs(server)[before:], 20.0)
    *_, told = (e.detail for e in server.events() if isinstance(e, Song) and e.state == "refused")
    assert told == "[audio] [midi]: changes need a restart; nothing was changed (audio.block_size, audio.spare_blocks, midi.program)"
    assert told in capfd.readouterr().err
    assert list(server.session.setup_of(0).config.outputs) == ["monitor"], "not even what could have been"
