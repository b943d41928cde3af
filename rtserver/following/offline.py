"""Following a recording: the same follower as live, fed from a file. What ``rtserver follow`` runs.

A row is an update: ``t_avail, score_quarter, score_beat, tempo_bpm, confidence, state``. `t_avail` is when, in seconds on the
performance's axis, the last audio frame used had arrived; no look-ahead hides in it. A MIDI performance is turned into features as if its
notes were heard (see `rtserver.following.reference`), hop by hop, and takes the same way.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rtserver.dsp.features import SILENCE_DB, Features
from rtserver.dsp.layout import LEVEL, N_FEATURES
from rtserver.errors import AudioFileError, ScoreError
from rtserver.events import Event, Position
from rtserver.following.follower import HEARS_KEYS, Follower
from rtserver.following.reference import HOP_S, RELEASE_S, Reference, features_of
from rtserver.following.score import Floats, Ints, Notes, Score, load_score
from rtserver.node import Array, Spec

Progress = Callable[[float], object]
Refer = Callable[[Score], Reference | None]
Row = tuple[float, float, float, float, float, str]
COLUMNS = ("t_avail", "score_quarter", "score_beat", "tempo_bpm", "confidence", "state")
MIDI_SUFFIXES = (".mid", ".midi")
MIDI_RATE = 48000  # frames a second in which MIDI performances are counted
SUSTAIN = 64  # MIDI controller of the right pedal


def follow_features(
    follower: Follower, vectors: Iterable[Array], sample_rate: int, hop_size: int, progress: Progress | None = None
) -> list[Row]:
    """Feed feature vectors (208,) float32, one every `hop_size` frames, to a prepared follower from its beginning.

    `progress` is told the seconds of each hop done.
    """
    rows: list[Row] = []
    keep = _keeper(rows, sample_rate)
    follower.reset()
    for n, x in enumerate(vectors):
        follower.process(x, (n + 1) * hop_size, keep)
        if progress is not None:
            progress(hop_size / sample_rate)
    return rows


def follow_audio(follower: Follower, signal: Array, sample_rate: int, progress: Progress | None = None) -> list[Row]:
    """Follow `signal`, (n_channels, frames) float32. Prepares the follower.

    Raises `SpecError` for a sample rate that features do not take.
    """
    features = Features(sample_rate, follower.score.tuning_hz)
    hop = features.hop_size
    follower.prepare(features.prepare(Spec.signal(sample_rate, signal.shape[0], hop)))

    return follow_features(follower, _vectors(features, signal), sample_rate, hop, progress)


def _vectors(features: Features, signal: Array) -> Iterable[Array]:
    """The features of each hop of `signal`, in one array that is used again and again."""
    x = np.zeros(N_FEATURES, np.float32)
    for start in range(0, signal.shape[1] - features.hop_size + 1, features.hop_size):
        features.process(np.ascontiguousarray(signal[:, start : start + features.hop_size]), x)
        yield x


def audio_features(path: str | PathLike[str], tuning_hz: float = 440.0) -> npt.NDArray[np.float32]:
    """Features (n_hops, 208) of an audio file. Raises `AudioFileError`."""
    from rtserver.audio.file import read

    signal, sample_rate = read(Path(path))
    return signal_features(signal, sample_rate, tuning_hz)[0][1:]


def signal_features(signal: Array, sample_rate: int, tuning_hz: float = 440.0) -> tuple[npt.NDArray[np.float32], float]:
    """Features (n_hops + 1, 208) of `signal`, (n_channels, frames) float32, and the seconds of a hop.

    Row n is what was heard up to the end of n hops; row 0, before there was anything, is empty.
    """
    features = Features(sample_rate, tuning_hz)
    features.prepare(Spec.signal(sample_rate, signal.shape[0], features.hop_size))
    found = np.zeros((signal.shape[1] // features.hop_size + 1, N_FEATURES), np.float32)
    found[0, LEVEL] = SILENCE_DB
    for out, x in zip(found[1:], _vectors(features, signal), strict=True):
        out[:] = x
    return found, features.hop_size / sample_rate


def follow_midi(follower: Follower, path: str | PathLike[str], progress: Progress | None = None) -> list[Row]:
    """Follow the MIDI file at `path`. Prepares the follower. Raises `ScoreError` for a file that cannot be read."""
    hop = round(MIDI_RATE * HOP_S)
    follower.prepare(Spec(MIDI_RATE, hop, (N_FEATURES,)))
    if follower.method_name in HEARS_KEYS:
        return follow_keys(follower, path, progress)
    return follow_features(follower, midi_features(path), MIDI_RATE, hop, progress)


def follow_keys(follower: Follower, path: str | PathLike[str], progress: Progress | None = None) -> list[Row]:
    """Follow the keys struck in the MIDI file at `path`, hop by hop, with a prepared follower from its beginning."""
    onset, release, pitch, _ = _read_midi(Path(path))
    hop = round(MIDI_RATE * HOP_S)
    order = np.argsort(onset, kind="stable")
    hops = np.floor(onset[order] / HOP_S + 1e-9).astype(int)
    pitch = pitch[order]
    n_hops = int(np.ceil(np.max(release) / HOP_S)) + 1
    first = np.searchsorted(hops, np.arange(n_hops + 1))
    rows: list[Row] = []
    keep = _keeper(rows, MIDI_RATE)
    follower.reset()
    for n in range(n_hops):
        follower.process_keys(pitch[first[n] : first[n + 1]].tolist(), (n + 1) * hop, keep)
        if progress is not None:
            progress(HOP_S)
    return rows


def _keeper(rows: list[Row], sample_rate: int) -> Callable[[Event], None]:
    def keep(event: Event) -> None:
        if isinstance(event, Position):
            rows.append((event.available_frame / sample_rate, event.quarter, event.beat, event.tempo_bpm, event.confidence, event.state))

    return keep


def midi_features(path: str | PathLike[str]) -> npt.NDArray[np.float32]:
    """Features (n_hops, 208) of a MIDI performance, every note at its own loudness; hop n is known at second ``0.01 (n + 1)``."""
    onset, release, pitch, velocity = _read_midi(Path(path))
    notes = Notes(onset, release - onset, pitch, np.zeros(len(pitch), np.int32))
    n = int(np.ceil((np.max(release) + 6 * RELEASE_S) / HOP_S)) + 1
    return np.ascontiguousarray(features_of(onset, release, notes, n, velocity / 64.0)[1:])


def _read_midi(path: Path) -> tuple[Floats, Floats, Ints, Floats]:
    """Onsets and releases in seconds, pitches, velocities. The pedal prolongs notes until it rises or the pitch is struck again."""
    import mido

    sounding: dict[tuple[int, int], tuple[float, int]] = {}
    pedalled: set[tuple[int, int]] = set()
    down: set[int] = set()
    found: list[tuple[float, float, int, int]] = []
    now = 0.0

    def release(key: tuple[int, int]) -> None:
        begun, velocity = sounding.pop(key)
        pedalled.discard(key)
        found.append((begun, now, key[1], velocity))

    try:
        for message in mido.MidiFile(str(path), clip=True):
            now += float(message.time)
            if message.type == "control_change" and message.control == SUSTAIN:
                if message.value >= 64:
                    down.add(message.channel)
                else:
                    down.discard(message.channel)
                    for key in [key for key in pedalled if key[0] == message.channel]:
                        release(key)
            elif message.type in ("note_on", "note_off") and message.channel != 9:  # channel 10 has no pitches
                key = (int(message.channel), int(message.note))
                if message.type == "note_on" and message.velocity > 0:
                    if key in sounding:
                        release(key)
                    sounding[key] = (now, int(message.velocity))
                elif key in sounding:
                    if key[0] in down:
                        pedalled.add(key)
                    else:
                        release(key)
    except Exception as error:  # whatever a third-party parser throws at a broken file
        raise ScoreError(f"{path}: cannot be read as MIDI ({error or type(error).__name__}): is it a standard MIDI file?") from error
    for key in list(sounding):
        release(key)
    if not found:
        raise ScoreError(f"{path}: holds no pitched notes, so there is nothing to follow")
    table = np.array(sorted(found), np.float64)
    return table[:, 0], table[:, 1], table[:, 2].astype(np.int32), table[:, 3]


def follow(
    score: str | PathLike[str],
    performance: str | PathLike[str],
    output: str | PathLike[str],
    method: str = "semimarkov",
    progress: Progress | None = None,
    *,
    parts: Sequence[str | int] = (),
    reference: Refer = lambda _: None,
) -> list[Row]:
    """Follow a performance, an audio file or MIDI, against a score (or its `parts` alone), and write the rows to `output` as CSV.

    `reference` makes what the input is compared with; None of it: what the method makes from the score. Raises `ScoreError` or
    `AudioFileError` for files that cannot be used, `SpecError` for an unknown method.
    """
    loaded = load_score(score, parts)
    for warning in loaded.warnings:
        print(f"{score}: {warning}", file=sys.stderr)
    follower = Follower(loaded, method, reference(loaded))
    if Path(performance).suffix.lower() in MIDI_SUFFIXES:
        rows = follow_midi(follower, performance, progress)
    else:
        from rtserver.audio.file import read

        signal, sample_rate = read(Path(performance))
        if not signal.shape[1]:
            raise AudioFileError(f"{performance}: holds no sound, so there is nothing to follow")
        rows = follow_audio(follower, signal, sample_rate, progress)
    with Path(output).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows((f"{t:.5f}", f"{q:.5f}", f"{b:.5f}", f"{bpm:.3f}", f"{c:.3f}", state) for t, q, b, bpm, c, state in rows)
    return rows
