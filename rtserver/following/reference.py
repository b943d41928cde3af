"""What a score sounds like to the follower: the features of `rtserver.dsp.features`, written down from the note list without a synthesiser.

Every note rings as six partials of decaying amplitude, seen through the same analysis windows as the input: a partial that began a
while ago shows with the part of the window that it has filled since. The reference therefore lags an onset as the input does, and the rise
of a note is a short template of spectral difference instead of one frame. Log compression, lag and chroma are those of `Features`.

Stretches where nothing sounds are cut out. In silence the input says nothing, so the follower does not listen; it would otherwise meet
a rest with no time to cross it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from rtserver.dsp.features import CHROMA_PITCHES, COMPRESSION, DIFFERENCE_LAG, FIRST_PITCH
from rtserver.dsp.layout import LEVEL, N_CHROMA, N_DIFFERENCE, N_FEATURES, N_SEMITONES, SEMITONES
from rtserver.errors import ScoreError
from rtserver.following.score import Notes, Score
from rtserver.kernels import jit

Floats32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

HOP_S = 0.01
N_MATCH = LEVEL  # what is compared: chroma and difference, not the level

# Partials of a plucked or struck string, in semitones above the note, and their amplitudes.
PARTIALS = ((0, 1.0), (12, 0.6), (19, 0.45), (24, 0.35), (28, 0.25), (31, 0.2))
AMPLITUDE = 0.03  # of one note re full scale: a medium piano note in a recording that peaks just below it
DECAY_S = 0.6  # time constant of a held note: the first, fast decay of a piano. 0.3 and 1.0 follow less well
RELEASE_S = 0.1  # time constant after the release, with some room in it
SHORTEST_S = 0.05  # a grace note, or a staccato dot, still sounds this long
WINDOW_S = 0.09  # the longest analysis window of `Features`; half of it from pitch 55, a quarter from 76
REST_TAIL_S = 0.1  # this much of the ring after a release stays; the rest of a rest is cut
MEAN_CHROMA_FLOOR = 0.2  # length that a centred chroma needs to count in full: flatter ones are noise
DIFFERENCE_KNEE = 0.5  # a difference of this part of the recent peak shows half its square: norm**2 / (norm**2 + knee**2)
PEAK = 0.8  # of full scale: what was rendered or recorded is as loud as a recording that nearly fills it
DIFFERENCE_WEIGHT = 2.0  # against 1 for chroma: it alone is sharp in time. From 1 to 4 it hardly matters; without it timing suffers


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Frames of 10 ms at the nominal tempo, rests cut out.

    Attributes
    ----------
    features : float32 (n_frames, 208)
        As `rtserver.dsp.features` would give them, for a performance at the nominal tempo. Not kept in a file: (0, 208)
        in one read from it.
    match : float32 (n_frames, 100)
        The same in the space where distances are taken: see `to_match`.
    quarter, beat, tempo_bpm : float64 (n_frames,)
        Place in the score (axis of the maximal unfolding), in quarters and beats, and nominal tempo in quarters a minute.
    rest_end : float64 (n_frames,)
        Within the last ring before a notated rest: the quarter at which that rest ends. NaN elsewhere.
    last_before_rest : int64 (n_frames,)
        The last frame before the next rest that was cut out; the last frame of all where none follows.
    onset : int64 (n_onsets,)
        The frames in which notes begin, ascending.
    """

    features: Floats32
    match: Floats32
    quarter: Floats
    beat: Floats
    tempo_bpm: Floats
    rest_end: Floats
    last_before_rest: npt.NDArray[np.int64]
    onset: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.quarter)

    def frame_of(self, quarter: float) -> int:
        """The first frame at or after `quarter`."""
        return min(int(np.searchsorted(self.quarter, quarter - 1e-9)), len(self) - 1)

    def to_npz(self, path: Path) -> None:
        """Write all that a follower needs: 450 bytes for a frame."""
        np.savez(path, **{name: getattr(self, name) for name in self.__slots__ if name != "features"})

    @classmethod
    def from_npz(cls, path: Path) -> Reference:
        """What `to_npz` wrote. Raises `ScoreError` for anything else."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(np.zeros((0, N_FEATURES), np.float32), **{name: file[name] for name in cls.__slots__ if name != "features"})
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise ScoreError(f"{path}: not a reference written by this version ({error}); start again") from error


def build_reference(score: Score) -> Reference:
    """The reference of `score`. Slow (a second for a long movement) and large (800 bytes for 10 ms): for `prepare`, never while playing."""
    onset, release = sounding(score, score.seconds_at)
    n_frames = int(np.ceil((float(np.max(release)) + REST_TAIL_S) / HOP_S)) + 1
    features = features_of(onset, release, score.notes, n_frames)
    return reference_of(score, features, score.quarter_at(np.arange(n_frames) * HOP_S), onset, release)


def sounding(score: Score, seconds_at: Callable[[Floats], Floats]) -> tuple[Floats, Floats]:
    """When each note begins and ends, both float64 (n_notes,) in seconds, where a quarter of the score lies at ``seconds_at(quarter)``."""
    notes = score.notes
    onset = seconds_at(notes.onset_quarter)
    return onset, np.maximum(seconds_at(notes.onset_quarter + notes.duration_quarter), onset + SHORTEST_S)


def levelled(signal: Floats32) -> Floats32:
    """`signal` as loud as a recording that nearly fills full scale. Silence stays what it is."""
    loudest = float(np.abs(signal).max()) if signal.size else 0.0
    return signal * np.float32(PEAK / loudest) if np.isfinite(loudest) and loudest > 0.0 else signal


def reference_of(  # noqa: PLR0917
    score: Score,
    features: Floats32,
    quarter: Floats,
    onset: Floats,
    release: Floats,
    tempo_bpm: Floats | None = None,
    hop_s: float = HOP_S,
) -> Reference:
    """The reference that features of some performance make, wherever they come from; rests are cut out.

    Parameters
    ----------
    score : Score
    features : float32 (n_frames, 208)
        Frame n is what `Features` makes of the sound up to second ``hop_s n``.
    quarter : float64 (n_frames,)
        Where in the score that is.
    onset, release : float64 (n_notes,)
        When each note of the score sounds, in seconds from frame 0.
    tempo_bpm : float64 (n_frames,), optional
        Tempo of the performance; that of the score if omitted.
    hop_s : float
        Seconds from one frame to the next: a hop of `Features` is a whole number of samples, at 22.05 kHz a little less than 10 ms.
    """
    n_frames = len(features)
    starts = np.zeros(n_frames + 1, np.int64)
    np.add.at(starts, np.clip(np.floor(onset / hop_s).astype(int), 0, n_frames), 1)
    np.add.at(starts, np.clip(np.ceil((release + REST_TAIL_S) / hop_s).astype(int) + 1, 0, n_frames), -1)
    keep = np.cumsum(starts[:-1]) > 0
    quarter = np.minimum(quarter[keep], score.length_quarter)

    # The frames just before a cut, and the quarter of the onset beyond it.
    rest_end = np.full(len(quarter), np.nan)
    onsets = np.unique(score.notes.onset_quarter)
    before_cuts = np.nonzero(np.diff(np.nonzero(keep)[0]) > 1)[0]
    for frame in before_cuts.tolist():
        following = onsets[min(int(np.searchsorted(onsets, float(quarter[frame]), side="right")), len(onsets) - 1)]
        rest_end[max(0, frame + 1 - int(3 * REST_TAIL_S / HOP_S)) : frame + 1] = following
    ends = np.append(before_cuts, len(quarter) - 1)
    last_before_rest = ends[np.searchsorted(ends, np.arange(len(quarter)))]
    step = np.maximum(np.searchsorted(score.tempo_quarter, quarter, side="right") - 1, 0)
    tempo = score.tempo_bpm[step] if tempo_bpm is None else tempo_bpm[keep]
    features = np.ascontiguousarray(features[keep])
    match = np.zeros((len(features), N_MATCH), np.float32)
    norms = np.linalg.norm(features[:, N_CHROMA:LEVEL], axis=1)
    peak = float(np.percentile(norms[norms > 0.0], 98)) if np.any(norms > 0.0) else 1.0
    for x, out in zip(features, match, strict=True):
        to_match(x, peak, out)
    begins = np.unique(np.minimum(np.searchsorted(quarter, onsets - 1e-9), len(quarter) - 1))
    return Reference(features, match, quarter, score.beat_at(quarter), tempo, rest_end, last_before_rest, begins)


def features_of(onset: Floats, release: Floats, notes: Notes, n_frames: int, loudness: Floats | None = None) -> Floats32:
    """Features (n_frames, 208) of notes that sound from `onset` to `release`, both float64 (n_notes,) in seconds from frame 0.

    `loudness` (n_notes,) multiplies the amplitude of each. Frame n is what `Features` makes of the audio up to second ``0.01 n``.
    """
    chroma_power = np.zeros((n_frames, len(CHROMA_PITCHES)))
    power = np.zeros((n_frames, N_SEMITONES))
    sizes = (WINDOW_S, WINDOW_S / 2, WINDOW_S / 4)
    gains = np.ones(len(onset)) if loudness is None else loudness
    for a, b, pitch, gain in zip(onset, release, notes.pitch, gains, strict=True):
        first = max(int(np.ceil(a / HOP_S - 1e-9)), 0)
        stop = min(n_frames, int(np.ceil((b + 6 * RELEASE_S) / HOP_S)))  # e**-12 in power is nothing
        seconds = np.arange(first, stop) * HOP_S
        envelope = gain * np.exp(-(np.minimum(seconds, b) - a) / DECAY_S - np.maximum(seconds - b, 0.0) / RELEASE_S)
        seen = [(envelope * _filled((seconds - a) / size)) ** 2 for size in sizes]
        for interval, amplitude in PARTIALS:
            p = int(pitch) + interval
            if p in CHROMA_PITCHES:
                chroma_power[first:stop, p - CHROMA_PITCHES.start] += seen[0] * amplitude**2
            if 0 <= p - FIRST_PITCH < N_SEMITONES:
                power[first:stop, p - FIRST_PITCH] += seen[0 if p < 55 else 1 if p < 76 else 2] * amplitude**2

    out = np.zeros((n_frames, N_FEATURES), np.float32)
    log = np.log1p(COMPRESSION * AMPLITUDE * np.sqrt(power))
    out[:, SEMITONES:] = log
    log = log[:, :N_DIFFERENCE]
    out[:, N_CHROMA:LEVEL] = log
    out[DIFFERENCE_LAG:, N_CHROMA:LEVEL] = np.maximum(log[DIFFERENCE_LAG:] - log[:-DIFFERENCE_LAG], 0.0)
    folded = np.log1p(COMPRESSION * AMPLITUDE * np.sqrt(chroma_power)).reshape(n_frames, -1, N_CHROMA).sum(axis=1)  # C3 is its first pitch
    length = np.linalg.norm(folded, axis=1, keepdims=True)
    out[:, :N_CHROMA] = np.where(length > 1e-6, folded / np.maximum(length, 1e-6), 0.0)
    out[:, LEVEL] = 10.0 * np.log10(AMPLITUDE**2 * power.sum(axis=1) / 2.0 + 1e-12)  # of sines of these amplitudes
    return out


def _filled(u: Floats) -> Floats:
    """The part of a Hann window that a sound fills when it began `u` window lengths ago."""
    u = np.clip(u, 0.0, 1.0)
    return u - np.sin(2.0 * np.pi * u) / (2.0 * np.pi)


@jit("void(float32[::1], float64, float32[::1])")
def to_match(x: Floats32, peak: float, out: Floats32) -> None:
    """Features (208,) to the vector (100,) whose half squared distances are compared.

    Chroma is centred before it is scaled to unit length. No element of it is negative, so that the cosine of any two is large (0.65 for
    unrelated frames of piano music, 0.8 for the right ones), and a path costs much the same wherever it goes; centred, it is about 0.2
    and 0.6. The difference is scaled by its length with a soft knee relative to the recent `peak` of that length, so that it says
    *which* notes rise and does not depend on level.
    """
    mean = np.float32(0.0)
    for i in range(N_CHROMA):
        mean += x[i]
    mean /= np.float32(N_CHROMA)
    square = np.float32(0.0)
    for i in range(N_CHROMA):
        out[i] = x[i] - mean
        square += out[i] * out[i]
    scale = np.float32(1.0) / np.sqrt(square + np.float32(MEAN_CHROMA_FLOOR * MEAN_CHROMA_FLOOR))
    for i in range(N_CHROMA):
        out[i] *= scale
    square = np.float32(0.0)
    for i in range(N_CHROMA, LEVEL):
        square += x[i] * x[i]
    knee = np.float32(DIFFERENCE_KNEE * peak)
    scale = np.float32(DIFFERENCE_WEIGHT**0.5) / np.sqrt(square + knee * knee + np.float32(1e-12))
    for i in range(N_CHROMA, LEVEL):
        out[i] = x[i] * scale
