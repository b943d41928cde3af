"""Where the bar lines of a piece lie, from its notes alone, for note lists that carry no time signature.

Bar lines are where more begins, longer notes begin, and less is held over than on the other eighths. For each length and each place of the
first bar line, the mean accent on the bar lines is compared with that on the other eighths by Welch's t; the best is taken where it is well
ahead of the places of the same length, else the metre counts as unknown. Every second bar line of 2/4 is also one of 4/4: where the accents
of the two differ clearly, it is 4/4.
"""

from __future__ import annotations

import numpy as np

EIGHTH = 12  # ticks
BARS = (48, 72, 96, 144)  # 2/4, 3/4 or 6/8, 4/4, 12/8 or 3/2
CLEAR = 1.15  # how far ahead of the second best place the best must be
N_SURE = 24  # bars; fewer are not enough to tell


def accents(onset: np.ndarray, duration: np.ndarray) -> np.ndarray:
    """For each eighth from tick 0: the log of the notes that begin there, their mean length, and minus what is held over."""
    n = int((onset + duration).max()) // EIGHTH + 1
    on_eighth = onset % EIGHTH == 0
    at = onset[on_eighth] // EIGHTH
    begin = np.bincount(at, minlength=n).astype(float)
    length = np.bincount(at, np.minimum(duration[on_eighth], 96) / 24.0, minlength=n)
    first, last = onset // EIGHTH + 1, (onset + duration - 1) // EIGHTH  # eighths strictly inside of each note
    inside = first <= last
    held = np.cumsum(np.bincount(first[inside], minlength=n + 1) - np.bincount(last[inside] + 1, minlength=n + 1)[: n + 1])[:n]
    return np.log1p(begin) + np.log1p(length) - np.log1p(held)


def estimate(onset: np.ndarray, duration: np.ndarray) -> tuple[int, int] | None:
    """(ticks of a bar, tick of a bar line), or None where the notes do not tell."""
    accent = accents(onset, duration)
    found: list[tuple[float, float, int, int]] = []
    for bar in BARS:
        eighths = bar // EIGHTH
        if len(accent) < N_SURE * eighths:
            continue
        rows = accent[: len(accent) // eighths * eighths].reshape(-1, eighths)
        mean, spread = rows.mean(axis=0), rows.var(axis=0) / len(rows)
        others = (rows.sum() - rows.sum(axis=0)) / (rows.size - len(rows))
        t = (mean - others) / np.sqrt(spread + rows.var() / (rows.size - len(rows)))
        best = int(t.argmax())
        found.append((float(t[best]), float(np.delete(t, best).max()), bar, best * EIGHTH))
    if not found:
        return None
    t, second, bar, line = max(found)
    if t <= CLEAR * max(second, 3.0):
        return None
    if bar == 48 and len(accent) >= N_SURE * 8:
        a, b = (accent[x // EIGHTH :: 8] for x in (line, line + 48))
        apart = (a.mean() - b.mean()) / np.sqrt(a.var() / len(a) + b.var() / len(b) + 1e-9)
        if abs(apart) > 3.0:
            return 96, line if apart > 0 else line + 48
    return bar, line
