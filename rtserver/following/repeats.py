"""From repeat signs to the order in which a score is played.

A player is walked through the signs: every repeat is taken, every ending played, every leap made once, and after a leap the repeats are
taken again (the *maximal* unfolding). Repeats nest: a sign goes back to the latest forward sign that is still open, or else to the end
of the repeat before, as printed music has it. What contradicts itself is left out, and said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from rtserver.following.written import MAX_SIGNS, Sign

NEXT, REPEAT, ENDING, DA_CAPO, DAL_SEGNO, CODA = range(6)
EDGES = ("next", "repeat", "ending", "da capo", "dal segno", "coda")
MAX_STRETCHES = 4096
NEAR = 1e-9


class _Endless(Exception):
    """The signs lead round and round."""


@dataclass(frozen=True, slots=True)
class Way:
    """The folded score and the way through it.

    Attributes
    ----------
    nodes : list of (start, end)
        Written stretches between signs, in order, without gaps.
    path : list of int
        Indices of the nodes, in the order in which they are played.
    edges : list of (from, to, kind)
        Where a player may go on after a node; kinds index `EDGES`.
    warnings : list of str
    """

    nodes: list[tuple[float, float]]
    path: list[int]
    edges: list[tuple[int, int, int]]
    warnings: list[str]


@dataclass(slots=True)
class _Group:
    """Endings that stand side by side, and where to go back to between them."""

    endings: list[Sign]
    back: float = 0.0
    closed: bool = False

    @property
    def start(self) -> float:
        return self.endings[0].at

    @property
    def end(self) -> float:
        return self.endings[-1].end

    @property
    def passes(self) -> int:
        """How often it is gone through. A single bracket over a repeat is left out the last time."""
        most = max(n for ending in self.endings for n in ending.numbers)
        return most + 1 if len(self.endings) == 1 and self.closed else most


@dataclass(slots=True)
class _Signs:
    """The signs, paired: repeats by where they end, endings in groups."""

    loops: dict[float, tuple[float, int]] = field(default_factory=dict[float, tuple[float, int]])
    groups: list[_Group] = field(default_factory=list[_Group])
    leaps: list[Sign] = field(default_factory=list[Sign])
    warnings: list[str] = field(default_factory=list[str])


def unfold(signs: list[Sign], end: float) -> Way:
    """The order in which a score that is `end` quarters long is played."""
    # A bracket over nothing, at the very end, is no ending.
    inside = [s for s in signs if (0.0 <= s.at < end if s.kind == "ending" else -NEAR <= s.at <= end + NEAR)]
    excess = len(inside) > MAX_SIGNS
    if excess:
        inside = []
    paired = _pair(inside)
    if excess:
        paired.warnings.append(f"it has more than {MAX_SIGNS} repeat signs; it is followed as written")
    bounds = {0.0, end} | {s.at for s in inside} | {s.end for s in inside if s.kind == "ending" and s.end < end}
    ordered = sorted(b for b in bounds if 0.0 <= b <= end)
    nodes = list(pairwise(ordered))
    try:
        path, taken = _walk(nodes, paired, end)
    except _Endless:
        paired.warnings.append(f"its repeat signs lead through more than {MAX_STRETCHES} stretches; it is followed as written")
        path, taken = list(range(len(nodes))), []
    return Way(nodes, path, sorted(set(taken) | _straight_on(nodes, paired)), paired.warnings)


def _pair(signs: list[Sign]) -> _Signs:
    """Which sign belongs to which."""
    found = _Signs(groups=_groups([s for s in signs if s.kind == "ending"]))
    events: list[tuple[float, int, Sign | _Group]] = [(s.at, 0, s) for s in signs if s.kind == "backward"]
    events += [(g.end, 1, g) for g in found.groups]
    events += [(s.at, 2, s) for s in signs if s.kind == "forward"]
    events += [(g.start, 3, g) for g in found.groups]
    opened: list[float] = []
    closed = 0.0
    for at, order, thing in sorted(events, key=lambda e: e[:2]):
        if isinstance(thing, _Group):
            if order == 3:
                thing.back = opened[-1] if opened else closed
            else:
                closed = at
                if opened and opened[-1] == thing.back:
                    opened.pop()
            continue
        if order == 2:
            if at not in opened:
                opened.append(at)
            continue
        around = next(
            (g for g in found.groups for e in g.endings if e.at < at <= e.end + NEAR and not (opened and opened[-1] >= e.at)), None
        )
        if around is not None:
            around.closed = True
            continue
        start = opened.pop() if opened else closed
        if start < at and at not in found.loops:
            found.loops[at] = (start, thing.times)
            closed = at
    for start in opened:
        found.warnings.append(f"a repeat that opens {start:g} quarters from the beginning is never closed; it is played once")
    _keep_leaps(found, signs)
    return found


def _keep_leaps(found: _Signs, signs: list[Sign]) -> None:
    """The leaps that lead somewhere."""
    for sign in sorted((s for s in signs if s.kind in ("dacapo", "dalsegno", "tocoda", "fine")), key=lambda s: s.at):
        aim = {"dalsegno": "segno", "tocoda": "coda"}.get(sign.kind)
        target = _target(sign, signs)
        if aim is None:
            found.leaps.append(sign)
        elif target is None:
            found.warnings.append(f"a leap {sign.at:g} quarters from the beginning has no {aim} to go to; it is left out")
        else:
            found.leaps.append(Sign(sign.kind, sign.at, sign.name, end=target, aim=sign.aim))


def _target(sign: Sign, signs: list[Sign]) -> float | None:
    """Where a D.S. or a To Coda leads: to the sign of its name, else to the nearest on its side."""
    kind = {"dalsegno": "segno", "tocoda": "coda"}.get(sign.kind)
    places = [s for s in signs if s.kind == kind]
    named = [s.at for s in places if s.name == sign.name] or [s.at for s in places]
    if sign.kind == "dalsegno":
        return max((at for at in named if at < sign.at - NEAR), default=None)
    return min((at for at in named if at > sign.at - NEAR), default=None)


def _groups(endings: list[Sign]) -> list[_Group]:
    groups: list[_Group] = []
    for ending in sorted(endings, key=lambda e: (e.at, e.end)):
        if ending.end <= ending.at or not ending.numbers:
            continue
        last = groups[-1] if groups else None
        known = {n for e in last.endings for n in e.numbers} if last else set[int]()
        if last and ending.at < last.end - NEAR:  # one bracket over another
            continue
        if last and ending.at - last.end < NEAR and not known & set(ending.numbers):
            last.endings.append(ending)
        else:
            groups.append(_Group([ending]))
    return groups


def _walk(nodes: list[tuple[float, float]], signs: _Signs, end: float) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Play it: the nodes in order, and the jumps that were made."""
    index = {start: i for i, (start, _) in enumerate(nodes)}
    begins = {g.start: g for g in signs.groups}
    within = {e.end: (g, e) for g in signs.groups for e in g.endings}
    played: dict[float, int] = {}  # of a repeat, by where it ends
    passes: dict[float, int] = {}  # of a group of endings, by where it begins
    fired: set[int] = set()
    aim: str | None = None  # None: no leap was made yet
    path: list[int] = []
    edges: list[tuple[int, int, int]] = []

    def forget(start: float, stop: float) -> None:
        """What lies within a stretch that is played again begins anew."""
        for at in [at for at, (back, _) in signs.loops.items() if at < stop and back >= start]:
            played.pop(at, None)
        for g in signs.groups:
            if start <= g.back and g.end < stop:
                passes.pop(g.start, None)

    def onward(at: float) -> tuple[float, int] | None:
        """Where to go from a boundary: (place, kind of edge), or None at the end."""
        nonlocal aim
        kind = NEXT
        if at in within and nodes[path[-1]][0] >= within[at][1].at - NEAR:
            group, _ = within[at]
            done = passes.get(group.start, 1)
            if done < group.passes:
                passes[group.start] = done + 1
                forget(group.back, group.start)
                return group.back, REPEAT
            passes.pop(group.start, None)
            kind = ENDING if group.end > at else NEXT
            at = group.end
        while True:
            if at in signs.loops:
                back, times = signs.loops[at]
                if played.get(at, 1) < times:
                    played[at] = played.get(at, 1) + 1
                    forget(back, at)
                    return back, REPEAT
                played.pop(at, None)
            for i, leap in enumerate(signs.leaps):
                if leap.at != at or i in fired:
                    continue
                if leap.kind in ("dacapo", "dalsegno"):
                    fired.add(i)
                    aim = leap.aim
                    played.clear()
                    passes.clear()
                    return (0.0, DA_CAPO) if leap.kind == "dacapo" else (leap.end, DAL_SEGNO)
                if leap.kind == "tocoda" and aim in ("", "coda"):
                    fired.add(i)
                    return leap.end, CODA
                if leap.kind == "fine" and aim in ("", "fine"):
                    return None
            if at >= end:
                return None
            group = begins.get(at)
            if group is None:
                return at, kind
            turn = passes.setdefault(group.start, 1)
            chosen = next((e for e in group.endings if turn in e.numbers), None)
            if chosen is not None:
                return chosen.at, NEXT if chosen.at == at and kind == NEXT else ENDING
            if turn < group.passes:  # a number that is missing: the nearest ending stands in
                return group.start, kind
            passes.pop(group.start, None)
            at, kind = group.end, ENDING

    place: float = 0.0
    while True:
        path.append(index[place])
        if len(path) > MAX_STRETCHES:
            raise _Endless
        step = onward(nodes[path[-1]][1])
        if step is None or step[0] >= end:
            return path, edges
        edges.append((path[-1], index[step[0]], step[1]))
        place = step[0]


def _straight_on(nodes: list[tuple[float, float]], signs: _Signs) -> set[tuple[int, int, int]]:
    """Edges of a player who makes no jump; from an ending, past those beside it; from what leads to endings, into each of them."""
    index = {start: i for i, (start, _) in enumerate(nodes)}
    edges: set[tuple[int, int, int]] = set()
    leaving = {e.end: g.end for g in signs.groups for e in g.endings}
    for i, (_, at) in enumerate(nodes):
        goal = leaving.get(at, at)
        if goal in index:
            edges.add((i, index[goal], NEXT if goal == at else ENDING))
        for group in signs.groups:
            if group.start == at:
                edges |= {(i, index[e.at], NEXT if e.at == at else ENDING) for e in group.endings}
    return edges


def skips(nodes: list[tuple[float, float]], path: list[int]) -> list[tuple[float, float]]:
    """Quarters (source, target), on the axis of the unfolded score from its beginning: what leaving out one jump back leaves out."""
    starts = [0.0]
    for k in path:
        starts.append(starts[-1] + nodes[k][1] - nodes[k][0])
    found: set[tuple[float, float]] = set()
    for i in range(len(path) - 1):
        if path[i + 1] > path[i] or path[i + 1] not in path[: i + 1]:
            continue
        # The loop is path[first:i + 1]. What follows begins like it, all of it or up to an ending: that is played once.
        first = i - path[i::-1].index(path[i + 1])
        common = 0
        while first + common <= i and i + 1 + common < len(path) and path[first + common] == path[i + 1 + common]:
            common += 1
        if i + 1 + common < len(path):  # leaving the last pass out means to stop: nothing is left to follow
            found.add((starts[first + common], starts[i + 1 + common]))
    return sorted(found)
