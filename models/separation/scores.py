"""What the network is told of the score, hop by hop: what `rtserver.separation.expected` says of each moment."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.separation.expected import Expected
from rtserver.separation.features import NETWORK_HOP
from rtserver.separation.model import N_SCORE

F32 = npt.NDArray[np.float32]
DRUMS = 0  # the stem whose notes have no pitch


def score_features(notes: npt.NDArray[np.floating] | None, n_hops: int, shift: float = 0.0) -> F32:
    """``(n_hops, 177)``: what is expected at the end of each hop. Without `notes` everything is 0.

    notes : ``(n_notes, 4)``, key (may lie between two), onset and end in frames, stem; drums are left out
    shift : frames by which the score is believed to be later than it is
    """
    out = np.zeros((n_hops, N_SCORE), np.float32)
    if notes is None:
        return out
    pitched = np.asarray(notes, np.float64).reshape(-1, 4)
    expected = Expected.of(*pitched[pitched[:, 3] != DRUMS, :3].T)
    for i in range(n_hops):
        expected.tell((i + 1.0) * NETWORK_HOP - shift, 1.0, out[i])
    return out
