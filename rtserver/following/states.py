"""What a follower says of itself, and what a leap is.

WAITING: nothing has been played. LOCKED: sure of its place. UNSURE: the match is poor at present. LOST: it has been no better than chance
for a while. JUMPED: the position has just leapt from one place that could be trusted to another. Times are music's, at the present tempo.
"""

from __future__ import annotations

WAITING, LOCKED, UNSURE, LOST, JUMPED = "WAITING", "LOCKED", "UNSURE", "LOST", "JUMPED"
FOLLOWING = (LOCKED, UNSURE, JUMPED)  # the position is that of somebody who plays

FORWARD_S = 2.0  # a position that moves further at once leaps: no follower is so far behind without having lost its place
BACK_S = 1.0  # a position that falls back by less trembles


def leaps(before: float, after: float, tempo_bpm: float) -> bool:
    """Whether a position that goes from quarter `before` to `after` at once leaps."""
    moved_s = (after - before) * 60.0 / tempo_bpm
    return moved_s > FORWARD_S or moved_s < -BACK_S
