"""The words of the performer: notes in score time, as numbers a network can take.

A note is ``(dt, pitch, duration)``: `dt` the step from the previous onset, `duration` its length, both in ticks of 1/24 quarter
(the MIDI clock). Every note is born with its release, so nothing that is written in these words can hang. Notes are ordered by onset, then
by pitch; in a chord (``dt == 0``) pitches rise strictly, so that each set of notes has one spelling and the chain
``p(dt) p(pitch | dt) p(duration | dt, pitch)`` is the exact likelihood of the music.

Shared with the training side, so that both can only agree. Pure numpy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

TICKS_PER_QUARTER = 24
MAX_DT = 96  # four quarters; longer rests lose whole multiples of 96, which leaves the beat phase as it was
MAX_DURATION = 96  # longer notes are cut to four quarters

N_DT = MAX_DT + 1  # 0..96
N_PITCH = 128  # MIDI keys
START = N_PITCH  # the pitch of "nothing has been played yet": an input, never an output
N_DURATION = MAX_DURATION + 1  # 1..96; 0 is
UNKNOWN_DURATION = 0  # a key still held: an input, never an output
N_PHASE = 96  # ticks of four quarters
N_CHROMA = 13  # 12 pitch classes, the loudest of them 1, then 1 where the condition is present at all
UNKNOWN_PHASE = N_PHASE  # nobody knows the beat: an input, never an output
N_BAR = 145  # 0: the metre is not known; else 1 + ticks since the bar line, of bars up to six quarters
N_METRE = 13  # length of the bar in eighths; 0: not known
N_AHEAD = 25  # pitch classes of the coming two quarters and of the two after them, then 1 where they are known at all
AHEAD = 48  # ticks of each of the two
N_CONTROLS = 4  # density, 1 where it is asked for, register, 1 where it is asked for
TEXTURES = ("unknown", "line", "chords")  # what the performer is asked to be: one voice, or several
PARTS = ("unknown", "upper", "inner", "lower", "all")  # which part of the whole it is asked to play
CHROMA_DECAY = 24.0  # ticks: what was heard fades by 1/e a quarter, about the rate at which harmonies change

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]


class NoteEvent(NamedTuple):
    """One note in score time. dt : ticks since the previous onset, 0..96; pitch : MIDI key; duration : ticks, 1..96 (0: still held)."""

    dt: int
    pitch: int
    duration: int


def fold(dt: int) -> int:
    """`dt` ticks as the vocabulary has it: rests beyond four quarters lose whole multiples of four quarters."""
    return dt if dt <= MAX_DT else 1 + (dt - 1) % MAX_DT


def encode(onset: Int, pitch: Int, duration: Int) -> tuple[Int, Int, Int, Int]:
    """Notes in any order to events.

    Parameters
    ----------
    onset, pitch, duration : int arrays (n,)
        Ticks from any origin, MIDI keys, ticks.

    Returns
    -------
    onset, dt, pitch, duration : int arrays (m,), m <= n
        Sorted; unisons that start together are one note, as long as the longest. ``dt[0]`` is 0: what a first step is counted
        from is for the caller to say.
    """
    order = np.lexsort((-duration, pitch, onset))
    onset, pitch, duration = onset[order], pitch[order], duration[order]
    first = np.ones(len(onset), bool)
    first[1:] = (np.diff(onset) != 0) | (np.diff(pitch) != 0)
    onset, pitch, duration = onset[first], pitch[first], duration[first]
    dt = np.diff(onset, prepend=onset[:1])
    dt = np.where(dt > MAX_DT, 1 + (dt - 1) % MAX_DT, dt)
    return onset, dt, pitch, np.clip(duration, 1, MAX_DURATION)


def decode(events: list[NoteEvent], start: int = 0) -> list[tuple[int, int, int]]:
    """Events to ``(onset, pitch, duration)`` in ticks, the first step counted from `start`."""
    notes: list[tuple[int, int, int]] = []
    tick = start
    for event in events:
        tick += event.dt
        notes.append((tick, event.pitch, event.duration))
    return notes


def condition(chroma: npt.ArrayLike | None = None) -> Float:
    """The model's condition (13,): 12 pitch classes, the loudest of them 1, and a flag. All zero for None: nobody to listen to."""
    out = np.zeros(N_CHROMA, np.float32)
    if chroma is not None:
        out[:12] = chroma
        peak = float(out[:12].max())
        if not np.isfinite(peak) or peak <= 1e-6:
            out[:12] = 0.0
        else:
            out[:12] /= peak
        out[12] = 1.0
    return out


def controls(density: float | None = None, register: float | None = None) -> Float:
    """What is asked for, (4,): `density` in notes a quarter, `register` as a mean MIDI key, for four quarters to come. None: any."""
    out = np.zeros(N_CONTROLS, np.float32)
    if density is not None:
        out[:2] = np.log2(1.0 + max(0.0, density)) / 3.0, 1.0  # seven notes a quarter: 1
    if register is not None:
        out[2:] = (register - 60.0) / 24.0, 1.0
    return out


def bar_place(tick: int, bar_line: int, bar: int) -> tuple[int, int]:
    """The inputs `bar` and `metre` at `tick`, for bars of `bar` ticks, one of which begins at `bar_line`.

    (0, 0), not known, for other bars than the model knows: those of whole eighths, up to six quarters.
    """
    if not 0 < bar < N_BAR or bar % 12:
        return 0, 0
    return 1 + (tick - bar_line) % bar, bar // 12


def ahead(classes: npt.ArrayLike | None = None) -> Float:
    """The condition of what comes (25,), from weights (2, 12) of the pitch classes of the coming two quarters and the two after them.

    The loudest of each two quarters is 1. All zero for None: nothing is known.
    """
    out = np.zeros(N_AHEAD, np.float32)
    if classes is not None:
        weights = np.nan_to_num(np.maximum(np.asarray(classes, np.float32).reshape(2, 12), 0.0), posinf=0.0)
        peak = weights.max(axis=1, keepdims=True)
        out[:24] = np.where(peak > 1e-6, weights / np.maximum(peak, 1e-6), 0.0).ravel()
        out[24] = 1.0
    return out


def chroma_between(onset: Int, release: Int, pitch: Int, edges: Int) -> Float:
    """How many ticks each pitch class sounds between `edges` (m,), sorted, and the next of them: float32 (m - 1, 12). Keys count singly."""
    out = np.zeros((len(edges), 12))
    for at, sign in ((onset, -1.0), (release, 1.0)):
        # Sounding time before an edge is the sum over notes of min(release, edge) - min(onset, edge).
        order = np.argsort(at, kind="stable")
        hot = np.zeros((len(at) + 1, 12))
        hot[np.arange(1, len(at) + 1), pitch[order] % 12] = 1.0
        times = np.r_[0.0, at[order]][:, None]
        index = np.searchsorted(at[order], edges, side="right")
        count, summed = np.cumsum(hot, axis=0), np.cumsum(hot * times, axis=0)
        out += sign * (summed[index] + (count[-1] - count[index]) * edges[:, None])
    return np.diff(out, axis=0).astype(np.float32)


def chroma_heard(onset: Int, release: Int, pitch: Int, ticks: Int) -> Float:
    """What has been heard by each of `ticks`, past only: a leaky integral of the sounding pitch classes.

    ``c'(t) = active(t) - c(t) / CHROMA_DECAY``, in closed form, for each pitch class.

    Parameters
    ----------
    onset, release, pitch : int arrays (n,)
        Notes, in ticks and MIDI keys.
    ticks : int array (m,)
        When to look.

    Returns
    -------
    float32 (m, 12), not normalised.
    """
    heard = np.zeros((len(ticks), 12), np.float32)
    block = ticks // _BLOCK
    for b in np.unique(block):
        looks = block == b
        near = (release > b * _BLOCK - 20 * CHROMA_DECAY) & (onset < (b + 1) * _BLOCK)  # exp(-20) is below float32's resolution
        heard[looks] = _heard_in_block(onset[near], release[near], pitch[near] % 12, ticks[looks], float((b + 1) * _BLOCK))
    return heard


_BLOCK = 4800  # ticks: exp(4800 / 24) is still far from the end of float64


def _heard_in_block(onset: Int, release: Int, classes: Int, ticks: Int, end: float) -> Float:
    def summed(at: Int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Sum of exp((at - end) / decay), and the count, over those of `at` that lie before each look, by pitch class."""
        order = np.argsort(at, kind="stable")
        hot = np.zeros((len(at) + 1, 12))
        hot[np.arange(1, len(at) + 1), classes[order]] = 1.0
        weight = np.exp((np.r_[0.0, np.maximum(at[order], end - 2 * _BLOCK)] - end) / CHROMA_DECAY)[:, None]
        index = np.searchsorted(at[order], ticks, side="right")
        return np.cumsum(hot * weight, axis=0)[index], np.cumsum(hot, axis=0)[index]

    on_sum, on_count = summed(onset)
    off_sum, off_count = summed(release)
    active = on_count - off_count
    faded = (off_sum - on_sum) * np.exp(-(ticks - end) / CHROMA_DECAY)[:, None]
    return (np.maximum(active + faded, 0.0) * CHROMA_DECAY).astype(np.float32)
