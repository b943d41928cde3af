"""A real synth on the same JACK server plays what the performer says; the sound comes back to the server's input and is recorded.

Sample n of the recording is session frame n, and so is a note's due frame. The way from the port to the sound is a constant (the sender's
way to JACK, FluidSynth's own buffer, the sample's attack), so the sound is compared with the due frames by its median offset: every note
once, none besides, and within a period of JACK of it, for to that JACK rounds what a port sends.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtserver.events import Note, NoteOn
from rtserver.synthesis import FONTS

RATE, PERIOD = 48000, 256
WOODBLOCK = 115  # General MIDI, counted from 0: speaks within a millisecond, and is silent again before the next eighth
SECONDS = 20.0
GRAIN = 32  # frames of one value of the envelope: what an onset is known to
RISE = 6.0  # an onset is so much louder than the two milliseconds before it
STEP = RATE // 4  # frames between two notes at least: an eighth
DEAF_S = 0.12  # after an onset
SETTINGS = {
    "name": "rtwood",
    "audio": {"block_size": PERIOD, "spare_blocks": 2, "device": "system"},
    "outputs": {"monitor": {"source": "dry", "channels": [1], "align": False}},
    "generation": {
        "mode": "free",
        "scale": "C major",
        "tempo_bpm": 120.0,
        "grid": 12,
        "min_dt": 12,
        "max_dt": 24,
        "polyphony": 1,
        "seed": 4,
    },
    "midi": {"connect": ["rtwoodsynth"], "program": WOODBLOCK},
}


@contextlib.contextmanager
def fluidsynth() -> Iterator[None]:
    """FluidSynth on the JACK server of the test, dry. One client has audio and MIDI ports, named after the one or the other."""
    font = next((font for font in FONTS if Path(font).exists()), None)
    if shutil.which("fluidsynth") is None or font is None:
        pytest.skip("fluidsynth or its sound font is not installed (make setup): there is no synth to hear")
    names = ["-o", "audio.jack.id=rtwoodsynth", "-o", "midi.jack.id=rtwoodsynth-midi"]
    command = ["fluidsynth", "-a", "jack", "-m", "jack", "-i", "-s", "-q", "-R", "0", "-C", "0", "-r", str(RATE), "-g", "1.5", *names, font]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def ports(prefix: str) -> list[str]:
    """Audio ports of JACK whose names begin so."""
    listed = subprocess.run(["jack_lsp", "-t"], capture_output=True, text=True, check=False).stdout.splitlines()
    return [name for name, kind in itertools.pairwise(listed) if name.startswith(prefix) and "audio" in kind]


def onsets(sound: np.ndarray) -> np.ndarray:
    """Frames at which something begins in `sound` (n,), to `GRAIN` frames."""
    n = len(sound) // GRAIN
    envelope = np.abs(sound[: n * GRAIN].reshape(n, GRAIN)).max(axis=1)
    before = np.array([envelope[max(0, i - 4) : max(1, i - 1)].max() for i in range(n)])
    floor = envelope.max() / 50.0
    found: list[int] = []
    for i in np.flatnonzero((envelope > floor) & (envelope > RISE * before)):
        if not found or (i - found[-1]) * GRAIN > DEAF_S * RATE:
            found.append(int(i))
    return np.array(found) * GRAIN


def test_what_a_synth_makes_of_the_notes_is_heard_when_they_were_due(own_jackd_of, live_server):
    with own_jackd_of(PERIOD), fluidsynth():
        server = live_server(SETTINGS)
        assert server.wait(lambda: ports("rtwoodsynth") and ports("rtwood:"), 20.0), "the synth is there"
        synth, ours = ports("rtwoodsynth"), [p for p in ports("rtwood:") if "in" in p.split(":")[1]]
        subprocess.run(["jack_connect", synth[0], ours[0]], check=True, capture_output=True)
        connected = server.session.frame + RATE // 4
        assert server.wait(lambda: server.session.frame > connected + SECONDS * RATE, SECONDS + 20.0)
        until = server.session.frame - RATE // 2
        dropped = server.session.counters("midi")["dropped_notes"]
        server.close()
        log = server.log()
    sound, rate = soundfile.read(log.path.with_name("input.wav"), dtype="float32", always_2d=True)
    assert (rate, log.header.frame) == (RATE, 0)
    sent = {e.note_id for e in log.events if isinstance(e, NoteOn)}
    notes = [e for e in log.events if isinstance(e, Note) and e.part == "performer" and connected <= e.frame < until]
    due = np.array(sorted(e.frame for e in notes if e.note_id in sent))
    assert len(notes) - len(due) <= dropped, "what was not sent was dropped, and counted"
    assert len(due) > SECONDS, "it plays"
    heard = onsets(sound[:, 0])
    # The offset is found by the notes, each with the sound that is nearest; then every sound must belong to one.
    offset = np.median([heard[np.abs(heard - frame).argmin()] - frame for frame in due])
    heard = heard[(heard > due[0] + offset - STEP / 2) & (heard < due[-1] + offset + STEP / 2)]
    spread = heard - due - offset if len(heard) == len(due) else np.array([])
    print(f"{len(due)} notes, {len(heard)} sounds; offset {offset / RATE * 1e3:.1f} ms", end="; ")
    print(f"within {np.abs(spread).max(initial=0) / RATE * 1e3:.2f} ms of it, median {np.median(np.abs(spread)) / RATE * 1e3:.2f} ms")
    assert len(heard) == len(due), "every note is heard once, and nothing besides"
    assert np.percentile(np.abs(spread), 95) <= PERIOD + GRAIN, "within a period of the constant way"
    assert np.abs(spread).max() <= 2 * PERIOD + GRAIN, "on a busy machine one or the other a period later"
