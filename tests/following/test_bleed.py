"""Our own notes in the sound that is followed: taken away where they are heard, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import mido
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.audio.file import read
from rtserver.demo import RECORDING, SCORE
from rtserver.dsp.features import Features
from rtserver.dsp.layout import N_FEATURES, SEMITONES
from rtserver.events import Event
from rtserver.following.bleed import Bleed, OwnNote
from rtserver.following.follower import Follower
from rtserver.following.score import load_score
from rtserver.node import Spec

F32 = npt.NDArray[np.float32]
RATE, HOP = 48000, 480
FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")


def features_of(signal: F32) -> F32:
    """Of mono sound (n_frames,)."""
    features = Features(RATE)
    features.prepare(Spec.signal(RATE, 1, HOP))
    x = np.zeros((len(signal) // HOP, N_FEATURES), np.float32)
    for n, out in enumerate(x):
        features.process(np.ascontiguousarray(signal[None, n * HOP : (n + 1) * HOP]), out)
    return x


def tone(pitch: int, n_frames: int, amplitude: float) -> F32:
    """A plucked note: six partials that decay in 0.4 s."""
    t = np.arange(n_frames) / RATE
    f = 440.0 * 2.0 ** ((pitch - 69) / 12)
    wave = sum(np.sin(2.0 * np.pi * f * k * t) / k for k in range(1, 7))
    return (amplitude * wave * np.exp(-t / 0.4) * np.minimum(t / 0.005, 1.0)).astype(np.float32)


def played(notes: list[tuple[int, int]], seconds: float, amplitude: float) -> F32:
    """Notes (hop, pitch) as sound."""
    out = np.zeros(round(seconds * RATE), np.float32)
    for hop, pitch in notes:
        sound = tone(pitch, len(out) - hop * HOP, amplitude)
        out[hop * HOP :] += sound
    return out


def through(bleed: Bleed, x: F32, notes: list[tuple[int, int]], velocity: int = 80) -> F32:
    """What is let through of features, our `notes` (hop, pitch) being told three hops before."""
    out = np.zeros_like(x)
    for n, row in enumerate(x):
        for hop, pitch in notes:
            if n == max(hop - 3, 0):
                bleed.note(OwnNote(pitch, velocity, 0, hop - n))
        out[n] = bleed.process(row)
    return out


def melody(seed: int, n: int, every: int, first: int = 30) -> list[tuple[int, int]]:
    random = np.random.default_rng(seed)
    return [(first + every * k, int(random.integers(55, 80))) for k in range(n)]


OURS = melody(1, 20, 31)
PLAYERS = melody(2, 30, 23, first=41)


def test_without_own_notes_features_pass_as_they_are() -> None:
    bleed, x = Bleed(), features_of(played(PLAYERS, 8.0, 0.1))
    for row in x:
        assert bleed.process(row) is row


def test_a_player_with_headphones_loses_nothing() -> None:
    x = features_of(played(PLAYERS, 8.0, 0.1))
    bleed = Bleed()
    assert (through(bleed, x, OURS) == x).all()
    assert bleed.presence() == 0.0


def test_notes_that_are_heard_no_longer_rise() -> None:
    ours = melody(1, 40, 31)
    x = features_of(played(ours, 13.0, 0.05))
    bleed = Bleed()
    out = through(bleed, x, ours)
    assert bleed.presence() > 0.9
    came, left = (
        [float(y[hop : hop + 12, SEMITONES + p - 21].max() - y[hop - 1, SEMITONES + p - 21]) for hop, p in ours[20:]] for y in (x, out)
    )
    assert np.median(came) > 0.8
    assert np.median(left) < 0.1 * np.median(came)
    assert out[700:, SEMITONES:].sum() < 0.6 * x[700:, SEMITONES:].sum()


def test_the_player_is_still_heard_also_at_the_same_pitch() -> None:
    """Our notes all along; the player strikes one of them with us, twice as loud."""
    ours = played(OURS, 7.0, 0.05)
    hop, pitch = OURS[18]
    both = ours + played([(hop, pitch)], 7.0, 0.1)
    bin_of_pitch = SEMITONES + pitch - 21
    risen = []
    for sound in (ours, both):
        out = through(Bleed(), features_of(sound), OURS)[:, bin_of_pitch]
        risen.append(float(out[hop : hop + 12].max() - out[hop - 1]))
    assert risen[1] > 0.6
    assert risen[1] > 2.0 * max(risen[0], 0.1)


def test_when_they_are_no_longer_heard_nothing_is_taken_away() -> None:
    """The loudspeaker is switched off half way."""
    ours, players = melody(1, 60, 31), melody(2, 80, 23, first=41)
    half = 980
    sound = played([note for note in ours if note[0] < half], 19.0, 0.05) + played(players, 19.0, 0.1)
    x = features_of(sound)
    bleed = Bleed()
    out = through(bleed, x, ours)
    assert (out[200:half] != x[200:half]).any()
    assert (out[-150:] == x[-150:]).all()
    assert bleed.presence() == 0.0


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 127), st.integers(1, 127), st.integers(-9, 40)), max_size=40))
def test_whatever_is_told_the_rest_is_finite_and_not_more_than_came(notes: list[tuple[int, int, int, int]]) -> None:
    x = features_of(played([(10, 50), (40, 62), (80, 74)], 1.6, 0.2))
    bleed = Bleed()
    first: list[F32] = []
    for _ in range(2):
        bleed.reset()
        for n, row in enumerate(x):
            for at, pitch, velocity, hops in notes:
                if at == n:
                    bleed.note(OwnNote(pitch, velocity, pitch % 16, hops))
            out = bleed.process(row)
            assert np.isfinite(out).all()
            assert (out[SEMITONES:] <= row[SEMITONES:] + 1e-4).all()
            first.append(out.copy())
    assert np.array_equal(first[: len(x)], first[len(x) :]), "reset makes it as new"


def test_the_follower_is_the_same_bit_for_bit_without_own_notes_and_with_those_that_are_not_heard() -> None:
    x = features_of(read(RECORDING)[0].mean(axis=0)[: 12 * RATE])
    told: list[list[Event]] = []
    for ours in ([], melody(5, 30, 31)):
        follower = Follower(load_score(SCORE), "semimarkov-templates")
        follower.prepare(Spec(RATE, HOP, (N_FEATURES,)))
        events: list[Event] = []
        for n, row in enumerate(x):
            for hop, pitch in ours:
                if hop - 3 == n:
                    follower.own_note(OwnNote(pitch, 80, 0, 3))
            follower.process(row, (n + 1) * HOP, events.append)
        told.append(events)
    assert told[0] == told[1]


@pytest.mark.skipif(shutil.which("fluidsynth") is None or not FONT.exists(), reason="needs fluidsynth and FluidR3_GM.sf2")
@pytest.mark.parametrize("program", [0, 19, 48])
def test_of_a_synth_as_loud_as_the_player_less_is_left(program: int, tmp_path: Path) -> None:
    """The demonstration's recording with another sound over it, known by its notes alone: the spectrum is nearer to the player's."""
    player = read(RECORDING)[0].mean(axis=0)
    random = np.random.default_rng(3)
    ours = [(60 + 20 * k, int(pitch)) for k in range(150) for pitch in random.choice([55, 59, 62, 67, 71, 74, 79], 2, replace=False)]
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000), mido.Message("program_change", program=program)])
    last = 0
    ends = [(hop + 18, 0, mido.Message("note_off", note=pitch)) for hop, pitch in ours]
    for hop, _, message in sorted(
        [*((hop, 1, mido.Message("note_on", note=p, velocity=80)) for hop, p in ours), *ends], key=lambda e: e[:2]
    ):
        track.append(message.copy(time=10 * (hop - last)))
        last = hop
    midi, wav = tmp_path / "own.mid", tmp_path / "own.wav"
    mido.MidiFile(ticks_per_beat=1000, tracks=[track]).save(midi)
    command = ["fluidsynth", "-ni", "-q", "-r", str(RATE), "-O", "float", "-T", "wav", "-F", str(wav), str(FONT), str(midi)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    synth = read(wav)[0].mean(axis=0)[: len(player)]
    mixed = player.copy()
    mixed[: len(synth)] += synth * np.sqrt(np.mean(player**2) / np.mean(synth**2))
    clean, heard = features_of(player), features_of(mixed)
    left = through(Bleed(), heard, ours)
    late = slice(500, None), slice(SEMITONES, None)
    assert np.abs(left[late] - clean[late]).sum() < 0.9 * np.abs(heard[late] - clean[late]).sum()
