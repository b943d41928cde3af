"""Songs change while notes sound: the next song's channel, programs and parameters apply, and nothing hangs. Live on JACK."""

from faults import Synth

from rtserver.events import Command, Param
from rtserver.midi.messages import program_change

SETTINGS = {
    "name": "rtmsongs",
    "audio": {"block_size": 1024, "spare_blocks": 4, "device": "system"},
    "midi": {
        "connect": ["rtmsongs-synth"],
        "connect_input": ["rtmsongs-pedal"],
        "program": 11,
        "map": {"level": {"message": "cc", "number": 7, "parameter": "outputs.click.gain_db", "low": -60.0, "high": 0.0}},
    },
}
PLAYS = {"scale": "C major", "tempo_bpm": 200.0, "grid": 6}
MONITOR = {"monitor": {"source": "dry", "channels": [1]}}
SONGS = {
    "plain": {"outputs": MONITOR, "generation": {**PLAYS, "channel": 2}},
    "click": {"outputs": MONITOR | {"click": {"source": "dry", "channels": [2]}}, "generation": {**PLAYS, "channel": 5}},
}


def test_the_next_song_has_its_own_channel_program_and_parameters_and_no_note_hangs(jack_server, live_server):
    import rtmidi

    synth = Synth("rtmsongs-synth")
    pedal = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name="rtmsongs-pedal")
    pedal.open_virtual_port("out")
    try:
        server = live_server(SETTINGS, SONGS)
        decks = server.supervisor.decks
        value = 0

        def push() -> None:
            nonlocal value
            value = (value + 1) % 128
            pedal.send_message(bytes((0xB0, 7, value)))

        def began(channel: int) -> list[bytes]:
            return [m for _, m in list(synth.heard) if m[0] == 0x90 | channel]

        def came() -> int:
            return server.session.counters("midi")["messages_in"]

        def moved() -> list[Param]:
            return [e for e in server.events() if isinstance(e, Param) and e.name == "outputs.click.gain_db"]

        assert server.wait(lambda: began(1) and decks.idle.state.value == "ready", 30.0), "the first song plays on its channel"
        assert program_change(1, 11) in [m for _, m in synth.heard]
        assert server.wait(lambda: push() or came() > 0), "the pedal is connected"
        assert moved() == [], "the first song has no such output"
        long_ago = Command(0, 0, "note", "40 90 1.5 9")
        assert server.session.emit("gateway", long_ago, "midi")
        assert server.wait(lambda: began(8) != []), "a note that outlasts its song"
        frame = server.session.frame
        assert server.session.emit("gateway", Command(frame, frame, "song", "next"), "supervisor")
        assert server.wait(lambda: began(4) != [], 20.0), "the second song plays on its own"
        assert server.wait(lambda: program_change(4, 11) in [m for _, m in synth.heard])
        assert server.wait(lambda: push() or moved()), "and has the output"
        assert server.wait(lambda: not {(c, p) for c, p in synth.sounding() if c != 4}, 10.0), "nothing of the first song hangs"
        assert server.session.counters("midi")["panics"] == 0
        assert server.supervisor.children["midi"].restarts == 0
    finally:
        synth.close()
        pedal.close_port()
        pedal.delete()
