"""When exactly each moment of a score begins in a recording, once it is known about when.

Every hop within half a second of where time warping puts a moment is weighed as its beginning, by templates and network as the follower
does (`rtserver.following.odds`), but with all that is heard 90 ms later; and every step from moment to moment by how far it is from the
tempo around. The best way through all moments is found by dynamic programming (A. Viterbi, IEEE Transactions on Information Theory 13(2),
1967).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.dsp.features import FIRST_PITCH
from rtserver.following import odds
from rtserver.following.chords import chords_of
from rtserver.following.heard import Heard
from rtserver.following.onsetnet import N_PITCHES
from rtserver.following.onsets import Onsets
from rtserver.following.reference import HOP_S
from rtserver.kernels import jit

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]

AGE = odds.N_AGES - 1  # hops after an onset at which it is judged
REACH = 50  # hops either way of where a moment is thought to be
ROUNDS = 2  # the second looks around what the first has found, at its tempo
TEMPO_S = 2.0  # either way, over which the tempo around a moment is taken
EXPRESSION, JITTER_S = 0.3, 0.03  # standard deviation of the logarithm of a step around that, and of a single onset


@jit(
    "void(int64[::1], float64[::1], int32[::1], float32[:,::1], int32[::1], int32[::1], float64[:,::1], float64[::1], float32[:,::1],"
    " float64[:,::1], float64[::1], int64, float64, int64[::1])"
)
def place(  # noqa: PLR0917
    centre: Ints, step_s: Floats, chord: I32, onset: Floats32, start: I32, pitch: I32, nats: Floats, strength: Floats, rise: Floats32,
    template: Floats, weight: Floats, reach: int, dt: float, out: Ints,
) -> None:  # fmt: skip
    """Set `out` (n_events,): the hop in which each begins, within `reach` hops of `centre`.

    `step_s` (n_events,): what is expected to lie between the moment before and each.

    `nats` (n_hops, n_pitches), of the greatest age, `strength` (n_hops,), `rise` (n_hops, 107): what was heard in each hop.
    """
    n, width, n_hops = len(centre), 2 * reach + 1, len(strength)
    best, came = np.zeros((n, width)), np.zeros((n, width), np.int64)
    for k in range(n):
        u = chord[k]
        size = 0
        for i in range(start[u], start[u + 1]):
            size += 0 <= pitch[i] < nats.shape[1]
        noise = EXPRESSION * EXPRESSION + (JITTER_S / step_s[k]) ** 2
        for c in range(width):
            hop = centre[k] - reach + c
            judged = hop + AGE
            said = -odds.LIMIT
            if hop >= 0 and judged < n_hops:
                templates = 0.0
                for a in range(len(template)):
                    templates += odds.said_in_hop(template, a, strength[hop + a], odds.cosine_of(onset, u, rise, hop + a))
                said = odds.weighed(judged, size, templates, strength[judged], nats, weight, pitch, start[u], start[u + 1])
            if k == 0:
                best[k, c] = said
                continue
            top, source = -np.inf, 0
            for b in range(width):
                hops = hop - (centre[k - 1] - reach + b)
                if hops < 0:
                    break
                off = np.log(max(hops * dt, 0.5 * dt) / step_s[k])
                way = best[k - 1, b] - 0.5 * off * off / noise
                if way > top:
                    top, source = way, b
            best[k, c], came[k, c] = said + top, source
    c = int(np.argmax(best[n - 1]))
    for k in range(n - 1, -1, -1):
        out[k] = centre[k] - reach + c
        c = came[k, c]


def refine(events: Onsets, semitones: Floats32, seconds: Floats) -> Floats:
    """`seconds` (n_events,), when each moment begins, made exact: of spectra (n_hops, 107), to within a hop.

    Raises `ModelError` where the onset network cannot be used.
    """
    if len(events) < 2 or len(semitones) <= AGE:
        return seconds
    chords = chords_of(events)
    ear = Heard(chords)
    n_hops = len(semitones)
    strength, rise, nats = np.zeros(n_hops), np.zeros_like(semitones), np.zeros((n_hops, N_PITCHES))
    for n, row in enumerate(semitones):
        ear.process(row)
        strength[n], rise[n], nats[n] = ear.strength, ear.rise, ear.nats[AGE]
    hops = np.maximum(np.round(seconds / HOP_S).astype(np.int64), 0)
    pitch = chords.pitch - np.int32(FIRST_PITCH)
    for _ in range(ROUNDS):
        found = np.zeros(len(events), np.int64)
        step_s = _steps(events, np.multiply(hops, HOP_S))
        place(
            hops, step_s, chords.chord, chords.onset, chords.start, pitch, nats, strength, rise, odds.TEMPLATE, odds.WEIGHTS[AGE], REACH,
            HOP_S, found,
        )  # fmt: skip
        hops = found
    return np.multiply(hops + 0.5, HOP_S)


def _steps(events: Onsets, seconds: Floats) -> Floats:
    """From the moment before to each, at the tempo of the seconds around; of the first, nothing that matters."""
    before = np.searchsorted(seconds, seconds - TEMPO_S)
    after = np.minimum(np.searchsorted(seconds, seconds + TEMPO_S, side="right"), len(seconds)) - 1
    nominal = np.maximum(events.seconds[after] - events.seconds[before], 1e-3)
    ratio = np.clip((seconds[after] - seconds[before]) / nominal, 0.1, 10.0)
    return np.maximum(np.append(events.duration_s[:1], events.duration_s[:-1]) * ratio, 1e-3)
