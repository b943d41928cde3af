"""What the network is told of the score: the keys that should sound, and those that should begin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.separation.features import NETWORK_HOP

F32 = npt.NDArray[np.float32]

N_KEYS, LOWEST = 88, 21
N_SCORE = 2 * N_KEYS + 1
FADE = 4410  # frames by which an onset is seen coming, and remembered: 0.1 s at 44.1 kHz


def score_features(notes: npt.NDArray[np.floating] | None, n_hops: int, shift: float = 0.0) -> F32:
    """``(n_hops, 177)``: keys 21 to 108 that should sound at the end of each hop (0..1), their onsets (1 at the onset, fading linearly
    over 0.1 s before and after), and 1 where there is a score. Without `notes` everything is 0.

    notes : ``(n_notes, 4)``, key (may lie between two, which then share it), onset and end in frames, stem; drums (stem 0) are left out
    shift : frames by which the score is believed to be later than it is
    """
    out = np.zeros((n_hops, N_SCORE), np.float32)
    if notes is None:
        return out
    out[:, -1] = 1.0
    now = (np.arange(n_hops) + 1.0) * NETWORK_HOP - shift
    for key, onset, end, stem in np.asarray(notes, np.float64).reshape(-1, 4):
        if stem == 0:
            continue
        a, b = np.searchsorted(now, (onset, end))
        c, d = np.searchsorted(now, (onset - FADE, onset + FADE))
        if a == b and c == d:
            continue
        onsets = 1.0 - np.abs(now[c:d] - onset) / FADE
        low = int(np.floor(key))
        for lane, share in ((low - LOWEST, 1.0 - (key - low)), (low + 1 - LOWEST, key - low)):
            if share > 0.0 and 0 <= lane < N_KEYS:
                np.maximum(out[a:b, lane], share, out=out[a:b, lane])
                np.maximum(out[c:d, N_KEYS + lane], share * onsets, out=out[c:d, N_KEYS + lane])
    return out
