"""A reference that was played by a synthesiser: the score as a MIDI file, and what is heard of its rendering as a reference.

The synthesiser itself is run by `rtserver.synthesis`, before the show.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt

from rtserver.following.offline import signal_features
from rtserver.following.reference import Reference, levelled, reference_of, sounding
from rtserver.following.score import Score

TICKS_A_SECOND = 10_000  # a tenth of a millisecond, a hundredth of a hop
VELOCITY = 72  # mezzo-forte: a score that says how loud is not read for it
TAIL_S = 1.0  # after the last note, so that it rings out


def as_midi(score: Score) -> bytes:
    """The notes of `score` at its nominal tempo as a MIDI file, all of them on one piano.

    A pitch that is struck again while it sounds is released first; of notes of one pitch that begin together the longest is played.
    """
    import mido

    onset, release = sounding(score, score.seconds_at)
    struck: dict[tuple[int, int], int] = {}  # (tick, pitch): tick of its end
    for a, b, pitch in zip(onset.tolist(), release.tolist(), score.notes.pitch.tolist(), strict=True):
        key = (round(a * TICKS_A_SECOND), int(pitch))
        struck[key] = max(struck.get(key, 0), round(b * TICKS_A_SECOND))
    rows: list[tuple[int, int, int]] = []  # tick, velocity, pitch: at one tick releases come first
    again: dict[int, int] = {}
    for (tick, pitch), end in sorted(struck.items(), reverse=True):
        rows += [(tick, VELOCITY, pitch), (min(end, again.get(pitch, end)), 0, pitch)]
        again[pitch] = tick
    track = mido.MidiTrack([mido.Message("program_change", program=0)])
    last = 0
    for tick, velocity, pitch in sorted(rows):
        track.append(mido.Message("note_on", note=pitch, velocity=velocity, time=tick - last))
        last = tick
    track.append(mido.MetaMessage("end_of_track", time=round(TAIL_S * TICKS_A_SECOND)))
    file = io.BytesIO()
    mido.MidiFile(ticks_per_beat=TICKS_A_SECOND // 2, tracks=[track]).save(file=file)  # without a mark a file is at 120: two beats a second
    return file.getvalue()


def rendered_reference(score: Score, signal: npt.NDArray[np.float32], sample_rate: int) -> Reference:
    """The reference that a rendering of ``as_midi(score)`` makes, (n_channels, frames) float32 at A4 = 440 Hz."""
    features, hop_s = signal_features(levelled(signal), sample_rate)
    onset, release = sounding(score, score.seconds_at)
    quarter = score.quarter_at(np.arange(len(features)) * hop_s)
    return reference_of(score, features, quarter, onset, release, hop_s=hop_s)
