"""The tempo of a path: how fast it has been of late, read at the onsets of the score.

A. Arzt and G. Widmer, "Simple tempo models for real-time music tracking", Proc. SMC 2010, section 4. The backward path is straightened
between the onsets that lie on it, for between them there is little to tell where in the score the player is (M. Müller et al., "Towards
automated extraction of tempo parameters from expressive music recordings", ISMIR 2009). The local tempo at an onset is the slope of that
line over a window of 3 s around it. The relative tempo is the mean of the local tempi at the 20 latest onsets, the latest with weight 20
and the oldest with 1; onsets of the last second are left out, as the path is not yet settled there.

What differs. The paper takes the window on the reference as it was stretched for the present tempo, and beyond the newest end of the path
goes on with slope 1; here the window is on the reference at its own tempo, and the end goes on with the rate at which the reference is
read: the same line.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.kernels import jit

Floats = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]

N_ONSETS = 20
MOST = 96  # onsets looked at: those of the last second come on top
SETTLED = 100  # hops: 1 s, within which the path may still change
HALF_WINDOW = 150.0  # frames of the reference: 1.5 s on either side of an onset
LEAST_ONSETS = 2  # before, the tempo is taken to be nominal
SLOWEST, FASTEST = 0.3, 3.0  # rates beyond are not tempo


@jit("float64(float64[::1], float64[::1], int64, float64, float64)")
def _hop_at(place: Floats, hop: Floats, count: int, where: float, rate: float) -> float:
    """When the straightened path was at `where`; beyond its ends it goes on with `rate`."""
    if where >= place[0]:
        return float(hop[0] + (where - place[0]) / rate)
    for i in range(1, count):
        if where >= place[i]:
            part = (where - place[i]) / (place[i - 1] - place[i])
            return float(hop[i] + part * (hop[i - 1] - hop[i]))
    return float(hop[count - 1] - (place[count - 1] - where) / rate)


@jit("float64(float64[::1], int64, int32[::1], int32[::1], float64)")
def relative_tempo(history: Floats, n: int, order: Int32s, latest: Int32s, rate: float) -> float:
    """Frames of the reference a hop, from `n` hops of a path of which the newest are kept.

    `history`: place in `order` at hop t is ``history[t % len(history)]``. ``latest[f]``: the last frame at or before f in which a note
    begins; -1 before all. `rate`: at which the reference is read now; returned while there are too few onsets.
    """
    size = history.shape[0]
    # Where the path passed each onset: place and hop, newest first; the newest end of the path is the first of them.
    place, hop = np.empty(MOST + 1), np.empty(MOST + 1)
    last = n - 1
    place[0], hop[0] = history[last % size], float(last)
    count = 1
    t = last
    oldest = max(0, n - size)
    while t > oldest and count <= MOST:
        now, before = history[t % size], history[(t - 1) % size]
        frame = order[int(now)]
        onset = latest[frame]
        if onset >= 0 and (latest[order[int(before)]] != onset):
            at = np.floor(now) - (frame - onset)
            if before < at < place[count - 1]:
                place[count], hop[count] = at, float(t)
                count += 1
        t -= 1
    total, weights = 0.0, 0.0
    found = 0
    for i in range(1, count):
        if hop[i] > last - SETTLED:
            continue
        begin = _hop_at(place, hop, count, place[i] - HALF_WINDOW, rate)
        end = _hop_at(place, hop, count, place[i] + HALF_WINDOW, rate)
        weight = float(N_ONSETS - found)
        total += weight * 2.0 * HALF_WINDOW / max(end - begin, 1.0)
        weights += weight
        found += 1
        if found == N_ONSETS:
            break
    if found < LEAST_ONSETS:
        return rate
    return min(max(total / weights, SLOWEST), FASTEST)
