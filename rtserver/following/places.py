"""Places in a score as musicians name them, and the quarters that they are at."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rtserver.errors import ScoreError

if TYPE_CHECKING:
    from rtserver.following.score import Score

NEAR = 1e-9


class Place(NamedTuple):
    """A place in the score.

    Attributes
    ----------
    quarter : float
        On the axis of the unfolded score.
    written_quarter : float
        On the axis of the score as printed.
    bar : str
        Number of the bar as printed.
    beat : float
        Beat in the bar, in the metre's beats, 1 at its beginning; a pick-up counts as the end of a bar.
    mark : str
        The rehearsal mark passed last; empty before the first.
    time : int
        For the how many-th time this stretch of the score is played, from 1.
    stretch : int
        Which stretch of `Score.segments` it is.
    """

    quarter: float
    written_quarter: float
    bar: str
    beat: float
    mark: str
    time: int
    stretch: int


def place_at(score: Score, quarter: float) -> Place:
    """The place at `quarter`. Before the score it is the first bar's, after it the last's, with beats that run on."""
    quarter = float(quarter)
    q = quarter + NEAR
    k = max(int(np.searchsorted(score.segments[:, 2], q, side="right")) - 1, 0)
    bar = max(int(np.searchsorted(score.bar_quarter, q, side="right")) - 1, 0)
    mark = int(np.searchsorted(score.mark_quarter, q, side="right")) - 1
    node = score.stretch_node[: k + 1] if len(score.stretch_node) else np.zeros(1, np.int32)
    return Place(
        quarter=quarter,
        written_quarter=float(score.segments[k, 0] + quarter - score.segments[k, 2]),
        bar=_text(score, bar),
        beat=1.0 + (float(quarter - score.bar_quarter[bar]) + _into(score, bar)) * _beats_a_quarter(score, bar),
        mark=score.mark_text[mark] if mark >= 0 else "",
        time=int(np.count_nonzero(node == node[-1])),
        stretch=k,
    )


def quarter_of_bar(score: Score, number: int | str, beat: float = 1.0, time: int = 1) -> float:
    """The quarter of `beat` of the bar printed as `number`, where it is played for the `time`-th time. Raises `ScoreError`."""
    wanted = str(number).strip()
    n = len(score.bar_quarter)
    bars = [i for i in range(n) if _text(score, i) == wanted]
    if not bars:
        texts = list(dict.fromkeys(_text(score, i) for i in range(n)))
        near = get_close_matches(wanted, texts, n=1)
        remedy = f"; did you mean {near[0]!r}?" if near else ""
        raise ScoreError(f"no bar {wanted!r}: the bars are numbered {_range(texts)}{remedy}")
    stops = np.append(score.bar_quarter[1:], max(score.length_quarter, _end(score)))
    found: list[float] = []
    spans: list[str] = []
    for i in bars:
        rate = _beats_a_quarter(score, i)
        at = float(score.bar_quarter[i]) + (beat - 1.0) / rate - _into(score, i)
        if score.bar_quarter[i] - NEAR <= at < stops[i] - NEAR:
            found.append(at)
        last = 1.0 + (float(stops[i] - score.bar_quarter[i]) + _into(score, i)) * rate
        spans.append(f"{1.0 + _into(score, i) * rate:g} to below {last:g}")
    if not found:
        raise ScoreError(f"no beat {beat:g} in bar {wanted!r}: its beats go from {' or '.join(dict.fromkeys(spans))}")
    return _time(found, time, f"bar {wanted!r} beat {beat:g}")


def quarter_of_mark(score: Score, text: str, time: int = 1) -> float:
    """The quarter of the rehearsal mark `text`, where it is passed for the `time`-th time. Raises `ScoreError`."""
    wanted = text.strip()
    found = [float(q) for q, t in zip(score.mark_quarter, score.mark_text, strict=True) if t == wanted]
    if not found:
        found = [float(q) for q, t in zip(score.mark_quarter, score.mark_text, strict=True) if t.casefold() == wanted.casefold()]
    if not found:
        known = ", ".join(repr(t) for t in list(dict.fromkeys(score.mark_text))[:40])
        raise ScoreError(f"no rehearsal mark {wanted!r}: {f'the score has {known}' if known else 'the score has none; name a bar instead'}")
    return _time(found, time, f"rehearsal mark {wanted!r}")


def _time(found: list[float], time: int, name: str) -> float:
    if not 1 <= time <= len(found):
        times = "once" if len(found) == 1 else f"{len(found)} times"
        raise ScoreError(f"{name} is played {times}, there is no time {time}: count from 1")
    return found[time - 1]


def _text(score: Score, bar: int) -> str:
    return score.bar_text[bar] if score.bar_text else str(int(score.bar_number[bar]))


def _into(score: Score, bar: int) -> float:
    return float(score.bar_into[bar]) if len(score.bar_into) else 0.0


def _beats_a_quarter(score: Score, bar: int) -> float:
    at = np.float64(score.bar_quarter[bar] + NEAR)
    k = max(int(np.searchsorted(score.metre_quarter, at, side="right")) - 1, 0)
    return float(score.metre[k, 1]) / 4.0


def _end(score: Score) -> float:
    """Where the last stretch ends."""
    last = score.segments[-1]
    return float(last[2] + last[1] - last[0])


def _range(texts: list[str]) -> str:
    """Bar numbers in a few words."""
    return ", ".join(texts) if len(texts) <= 12 else f"{', '.join(texts[:3])} ... {', '.join(texts[-2:])}"
