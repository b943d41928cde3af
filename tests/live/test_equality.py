"""What a live server plays through JACK is what `render` writes, sample for sample, wherever the miss log says that nothing was late."""

import msgspec
import numpy as np

from rtserver.audio import file as audio_file
from rtserver.audio import table as t
from rtserver.events import Miss
from rtserver.render import render

RATE = 48000
PERIOD = 1024
OUTPUTS = {
    "monitor": {"source": "dry", "channels": [1], "align": False},
    "harmonic": {"source": "harmonic", "channels": [2], "on_late": "dry"},
    "percussive": {"source": "percussive", "channels": [3], "on_late": "mute"},
}
SETTINGS = {
    "name": "rtequal",
    "audio": {"block_size": PERIOD, "spare_blocks": 4, "device": "system"},
    "outputs": OUTPUTS,
    "generation": {"enabled": False},
}


def music(seconds: float) -> np.ndarray:
    """A second of silence (so that live and offline start from the same past), then chords and hits, then silence."""
    rng = np.random.default_rng(0)
    at_s = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * f * at_s) for f in (220.0, 277.2, 329.6)) * 0.08
    hits = rng.uniform(-0.5, 0.5, len(at_s)) * np.exp(-((at_s % 0.5) * 40))
    return np.concatenate([np.zeros(RATE), tone + hits, np.zeros(RATE // 2)]).astype(np.float32)[None]


def test_live_equals_render_on_clean_hops_and_latency_is_as_stated(jack_server, live_server, tmp_path):
    signal = music(4.0)
    server = live_server(SETTINGS)
    tape = server.play(signal)
    # Where on the session's axis the tape's sound begins: look for it in the ring of what came in.
    first = int(np.argmax(signal[0] != 0))
    session = server.session
    samples = session.input_ring.samples[0]
    assert server.wait(samples.any, 5.0)
    begun = session.frame
    window = np.arange(begun - 2 * PERIOD, begun + PERIOD)
    start = int(window[np.argmax(samples[window & (session.input_ring.capacity - 1)] != 0)]) - first
    record = tape.result()
    server.wait(lambda: False, 0.3)
    misses = [e for e in server.events() if isinstance(e, Miss)]

    # The monitor passes through the callback alone: it gives the way through JACK and back.
    monitor, harmonic, percussive = record
    way = int(np.argmax(monitor != 0)) - first
    n = signal.shape[1] - way
    np.testing.assert_array_equal(monitor[way:], signal[0, :n])

    done = render(tape.files[0], tmp_path / "offline", msgspec.structs.replace(server.config, wire=server.config.wire))
    hop = server.supervisor.session.block["audio.table"][t.HOP_SIZE]
    for name, live in (("harmonic", harmonic), ("percussive", percussive)):
        offline = audio_file.read(tmp_path / "offline" / f"{name}.wav")[0][0]
        total = way + done.latency[name]
        length = len(live) - total
        clean = np.ones(length, bool)
        for miss in misses:
            if miss.output == name:
                at = miss.frame - start - done.latency[name]
                clean[max(at, 0) : max(at + miss.n_frames, 0)] = False
        hops = clean[: length // hop * hop].reshape(-1, hop).all(axis=1)
        assert hops.mean() >= 0.9, f"{name}: only {hops.mean():.0%} of the hops were clean"
        frames = np.repeat(hops, hop)
        np.testing.assert_array_equal(live[total : total + len(frames)][frames], offline[: len(frames)][frames])
